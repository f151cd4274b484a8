//! Stopping in the middle of work.

use etcdrs_raft_glue::ProposeError;
use etcdrs_types::MemberId;
use tokio::task::JoinSet;

use crate::common::{block_on, put};
use crate::members::{Cluster, within};

/// R17, R25: a stop under load ends, everybody who waited is told something, and what was
/// acknowledged is there.
#[test]
fn r_17_r_25_a_stop_under_load_answers_everybody() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let voters: Vec<MemberId> = (1..=3).map(MemberId).collect();
        let mut calls = JoinSet::new();
        for i in 0..600 {
            let at = if i % 3 == 0 { cluster.other_than(&[leader]) } else { leader };
            let handle = cluster.handle(at).clone();
            calls.spawn(async move { handle.propose(put(&format!("k{i}"))).await });
        }
        let mut ends = Vec::new();
        while ends.len() < 30 {
            ends.extend(within(calls.join_next()).await);
        }
        within(cluster.stop(leader)).await;
        while let Some(end) = within(calls.join_next()).await {
            ends.push(end);
        }
        assert_eq!(ends.len(), 600);
        let mut acknowledged = 0;
        for end in ends {
            match end.expect("no panic") {
                Ok(_) => acknowledged += 1,
                Err(ProposeError::Stopped | ProposeError::OutcomeUnknown) => {}
                Err(error) => panic!("{error}"),
            }
        }
        cluster.start(leader, &voters).await;
        let revision = cluster.equal().await;
        assert!((1 + acknowledged..=601).contains(&revision), "{acknowledged}, {revision}");
        cluster.end().await;
    });
}
