//! When this member last heard from a leader, and when the leader last heard from a quorum.
//!
//! A leader that is cut off goes on calling itself one until it hears of another, and a follower
//! goes on naming the leader it once had. What is told to clients follows the contact instead
//! (engine.md §1.6): without it for a lease there is no leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcdrs_platform::Clock;
use openraft::raft::AppendEntriesRequest;

use crate::types::TypeConfig;

pub(crate) struct Contact {
    clock: Arc<dyn Clock>,
    /// Milliseconds; 0 before the first.
    heard_at: AtomicU64,
    /// The term of the leader that spoke.
    term: AtomicU64,
    lease: Duration,
}

impl Contact {
    pub(crate) fn new(clock: Arc<dyn Clock>, lease: Duration) -> Self {
        Self { clock, heard_at: AtomicU64::new(0), term: AtomicU64::new(0), lease }
    }

    /// How long a contact counts.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// A leader sent entries or a heartbeat.
    pub(crate) fn leader_spoke(&self, request: &AppendEntriesRequest<TypeConfig>) {
        let term = request.vote.leader_id.term;
        // A leader of the past proves nothing.
        if self.term.fetch_max(term, Ordering::Relaxed) <= term {
            self.heard_at.store(self.clock.now().0.max(1), Ordering::Relaxed);
        }
    }

    /// Whether a leader spoke within the lease.
    pub(crate) fn is_fresh(&self) -> bool {
        let heard = self.heard_at.load(Ordering::Relaxed);
        let age = self.clock.now().0.saturating_sub(heard);
        heard > 0 && u128::from(age) <= self.lease.as_millis()
    }
}
