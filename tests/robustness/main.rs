//! Clusters under load and faults for a short while, with fixed seeds. What a seed fixes are the
//! requests and the faults; where they meet is the machine's doing. Long runs, other seeds and
//! other faults: `cargo xtask robustness --minutes 30 --seed 7`.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod slow_disk;

use std::sync::OnceLock;
use std::time::Duration;

use etcdrs_tests::robustness::failpoints;
use etcdrs_tests::robustness::faults::{ALL, Kind};
use etcdrs_tests::robustness::net::Layer;
use etcdrs_tests::robustness::net::namespaces::Namespaces;
use etcdrs_tests::robustness::run::{RunOptions, run};
use etcdrs_tests::robustness::traffic::Traffic;
use etcdrs_tests::target::{self, Flavour, TARGET_VARIABLE, Target};

/// Ours with failpoints, unless another server is to be tested.
fn server() -> Target {
    static SERVER: OnceLock<Target> = OnceLock::new();
    let built = SERVER.get_or_init(|| match std::env::var_os(TARGET_VARIABLE) {
        Some(_) => target::under_test(),
        None => Target { binary: failpoints::build(false).unwrap(), flavour: Flavour::Current },
    });
    built.clone()
}

/// Three members for some seconds; a test says what it has other than that.
fn options(seed: u64, seconds: u64) -> RunOptions {
    let target = server();
    RunOptions {
        members: 3,
        seed,
        duration: Duration::from_secs(seconds),
        faults: ALL.to_vec(),
        traffic: Traffic::default(),
        layer: Layer::Proxy,
        failpoints: failpoints::has_failpoints(&target.binary),
        peer_tls: false,
        target,
        folder: None,
    }
}

async fn clean(options: RunOptions) {
    let report = run(&options).await.unwrap_or_else(|error| panic!("{error:#}"));
    println!("layers: {}", report.layers.join(", "));
    println!("faults: {:?}\n{}", report.faults, report.verdict.counts);
    assert!(
        report.is_clean(),
        "{}\nrecord: {:?}\nagain: {}",
        report.explanation,
        report.folder,
        report.replay
    );
    let counts = report.verdict.counts;
    assert!(counts.is_enough(), "too little to judge by: {counts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member() {
    clean(RunOptions { members: 1, ..options(1, 8) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    clean(options(18, 15)).await;
}

/// Steps, disks and members that come and go, by encrypted links.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_and_their_disks() {
    let faults = vec![Kind::Step, Kind::FailDisk, Kind::SlowDisk, Kind::Membership];
    clean(RunOptions { faults, peer_tls: true, ..options(22, 12) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_in_namespaces() {
    // Looked at first, so that a cluster that cannot start is not taken for a machine that cannot.
    match Namespaces::create(1) {
        Ok(probe) => drop(probe),
        Err(error) => {
            println!("NOT RUN, no network namespaces here: {error:#}");
            return;
        }
    }
    clean(RunOptions { layer: Layer::Namespaces, ..options(3, 10) }).await;
}
