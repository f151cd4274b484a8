//! What goes from member to member, and what waits on the way.

use etcdrs_raft_glue::{Config, Lane, ProposeError};
use etcdrs_types::MemberId;
use tokio::task::JoinSet;

use crate::common::{block_on, put};
use crate::members::{Cluster, QUIET, within};

/// T13: a lane of its own carries entries, and nothing else: heartbeats, reads and answers leave it
/// alone.
#[test]
fn t_13_a_lane_of_its_own_carries_entries_only() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        cluster.put(leader, "a").await;
        cluster.equal().await;
        let entries = |tape: &[crate::switch::Sent]| {
            let of = tape.iter().filter(|sent| sent.lane == Lane::Append);
            assert!(of.clone().all(|sent| sent.from == leader), "only a leader has entries");
            of.count()
        };
        cluster.switch.record();
        tokio::time::sleep(QUIET).await;
        for id in (1..=3).map(MemberId) {
            cluster.revision(id).await;
        }
        let quiet = cluster.switch.take_tape();
        assert_eq!((entries(&quiet), quiet.len() > 20), (0, true), "{} messages", quiet.len());
        cluster.switch.record();
        cluster.put(leader, "b").await;
        assert!(entries(&cluster.switch.take_tape()) >= 1);
        cluster.end().await;
    });
}

/// T15: a database that did not arrive is sent again; one that did is followed by entries.
#[test]
fn t_15_a_snapshot_that_failed_is_sent_again() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let away = cluster.other_than(&[leader]);
        let revision = cluster.hold_snapshot(leader, away).await;
        // Its receiver is gone when it comes.
        cluster.stop(away).await;
        cluster.switch.stall(away, false);
        assert_eq!(cluster.put(leader, "meanwhile").await, revision + 1);
        let voters: Vec<MemberId> = (1..=3).map(MemberId).collect();
        cluster.start(away, &voters).await;
        assert_eq!(cluster.revision(away).await, revision + 1);
        assert_eq!(*cluster.handle(away).watch_installs().borrow(), 1);
        // From here on entries are enough.
        for i in 0..20 {
            cluster.put(leader, &format!("later{i}")).await;
        }
        assert_eq!(cluster.equal().await, revision + 21);
        assert_eq!(*cluster.handle(away).watch_installs().borrow(), 1);
        cluster.end().await;
    });
}

/// A member that takes its time to install a database finds the entries behind it, however many
/// there are by then: it would need the next database otherwise, and the one after that.
#[test]
fn the_log_waits_for_a_database_on_its_way() {
    block_on(async {
        let hold_log = std::time::Duration::from_secs(60);
        let cluster = Cluster::of_with(3, move |config| Config { hold_log, ..config }).await;
        let leader = cluster.settled().await;
        let away = cluster.other_than(&[leader]);
        let held = cluster.hold_snapshot(leader, away).await;
        let mut revision = held;
        while revision < held + 500 {
            revision = cluster.put(leader, &format!("meanwhile{revision}")).await;
        }
        assert!(cluster.handle(leader).log_cache().entries >= 500, "the log was shortened");
        cluster.switch.stall(away, false);
        assert_eq!(cluster.equal().await, revision);
        assert_eq!(*cluster.handle(away).watch_installs().borrow(), 1);
        cluster.end().await;
    });
}

/// T22: thousands of requests that wait at the leader for its disk keep neither its heartbeats nor
/// requests through others waiting.
#[test]
fn t_22_requests_that_wait_hold_no_heartbeat_up() {
    const COUNT: i64 = 4000;
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let follower = cluster.other_than(&[leader]);
        cluster.put(leader, "a").await;
        let term = cluster.handle(leader).status().term;
        cluster.disk(leader).hold(true);
        let mut waiting = JoinSet::new();
        for i in 0..COUNT {
            let handle = cluster.handle(leader).clone();
            waiting.spawn(async move { handle.propose(put(&format!("k{i}"))).await });
        }
        let early = tokio::time::timeout(QUIET, waiting.join_next()).await;
        assert!(early.is_err(), "answered before the own disk");
        assert_eq!(cluster.put(follower, "others go on").await, 3 + COUNT);
        for member in cluster.members.values() {
            let status = member.handle.status();
            assert_eq!((status.leader, status.term), (Some(leader), term));
        }
        cluster.disk(leader).hold(false);
        while let Some(done) = within(waiting.join_next()).await {
            done.expect("no panic").expect("applied");
        }
        assert_eq!(cluster.equal().await, 3 + COUNT);
        cluster.end().await;
    });
}

/// W10: a request waits for a leader for as long as its caller does, and ends when the member does.
#[test]
fn w_10_a_request_without_a_leader_ends_with_its_member() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let alone = cluster.other_than(&[leader]);
        cluster.switch.isolate(alone, true);
        cluster.leaderless(alone).await;
        let handle = cluster.handle(alone).clone();
        let mut waiting = tokio::spawn(async move { handle.propose(put("lost")).await });
        assert!(tokio::time::timeout(QUIET, &mut waiting).await.is_err(), "ended by itself");
        // Its caller gives up: nothing of it is left to be done later.
        let handle = cluster.handle(alone).clone();
        let given_up = tokio::time::timeout(QUIET / 4, handle.propose(put("given up"))).await;
        assert!(given_up.is_err());
        drop(handle);
        cluster.stop(alone).await;
        let told = within(waiting).await.expect("no panic");
        assert_eq!(told.map(drop), Err(ProposeError::Stopped));
        assert_eq!(cluster.put(leader, "b").await, 2, "neither was ever written");
        cluster.end().await;
    });
}

/// W13: a read that waits while nobody leads goes on with the first entry of the new term; no write
/// has to come first.
#[test]
fn w_13_a_waiting_read_goes_on_with_the_new_leader() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let revision = cluster.put(leader, "a").await;
        cluster.equal().await;
        let rest: Vec<MemberId> = (1..=3).map(MemberId).filter(|id| *id != leader).collect();
        // Each on its own for a while: nobody can be elected before the reads are there.
        cluster.switch.isolate(rest[0], true);
        cluster.stop(leader).await;
        for id in &rest {
            cluster.leaderless(*id).await;
        }
        let mut reads = JoinSet::new();
        for id in &rest {
            let handle = cluster.handle(*id).clone();
            reads.spawn(async move { handle.read_barrier().await });
        }
        let early = tokio::time::timeout(QUIET / 4, reads.join_next()).await;
        assert!(early.is_err(), "read without a leader: {early:?}");
        let last = cluster.handle(rest[1]).status().last;
        cluster.switch.isolate(rest[0], false);
        while let Some(read) = within(reads.join_next()).await {
            assert_eq!(read.expect("no panic"), Ok(()));
        }
        for id in &rest {
            assert_eq!(cluster.members[id].shared.reader.current_revision(), revision);
        }
        let status = cluster.handle(rest[1]).status();
        // One entry, unless it took more than one election.
        let written = status.last.0 - last.0;
        assert!((1..=3).contains(&written), "the first entry of a term was enough: {status:?}");
        cluster.end().await;
    });
}
