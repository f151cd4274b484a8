//! Who led when, for the texts of time-outs (CO-02), and whether this member is a learner.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tonic::Status;

use crate::api::{Api, status};

/// What is remembered of leaders.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// When the newest leader was first heard of, milliseconds; 0 before the first.
    elected_ms: AtomicU64,
    learns: AtomicBool,
}

impl Leadership {
    /// Another leader than before.
    pub(crate) fn changed(&self, now_ms: u64) {
        self.elected_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    pub(crate) fn set_learns(&self, learns: bool) {
        self.learns.store(learns, Ordering::Relaxed);
    }
}

impl Api {
    /// Whether this member does not vote, as of a moment ago: asked by every call.
    pub(crate) fn learns(&self) -> bool {
        self.leadership.learns.load(Ordering::Relaxed)
    }

    /// The status of a request that began at `begun_ms` and took too long.
    pub(crate) fn timed_out(&self, begun_ms: u64) -> Status {
        let elected = self.leadership.elected_ms.load(Ordering::Relaxed);
        let lost_from = elected.saturating_sub(2 * self.settings.election.as_millis() as u64);
        if elected > 0 && begun_ms >= lost_from && begun_ms <= elected {
            return status::timeout_leader_failed();
        }
        match self.raft.status().leader {
            Some(leader) if leader != self.raft.member() && !self.raft.reaches(leader) => {
                status::timeout_connection_lost()
            }
            _ => status::timeout(),
        }
    }
}
