//! Runs a cluster under load and faults for as long as wanted, and checks what it promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcdrs_tests::robustness::check::check;
use etcdrs_tests::robustness::failpoints;
use etcdrs_tests::robustness::faults::{self, Kind};
use etcdrs_tests::robustness::net::Layer;
use etcdrs_tests::robustness::report;
use etcdrs_tests::robustness::run::{Report, RunOptions, not_passed, run, target_at};
use etcdrs_tests::robustness::traffic::Traffic;
use etcdrs_tests::target::{self, Flavour, Target};

const HELP: &str = "\
usage: cargo xtask robustness [options]

  --minutes N, --seconds N   how long in all (default 60 seconds)
  --round N        seconds of a round (default 60): each has a fresh cluster and the next seed, so
                   that every failure is replayed in short
  --seed S         the first seed (default 1)
  --members N      members of the cluster (default 3)
  --faults a,b     which may happen (default all that apply), or none for load alone: kill, restart,
                   pause, partition, ring, oneway, delay, reorder, slow, damage, reset, clients,
                   transfer, membership; with failpoints slowdisk, faildisk, step
  --layer L        proxy (default): one of ours on each directed path; namespaces: cuts drop real
                   packets (needs root and ip)
  --tls yes        members talk to each other by TLS (--peer-auto-tls)
  --clients N, --rate N, --watchers N   the load; rate is calls a second of one client
  --binary PATH    the server (default: ours, built when needed, with failpoints if a fault needs
                   them); a real etcd will do
  --release yes    builds ours optimised
  --folder DIR     where the record of a bad round goes (default: a temporary folder)
  --check DIR      judges a record again instead of running
";

struct Options {
    seconds: u64,
    round_seconds: u64,
    run: RunOptions,
    check: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut args = std::env::args().skip(1);
    let (mut seconds, mut round_seconds, mut seed, mut members) = (60, 60, 1, 3);
    let mut kinds: Vec<Kind> = faults::ALL.to_vec();
    let mut traffic = Traffic::default();
    let mut layer = Layer::Proxy;
    let (mut binary, mut folder, mut check) = (None, None, None);
    let (mut peer_tls, mut release) = (false, false);
    while let Some(flag) = args.next() {
        if flag == "--help" || flag == "-h" {
            print!("{HELP}");
            std::process::exit(0);
        }
        let value = args.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--minutes" => seconds = value.parse::<u64>()? * 60,
            "--seconds" => seconds = value.parse()?,
            "--round" => round_seconds = value.parse()?,
            "--seed" => seed = value.parse()?,
            "--members" => members = value.parse()?,
            "--faults" if value == "none" => kinds.clear(),
            "--faults" => kinds = value.split(',').map(str::parse).collect::<Result<_>>()?,
            "--clients" => traffic.clients = value.parse()?,
            "--rate" => traffic.calls_per_second = value.parse()?,
            "--watchers" => traffic.watchers = value.parse()?,
            "--layer" => {
                layer = match value.as_str() {
                    "proxy" => Layer::Proxy,
                    "namespaces" => Layer::Namespaces,
                    other => bail!("unknown layer {other}; there are proxy, namespaces"),
                }
            }
            "--tls" => peer_tls = yes(&value)?,
            "--release" => release = yes(&value)?,
            "--binary" => binary = Some(PathBuf::from(value)),
            "--folder" => folder = Some(PathBuf::from(value)),
            "--check" => check = Some(PathBuf::from(value)),
            other => bail!("unknown flag {other}\n{HELP}"),
        }
    }
    let target = match binary {
        Some(path) => target_at(path)?,
        None if check.is_some() => target::etcd(),
        None if release || kinds.iter().any(|kind| kind.needs_failpoints()) => {
            Target { binary: failpoints::build(release)?, flavour: Flavour::Current }
        }
        None => target::under_test(),
    };
    let run = RunOptions {
        members,
        seed,
        duration: Duration::from_secs(seconds.min(round_seconds)),
        faults: kinds,
        traffic,
        layer,
        failpoints: check.is_none() && failpoints::has_failpoints(&target.binary),
        peer_tls,
        target,
        folder,
    };
    Ok(Options { seconds, round_seconds, run, check })
}

fn yes(value: &str) -> Result<bool> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => bail!("yes or no, not {other}"),
    }
}

/// Tells of a round; whether it was good.
fn tell(report: &Report) -> bool {
    let faults: Vec<String> = report.faults.iter().map(|(k, n)| format!("{k} {n}")).collect();
    println!("  layers: {}\n  faults: {}", report.layers.join(", "), faults.join(", "));
    if !report.left_out.is_empty() {
        let left_out: Vec<String> = report.left_out.iter().map(ToString::to_string).collect();
        println!("  not possible here: {}", left_out.join(", "));
    }
    println!("  {}", report.verdict.counts);
    let enough = report.verdict.counts.is_enough();
    if !report.is_clean() {
        println!("{}\n  again: {}", report.explanation, report.replay);
    } else if !enough {
        println!("  TOO LITTLE to judge by: most calls did not get through");
    }
    if let Some(folder) = &report.folder {
        println!("  record: {}", folder.display());
    }
    report.is_clean() && enough
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut options = options()?;
    if let Some(folder) = &options.check {
        let history = report::load(folder)?;
        let verdict = check(&history);
        println!("{}\n{}", verdict.counts, verdict.explain(&history, 10));
        return Ok(ExitCode::from(u8::from(!verdict.is_clean())));
    }
    let rounds = options.seconds.div_ceil(options.round_seconds.max(1)).max(1);
    let (mut bad, mut done, mut passed) = (0, BTreeMap::new(), BTreeSet::new());
    for round in 0..rounds {
        println!("round {} of {rounds}, seed {}", round + 1, options.run.seed);
        match run(&options.run).await {
            Ok(report) => {
                bad += u32::from(!tell(&report));
                passed.extend(report.passed);
                for (kind, count) in report.faults {
                    *done.entry(kind).or_insert(0) += count;
                }
            }
            Err(error) => {
                bad += 1;
                println!("  NOT RUN: {error:#}");
            }
        }
        options.run.seed += 1;
    }
    let done: Vec<String> = done.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!("faults in all: {}", done.join(", "));
    if options.run.failpoints {
        println!("steps passed: {}; not: {}", passed.len(), not_passed(&passed).join(", "));
    }
    println!("{rounds} rounds, {bad} with violations, or nothing to judge by");
    Ok(ExitCode::from(u8::from(bad > 0)))
}
