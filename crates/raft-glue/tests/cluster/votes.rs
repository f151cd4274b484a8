//! Whose vote counts.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_raft_glue::Membership;
use etcdrs_types::{MemberId, Term};
use parking_lot::Mutex;

use crate::common::block_on;
use crate::members::{Cluster, QUIET, within};

/// Who was seen to lead in which term.
#[derive(Clone, Default)]
struct Leaders(Arc<Mutex<HashMap<Term, MemberId>>>);

impl Leaders {
    /// Looks at a member as long as it runs; the task fails when two lead in one term.
    fn follow(&self, cluster: &Cluster, id: MemberId) -> tokio::task::JoinHandle<()> {
        let (seen, mut status) = (self.clone(), cluster.handle(id).watch_status());
        tokio::spawn(async move {
            loop {
                let now = *status.borrow_and_update();
                if now.is_leader {
                    let first = *seen.0.lock().entry(now.term).or_insert(id);
                    assert_eq!(first, id, "two leaders in term {:?}", now.term);
                }
                if status.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

/// R38: a member that was removed elects nobody and is elected by nobody, whether it has heard of
/// its removal or not, and although nobody has applied it yet; nobody else leads at the same time.
async fn removed_and_alone_with_a_voter(knows: bool) {
    let cluster = Cluster::of(3).await;
    let leader = cluster.settled().await;
    let removed = cluster.other_than(&[leader]);
    let stays = cluster.other_than(&[leader, removed]);
    let leaders = Leaders::default();
    let followed: Vec<_> =
        [leader, removed, stays].into_iter().map(|id| leaders.follow(&cluster, id)).collect();
    cluster.put(leader, "a").await;
    cluster.equal().await;
    if knows {
        // It gets the entry and cannot apply it.
        cluster.disk(removed).hold(true);
    } else {
        cluster.switch.isolate(removed, true);
    }
    let handle = cluster.handle(leader).clone();
    let old = handle.membership();
    let rest = Membership { voters: [leader, stays].into(), ..Membership::clone(&old) };
    let changed = within(handle.change_members(rest, &old, Bytes::new())).await.expect("changed");
    assert!(within(cluster.handle(stays).wait_applied(changed.index)).await);
    drop(handle);

    cluster.switch.isolate(removed, false);
    cluster.switch.isolate(leader, true);
    cluster.disk(removed).hold(false);
    cluster.leaderless(stays).await;
    for id in [stays, removed] {
        let mut status = cluster.handle(id).watch_status();
        let elected = status.wait_for(|status| status.is_leader);
        assert!(tokio::time::timeout(QUIET, elected).await.is_err(), "{id} was elected");
    }
    cluster.switch.isolate(leader, false);
    let next = cluster.leader(stays, None).await;
    assert_ne!(next, removed);
    assert_eq!(cluster.put(stays, "b").await, 3);
    assert!(!cluster.handle(removed).status().is_leader);
    cluster.end().await;
    for follower in followed {
        follower.await.expect("one leader a term");
    }
}

#[test]
fn r_38_a_removed_member_that_knows_has_no_vote() {
    block_on(removed_and_alone_with_a_voter(true));
}

#[test]
fn r_38_a_removed_member_that_does_not_know_has_no_vote() {
    block_on(removed_and_alone_with_a_voter(false));
}
