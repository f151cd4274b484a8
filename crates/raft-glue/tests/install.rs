//! A member crashes at every step of the installation of a database, and starts again.
//!
//! Failpoints are for the whole process, so this is a program of its own.
#![allow(dead_code, reason = "the members are those of the tests in `cluster`")]

mod common;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/switch.rs"]
mod switch;

use std::time::Duration;

use etcdrs_platform::failpoint::{self, Action};
use etcdrs_raft_glue::ProposeError;
use etcdrs_types::MemberId;

use crate::common::{block_on, put};
use crate::members::{Cluster, within};

/// From the last byte of the database on, in the order in which a receiver passes them.
const STEPS: [&str; 11] = [
    "raft-before-keep-snap",
    "raft-after-keep-snap",
    "raft-before-apply-snap",
    "raft-before-open-snap",
    "raft-after-open-snap",
    "raft-before-snapshot-mark",
    "raft-after-snapshot-mark",
    "snap-before-db-switch",
    "snap-after-db-switch",
    "raft-before-replace",
    "raft-after-apply-snap",
];

/// Puts a key, again if the leader was lost: a start takes the thread that all members share.
async fn write(cluster: &Cluster, at: MemberId, key: &str) -> i64 {
    loop {
        match within(cluster.handle(at).propose(put(key))).await {
            Ok(committed) => return committed.outcome.revision,
            Err(ProposeError::OutcomeUnknown) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// R35, R36, R37: whatever step the crash comes at, the next start finds a legal state: the old
/// database or the new one, a log that goes with it, and a commit that the log can hold. It goes on
/// to the same data as the others.
#[test]
fn r_35_r_36_a_crash_at_any_step_of_an_installation() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let mut revision = 1;
        for step in STEPS {
            let leader = cluster.settled().await;
            let away = cluster.other_than(&[leader]);
            cluster.switch.isolate(away, true);
            let last = cluster.handle(away).status().last.0;
            // Far enough that what it lacks is in nobody's log.
            let end = revision + 200;
            while revision < end || cluster.handle(leader).log_cache().entries > 150 {
                revision = write(&cluster, leader, &format!("k{revision}")).await;
                assert!(revision < end + 20_000, "{:?}", cluster.handle(leader).log_cache());
            }
            assert!(cluster.handle(leader).status().last.0 > last + 150);
            failpoint::set(step, Action::Panic);
            cluster.switch.isolate(away, false);
            let struck = async {
                while failpoint::places()
                    .iter()
                    .all(|(name, place)| name != step || place.struck == 0)
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            assert!(
                tokio::time::timeout(members::PATIENCE, struck).await.is_ok(),
                "nobody passed {step}"
            );
            failpoint::clear();
            cluster.stop(away).await;
            let voters: Vec<MemberId> = (1..=3).map(MemberId).collect();
            within(cluster.start(away, &voters)).await;
            assert_eq!(cluster.equal().await, revision, "after {step}");
            revision = write(&cluster, away, &format!("after {step}")).await;
        }
        assert_eq!(cluster.equal().await, revision);
        cluster.end().await;
    });
}
