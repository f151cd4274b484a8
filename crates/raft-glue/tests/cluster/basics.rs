//! Writes, reads, leaders, snapshots and members, as they are meant to go.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_raft_glue::{ChangeError, Membership};
use etcdrs_types::MemberId;

use crate::common::{block_on, put};
use crate::members::{Cluster, PATIENCE, within};

#[test]
fn writes_and_reads_go_through_any_member() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        for (i, at) in [1, 2, 3, 1, 2, 3].into_iter().enumerate() {
            assert_eq!(cluster.put(MemberId(at), &format!("k{i}")).await, i as i64 + 2);
            for reader in 1..=3 {
                assert_eq!(cluster.revision(MemberId(reader)).await, i as i64 + 2);
            }
        }
        let leaders: HashSet<_> =
            cluster.members.values().map(|m| m.handle.status().leader).collect();
        assert_eq!(leaders.len(), 1);
        cluster.end().await;
    });
}

#[test]
fn another_member_leads_when_the_leader_is_gone() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        let follower = cluster.other_than(&[leader]);
        assert_eq!(cluster.put(follower, "a").await, 2);
        cluster.stop(leader).await;
        cluster.leader(follower, Some(leader)).await;
        assert_eq!(cluster.put(follower, "b").await, 3);
        let voters: Vec<_> = (1..=3).map(MemberId).collect();
        cluster.start(leader, &voters).await;
        assert_eq!(cluster.revision(leader).await, 3);
        cluster.end().await;
    });
}

#[test]
fn a_leader_that_is_cut_off_knows_that_it_leads_no_more() {
    block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        cluster.put(leader, "a").await;
        cluster.switch.isolate(leader, true);
        let mut status = cluster.handle(leader).watch_status();
        within(status.wait_for(|status| status.leader.is_none() && !status.is_leader))
            .await
            .expect("it runs");
        let follower = cluster.other_than(&[leader]);
        cluster.leader(follower, Some(leader)).await;
        assert_eq!(cluster.put(follower, "b").await, 3);
        // Nothing can be written or read at the old leader, however long one waits.
        let handle = cluster.handle(leader);
        for _ in 0..2 {
            let write = handle.propose(put("lost"));
            assert!(tokio::time::timeout(Duration::from_millis(300), write).await.is_err());
            let read = handle.read_barrier();
            assert!(!matches!(
                tokio::time::timeout(Duration::from_millis(300), read).await,
                Ok(Ok(()))
            ));
        }
        cluster.switch.isolate(leader, false);
        let revision = cluster.put(leader, "c").await;
        assert_eq!(cluster.revision(follower).await, revision);
        cluster.end().await;
    });
}

#[test]
fn a_member_that_was_away_gets_the_database() {
    block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader(MemberId(1), None).await;
        let away = cluster.other_than(&[leader]);
        cluster.put(away, "first").await;
        cluster.switch.isolate(away, true);
        let revision = cluster.outgrow_log(leader).await;
        let reader = cluster.members[&away].shared.reader.clone();
        cluster.switch.isolate(away, false);
        assert_eq!(cluster.revision(away).await, revision);
        assert_eq!(reader.current_revision(), revision, "an old handle sees the new state");
        let hash = |id| cluster.members[&id].shared.reader.hash_kv(revision).expect("hash").hash;
        assert_eq!(hash(away), hash(leader));
        assert_eq!(cluster.put(away, "after").await, revision + 1);

        drop(reader);

        // What it received is there after a start, and the old database is gone.
        cluster.stop(away).await;
        let voters: Vec<_> = (1..=3).map(MemberId).collect();
        cluster.start(away, &voters).await;
        assert_eq!(cluster.revision(away).await, revision + 1);
        let snaps = std::fs::read_dir(cluster.dir.path().join(away.to_string()).join("snap"));
        let databases = snaps
            .expect("list")
            .filter(|entry| entry.as_ref().expect("entry").file_type().expect("type").is_dir());
        assert_eq!(databases.count(), 1);
        cluster.end().await;
    });
}

#[test]
fn members_come_learn_vote_and_go() {
    block_on(async {
        let mut cluster = Cluster::of(1).await;
        let first = MemberId(1);
        cluster.leader(first, None).await;
        for i in 0..200 {
            cluster.put(first, &format!("k{i}")).await;
        }
        let change = |edit: fn(&mut Membership)| {
            let handle = cluster.handle(first).clone();
            async move {
                let old = handle.membership();
                let mut new = Membership::clone(&old);
                edit(&mut new);
                within(handle.change_members(new, &old, Bytes::new())).await.expect("changed");
            }
        };
        change(|members| members.learners = [MemberId(2)].into()).await;
        // A joiner knows nobody: whom it belongs to comes from the leader.
        cluster.start(MemberId(2), &[]).await;
        assert_eq!(cluster.revision(MemberId(2)).await, 201);
        let handle = cluster.handle(first).clone();
        let progress = within(handle.progress()).await;
        assert_eq!(progress.len(), 2, "{progress:?}");

        let old = handle.membership();
        let promoted =
            Membership { voters: [1, 2].map(MemberId).into(), learners: [].into(), at: old.at };
        within(handle.change_members(promoted.clone(), &old, Bytes::new()))
            .await
            .expect("promoted");
        // What was based on the old membership is refused.
        let raced = within(handle.change_members(promoted, &old, Bytes::new())).await;
        assert_eq!(raced.err(), Some(ChangeError::Raced));

        within(handle.transfer_leader(MemberId(2), PATIENCE)).await.expect("handed over");
        assert_eq!(cluster.leader(first, None).await, MemberId(2));
        assert_eq!(cluster.put(first, "through the new leader").await, 202);

        let handle = cluster.handle(MemberId(2)).clone();
        let old = handle.membership();
        let alone = Membership { voters: [MemberId(2)].into(), ..Membership::clone(&old) };
        within(handle.change_members(alone, &old, Bytes::new())).await.expect("removed");
        assert_eq!(cluster.put(MemberId(2), "alone").await, 203);
        cluster.end().await;
    });
}
