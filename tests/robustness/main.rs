//! Clusters under load and faults for a short while, with fixed seeds. What a seed fixes are the
//! requests and the faults; where they meet is the machine's doing. Long runs, other seeds and
//! other faults: `cargo xtask robustness --minutes 30 --seed 7`.

use std::time::Duration;

use etcdrs_tests::robustness::faults::ALL;
use etcdrs_tests::robustness::net::Layer;
use etcdrs_tests::robustness::net::namespaces::Namespaces;
use etcdrs_tests::robustness::run::{RunOptions, run};
use etcdrs_tests::robustness::traffic::Traffic;
use etcdrs_tests::target;

async fn clean(members: usize, seed: u64, seconds: u64, layer: Layer) {
    let options = RunOptions {
        members,
        seed,
        duration: Duration::from_secs(seconds),
        faults: ALL.to_vec(),
        traffic: Traffic::default(),
        layer,
        target: target::under_test(),
        folder: None,
    };
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
    clean(1, 1, 8, Layer::Proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members() {
    clean(3, 2, 15, Layer::Proxy).await;
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
    clean(3, 3, 10, Layer::Namespaces).await;
}
