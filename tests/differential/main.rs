//! Our server and a real etcd 3.5.1 get the same random requests; every answer, error code and
//! text must be equal. The seeds are fixed, so that a failure is one of a change and not of chance;
//! run the binary `differential` with other seeds to look for more.

use etcdrs_tests::differential;

const STEPS: usize = 2500;

async fn seed(seed: u64) {
    match differential::run_fresh(seed, STEPS).await {
        Ok(report) => {
            println!("seed {seed}: {report:?}");
            assert!(report.refused < report.requests / 2, "most requests are refused");
        }
        Err(error) => panic!("{error:#}"),
    }
}

#[tokio::test]
async fn seed_1() {
    seed(1).await;
}

#[tokio::test]
async fn seed_2() {
    seed(2).await;
}

#[tokio::test]
async fn seed_3() {
    seed(3).await;
}

#[tokio::test]
async fn seed_4() {
    seed(4).await;
}
