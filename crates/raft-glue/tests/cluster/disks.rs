//! Disks that do not sync: what waits for them, and what does not.

use std::time::Duration;

use etcdrs_types::MemberId;

use crate::common::{block_on, put};
use crate::members::{Cluster, QUIET, within};

/// R03, R33: neither an answer nor an effect comes before the entry is on disk.
#[test]
fn r_03_nothing_is_answered_or_applied_before_its_sync() {
    block_on(async {
        let cluster = Cluster::of(1).await;
        let member = MemberId(1);
        cluster.leader(member, None).await;
        assert_eq!(cluster.put(member, "a").await, 2);
        let handle = cluster.handle(member).clone();
        let applied = handle.status().applied;
        cluster.disk(member).hold(true);
        let proposer = handle.clone();
        let mut waiting = tokio::spawn(async move { proposer.propose(put("b")).await });
        assert!(tokio::time::timeout(QUIET, &mut waiting).await.is_err(), "answered unsynced");
        assert_eq!(handle.status().applied, applied);
        assert_eq!(cluster.members[&member].shared.reader.current_revision(), 2);
        cluster.disk(member).hold(false);
        let committed = within(waiting).await.expect("no panic").expect("applied");
        assert_eq!(committed.outcome.revision, 3);
        cluster.end().await;
    });
}

/// R03: a vote counts only once it is on disk, so that it is never given twice in a term.
#[test]
fn r_03_no_vote_is_given_before_its_sync() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let rest: Vec<MemberId> = (1..=3).map(MemberId).filter(|id| *id != leader).collect();
        for id in &rest {
            cluster.disk(*id).hold(true);
        }
        cluster.stop(leader).await;
        cluster.leaderless(rest[0]).await;
        let mut status = cluster.handle(rest[0]).watch_status();
        let elected = status.wait_for(|status| status.leader.is_some());
        assert!(tokio::time::timeout(QUIET, elected).await.is_err(), "elected by unsynced votes");
        for id in &rest {
            cluster.disk(*id).hold(false);
        }
        cluster.leader(rest[0], None).await;
        assert_eq!(cluster.put(rest[1], "a").await, 2);
        cluster.end().await;
    });
}

/// R15, R34: heartbeats and entries go out while the leader's own disk hangs, so it keeps its lead,
/// and a majority of the others is enough.
#[test]
fn r_15_r_34_a_leader_whose_disk_hangs_keeps_its_lead() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        let follower = cluster.other_than(&[leader]);
        let mut revision = cluster.put(follower, "a").await;
        let term = cluster.handle(follower).status().term;
        cluster.disk(leader).hold(true);
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < QUIET {
            revision += 1;
            assert_eq!(cluster.put(follower, &format!("k{revision}")).await, revision);
            assert_eq!(cluster.revision(follower).await, revision, "reads go on");
        }
        assert!(cluster.members[&leader].shared.reader.current_revision() < revision);
        cluster.disk(leader).hold(false);
        assert_eq!(cluster.equal().await, revision);
        for member in cluster.members.values() {
            let status = member.handle.status();
            assert_eq!((status.leader, status.term), (Some(leader), term));
        }
        cluster.end().await;
    });
}

/// U38: what only a minority has synced is not applied anywhere.
#[test]
fn u_38_what_a_minority_has_is_not_applied() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.settled().await;
        assert_eq!(cluster.put(leader, "a").await, 2);
        assert_eq!(cluster.equal().await, 2);
        let rest: Vec<MemberId> = (1..=3).map(MemberId).filter(|id| *id != leader).collect();
        for id in &rest {
            cluster.disk(*id).hold(true);
        }
        let proposer = cluster.handle(leader).clone();
        let mut waiting = tokio::spawn(async move { proposer.propose(put("b")).await });
        let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
        assert!(early.is_err(), "answered by a minority");
        for member in cluster.members.values() {
            assert_eq!(member.shared.reader.current_revision(), 2);
        }
        for id in &rest {
            cluster.disk(*id).hold(false);
        }
        within(waiting).await.expect("no panic").expect("applied");
        assert_eq!(cluster.equal().await, 3);
        cluster.end().await;
    });
}
