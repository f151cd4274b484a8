//! Leaders that are lost, that are not there, and what waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use etcdrs_raft_glue::{ChangeError, Config, Membership, ProposeError, ReadError, Status};
use etcdrs_types::MemberId;
use tokio::task::JoinSet;

use crate::common::{block_on, put};
use crate::members::{Cluster, PATIENCE, QUIET, within};

/// R10: a request that a leader took with it into its isolation is given up, and is in nobody's
/// log in the end.
#[test]
fn r_10_what_a_lost_leader_took_has_no_known_outcome() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let follower = cluster.other_than(&[leader]);
        assert_eq!(cluster.put(follower, "a").await, 2);
        cluster.switch.mute(leader, true);
        let lost = within(cluster.handle(follower).propose(put("b"))).await;
        assert_eq!(lost.map(drop), Err(ProposeError::OutcomeUnknown));
        cluster.leader(follower, Some(leader)).await;
        assert_eq!(cluster.put(follower, "c").await, 3);
        cluster.switch.mute(leader, false);
        assert_eq!(cluster.equal().await, 3);
        cluster.end().await;
    });
}

/// R12: proposals wait while nobody leads, and do not keep a member from hearing of a leader.
#[test]
fn r_12_proposals_wait_while_there_is_no_leader() {
    const COUNT: i64 = 300;
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let alone = cluster.other_than(&[leader]);
        cluster.switch.isolate(alone, true);
        cluster.leaderless(alone).await;
        let mut waiting = JoinSet::new();
        for i in 0..COUNT {
            let handle = cluster.handle(alone).clone();
            waiting.spawn(async move { handle.propose(put(&format!("k{i}"))).await });
        }
        let early = tokio::time::timeout(QUIET, waiting.join_next()).await;
        assert!(early.is_err(), "ended without a leader: {early:?}");
        cluster.switch.isolate(alone, false);
        while let Some(done) = within(waiting.join_next()).await {
            done.expect("no panic").expect("applied");
        }
        assert_eq!(cluster.equal().await, 1 + COUNT, "each once");
        cluster.end().await;
    });
}

/// R21: a read that waits for a leader that is lost ends with the news.
#[test]
fn r_21_reads_that_wait_for_a_lost_leader_are_told() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let follower = cluster.other_than(&[leader]);
        cluster.switch.mute(leader, true);
        let reads = (0..50).map(|_| cluster.handle(follower).read_barrier());
        let told = within(futures_util::future::join_all(reads)).await;
        assert!(told.iter().all(|end| *end == Err(ReadError::LeaderChanged)), "{told:?}");
        cluster.switch.mute(leader, false);
        cluster.equal().await;
        cluster.end().await;
    });
}

/// R11: of two changes that were based on the same membership, one happens.
#[test]
fn r_11_of_two_changes_at_once_one_happens() {
    block_on(async {
        let cluster = Cluster::of(1).await;
        let member = MemberId(1);
        cluster.leader(member, None).await;
        // A leader changes nothing before it has committed an entry of its term.
        cluster.put(member, "a").await;
        let handle = cluster.handle(member);
        let old = handle.membership();
        let with = |id| Membership { learners: [MemberId(id)].into(), ..Membership::clone(&old) };
        let (second, third) = tokio::join!(
            within(handle.change_members(with(2), &old, Bytes::new())),
            within(handle.change_members(with(3), &old, Bytes::new())),
        );
        let raced = [&second, &third].map(|end| matches!(end, Err(ChangeError::Raced)));
        assert!(raced[0] != raced[1], "{second:?}, {third:?}");
        let won = if raced[1] { 2 } else { 3 };
        let now = handle.membership();
        assert_eq!(now.learners, [MemberId(won)].into());
        let both = Membership { learners: [2, 3].map(MemberId).into(), ..Membership::clone(&now) };
        within(handle.change_members(both, &now, Bytes::new())).await.expect("changed");
        cluster.end().await;
    });
}

/// U24: whoever goes on alone drops what was not known to be committed.
#[test]
fn u_24_a_forced_member_drops_what_was_not_committed() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        assert_eq!(cluster.put(leader, "a").await, 2);
        assert_eq!(cluster.equal().await, 2);
        cluster.switch.isolate(leader, true);
        let handle = cluster.handle(leader).clone();
        let uncommitted = handle.propose(put("b"));
        assert!(tokio::time::timeout(QUIET, uncommitted).await.is_err(), "committed alone");
        let status = handle.status();
        assert!(status.last > status.committed, "{status:?}");
        drop(handle);
        for id in (1..=3).map(MemberId) {
            cluster.stop(id).await;
        }
        cluster.start_with(leader, &[], |config| Config { force_new: true, ..config }).await;
        assert_eq!(cluster.revision(leader).await, 2);
        assert_eq!(cluster.handle(leader).membership().voters, [leader].into());
        assert_eq!(cluster.put(leader, "c").await, 3);
        cluster.stop(leader).await;
        cluster.start(leader, &[]).await;
        assert_eq!(cluster.revision(leader).await, 3);
        assert_eq!(cluster.put(leader, "d").await, 4);
        cluster.end().await;
    });
}

/// U33: a database that gets stuck on its way to one member holds nobody else up.
#[test]
fn u_33_a_stuck_snapshot_holds_nobody_up() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let away = cluster.other_than(&[leader]);
        let third = cluster.other_than(&[leader, away]);
        let mut revision = cluster.hold_snapshot(leader, away).await;
        for i in 0..200 {
            revision = cluster.put(third, &format!("meanwhile{i}")).await;
            assert_eq!(cluster.revision(leader).await, revision);
        }
        assert_eq!(cluster.handle(third).status().leader, Some(leader));
        cluster.switch.stall(away, false);
        assert_eq!(cluster.equal().await, revision);
        cluster.end().await;
    });
}

/// R18, R24: the status may be read from any thread, and only ever advances.
#[test]
fn r_18_r_24_the_status_advances_for_readers_on_other_threads() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let end = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        for member in cluster.members.values() {
            let (handle, end) = (member.handle.clone(), Arc::clone(&end));
            readers.push(std::thread::spawn(move || {
                let (mut last, mut changes) = (Status::default(), 0);
                while !end.load(Ordering::Relaxed) {
                    let now = handle.status();
                    assert!(now.term >= last.term, "{last:?}, {now:?}");
                    assert!(now.committed >= last.committed, "{last:?}, {now:?}");
                    assert!(now.applied >= last.applied, "{last:?}, {now:?}");
                    changes += usize::from(now != last);
                    last = now;
                    std::thread::yield_now();
                }
                changes
            }));
        }
        for i in 0..60 {
            cluster.put(leader, &format!("k{i}")).await;
        }
        let next = cluster.other_than(&[leader]);
        within(cluster.handle(leader).transfer_leader(next, PATIENCE)).await.expect("handed over");
        for i in 0..60 {
            cluster.put(leader, &format!("l{i}")).await;
        }
        end.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no reader panics") > 20, "it saw too little");
        }
        // A start goes on from the database, before anybody says anything.
        cluster.stop(leader).await;
        cluster.switch.isolate(leader, true);
        cluster.start(leader, &[]).await;
        assert!(cluster.handle(leader).status().applied.0 > 50);
        cluster.switch.isolate(leader, false);
        assert_eq!(cluster.equal().await, 121);
        cluster.end().await;
    });
}
