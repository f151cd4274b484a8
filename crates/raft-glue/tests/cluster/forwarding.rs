//! Requests that were sent to the leader and are waited for in the own log.

use etcdrs_raft_glue::ProposeError;

use crate::common::{block_on, put};
use crate::members::{Cluster, within};

/// An entry that comes as a part of a database is never met in the log: who waits for it is told
/// that nobody knows.
#[test]
fn a_request_whose_entry_came_with_the_database_is_given_up() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let away = cluster.other_than(&[leader]);
        cluster.switch.isolate(away, true);
        cluster.outgrow_log(leader).await;
        cluster.switch.stall(away, true);
        cluster.switch.isolate(away, false);
        let before = cluster.revision(leader).await;
        let handle = cluster.handle(away).clone();
        let waiting = tokio::spawn(async move { handle.propose(put("forwarded")).await });
        let taken = async {
            while cluster.revision(leader).await == before {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        within(taken).await;
        cluster.outgrow_log(leader).await;
        cluster.switch.stall(away, false);
        let outcome = within(waiting).await.expect("it does not panic");
        assert_eq!(outcome.map(drop), Err(ProposeError::OutcomeUnknown));
        cluster.equal().await;
        cluster.end().await;
    });
}
