//! What runs beside raft: the status for others, snapshots, the commit index, old segments.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcdrs_platform::Fs;
use etcdrs_types::{LogIndex, MemberId, Term};
use etcdrs_wal as wal;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, Raft, ServerState};
use tokio::sync::watch;

use crate::contact::Contact;
use crate::handle::Status;
use crate::log_store::LogStore;
use crate::members::Membership;
use crate::node::Config;
use crate::runtime::Threads;
use crate::snapshots::Sends;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

/// How often the commit index is written when no append carries it.
const COMMIT_WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// Budgets of memory that the log may take while a member gets a database.
const HELD_BUDGETS: usize = 4;
/// How often log segments that are not needed any more are looked for, as etcd does.
const PURGE_INTERVAL: Duration = Duration::from_secs(30);

/// Who is told of changes.
pub(crate) struct Tell {
    pub(crate) status: watch::Sender<Status>,
    pub(crate) membership: watch::Sender<Arc<Membership>>,
    pub(crate) term: Arc<AtomicU64>,
    pub(crate) fatal: watch::Sender<Option<String>>,
}

/// Follows openraft and tells what others may know.
pub(crate) async fn follow<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    contact: Arc<Contact>,
    tell: Tell,
    look_again: Duration,
) {
    let mut metrics = raft.metrics();
    let mut members_at = None;
    loop {
        let (now, running) = {
            let seen = metrics.borrow_and_update();
            let leads = seen.state == ServerState::Leader;
            let fresh = if leads {
                let alone = seen.membership_config.membership().voter_ids().count() <= 1;
                let acked = seen.last_quorum_acked.as_ref();
                alone || acked.is_some_and(|acked| acked.elapsed() <= contact.lease())
            } else {
                contact.is_fresh()
            };
            let now = Status {
                leader: seen.current_leader.filter(|_| fresh).map(MemberId),
                term: Term(seen.current_term),
                committed: LogIndex(seen.local_committed.map_or(0, |id| id.index)),
                applied: LogIndex(seen.last_applied.map_or(0, |id| id.index)),
                last: LogIndex(seen.last_log_index.unwrap_or(0)),
                is_leader: leads && fresh,
            };
            let at = *seen.membership_config.log_id();
            if members_at != Some(at) {
                members_at = Some(at);
                let newest = Membership::of(&seen.membership_config);
                tell.membership.send_replace(Arc::new(newest));
            }
            (now, seen.running_state.clone())
        };
        tell.term.store(now.term.0, Ordering::Relaxed);
        tell.status.send_if_modified(|status| std::mem::replace(status, now) != now);
        if let Err(error) = running {
            tell.fatal.send_replace(Some(error.to_string()));
            return;
        }
        // The contact can be lost without a word from openraft.
        if let Ok(Err(_)) = tokio::time::timeout(look_again, metrics.changed()).await {
            tell.fatal.send_replace(Some("raft ended without a word".into()));
            return;
        }
    }
}

/// Makes a snapshot every `snapshot_count` applied entries, or when the log in memory outgrows its
/// budget, and gives up what a snapshot made superfluous down to half of that budget.
pub(crate) async fn keep_snapshots<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    log: LogStore,
    mut applied: watch::Receiver<u64>,
    sends: Sends,
    config: Config,
) {
    let metrics = raft.metrics();
    let low = config.log_cache_bytes_max / 2;
    let mut asked = *applied.borrow_and_update();
    let (mut building, mut purged) = (false, 0);
    while applied.changed().await.is_ok() {
        let now = *applied.borrow_and_update();
        let made = metrics.borrow_watched().snapshot.map_or(0, |id| id.index);
        building &= made < asked;
        let bytes = log.stats().bytes;
        if sends.hold_log() && bytes <= HELD_BUDGETS * config.log_cache_bytes_max {
            continue;
        }
        if bytes > low
            && let Some(upto) = log.superfluous(made, low).filter(|upto| *upto > purged)
        {
            purged = upto;
            if raft.trigger().purge_log(upto).await.is_err() {
                return;
            }
        }
        let due = now - asked > config.snapshot_count;
        let outgrown = bytes > config.log_cache_bytes_max && now > made;
        if !building && (due || outgrown) {
            (asked, building) = (now, true);
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }
}

/// Deletes segments that nothing needs any more beyond `wals_max`.
pub(crate) async fn keep_wals<F: Fs>(fs: F, threads: Threads, dir: PathBuf, wals_max: usize) {
    let mut ticks = tokio::time::interval(PURGE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (fs, dir) = (fs.clone(), dir.clone());
        let purged = threads.run(move || wal::purge(&fs, &dir, wals_max)).await;
        if let Ok(Err(error)) = purged {
            tracing::warn!(%error, "could not purge log segments");
        }
    }
}

pub(crate) async fn keep_commit(log: LogStore) {
    let mut ticks = tokio::time::interval(COMMIT_WRITE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        log.write_commit();
    }
}
