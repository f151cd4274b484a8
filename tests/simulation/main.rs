//! Three members in one thread on virtual time: disks, network, crashes and randomness are drawn
//! from a seed, so that a run can be repeated step by step. The members are real: openraft, log,
//! store and watchers; the clients' requests enter where the server would put them.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod calls;
mod faults;
mod member;
mod network;
mod scribe;
mod trace;
mod world;

use std::time::Duration;

use world::{Plan, Report, simulate};

fn plan(seed: u64) -> Plan {
    Plan { seed, members: 3, clients: 5, load: Duration::from_secs(20), faults: true }
}

fn show(seed: u64, report: &Report) {
    println!(
        "seed {seed}: {}; {} faults, {} terms, {} installs, trace {:016x} of {} lines",
        report.verdict.counts,
        report.faults.len(),
        report.terms,
        report.installs,
        report.trace.0,
        report.trace.1,
    );
}

fn must_be_clean(seed: u64) -> Report {
    let report = simulate(plan(seed));
    show(seed, &report);
    assert!(
        report.verdict.is_clean(),
        "seed {seed}\n{}\n{}\nagain: cargo xtask simulate --seeds {seed} --trace FILE",
        report.faults.join("\n"),
        report.explanation
    );
    assert!(report.verdict.counts.is_enough(), "seed {seed}: too little to judge by");
    report
}

/// R02: elections, log matching and safety hold under loss, delay, restarts and power loss, for
/// the seeds that CI has time for.
#[test]
#[cfg_attr(not(tokio_unstable), ignore = "run by cargo xtask simulate")]
fn r_02_seeds_of_ci() {
    let reports: Vec<Report> = (1..=6).map(must_be_clean).collect();
    assert!(reports.iter().map(|report| report.installs).sum::<u64>() > 0, "no snapshot was sent");
    assert!(reports.iter().map(|report| report.terms).sum::<usize>() > 12, "too few elections");
}

/// A seed means the same run, to the microsecond and the byte.
#[test]
#[cfg_attr(not(tokio_unstable), ignore = "run by cargo xtask simulate")]
fn a_seed_is_one_run() {
    let run = |seed| simulate(Plan { load: Duration::from_secs(6), ..plan(seed) }).trace;
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
#[ignore = "run by cargo xtask simulate --seeds"]
fn chosen_seeds() {
    let seeds = std::env::var("ETCD_RS_TEST_SEEDS").unwrap_or("100..200".into());
    let parse = |number: &str| number.parse::<u64>().expect("a number");
    let (first, end) = match seeds.split_once("..") {
        Some((first, end)) => (parse(first), parse(end)),
        None => (parse(&seeds), parse(&seeds) + 1),
    };
    for seed in first..end {
        must_be_clean(seed);
    }
}
