//! Who led when, for the texts of time-outs (CO-02); whether there was no leader for so long that
//! calls that need one end; whether this member is a learner.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use etcdrs_types::MemberId;
use tokio::sync::watch;
use tonic::Status;

use crate::api::{Api, status};

/// Looks without a leader, one each election time-out, after which calls that need one end.
const LOOKS_WITHOUT_LEADER: u32 = 3;

/// What is remembered of leaders.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// When the newest leader was first heard of, milliseconds; 0 before the first.
    elected_ms: AtomicU64,
    learns: AtomicBool,
    /// How often there was no leader for too long.
    losses: watch::Sender<u64>,
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
        let connected = match self.raft.status().leader {
            None => true,
            Some(leader) if leader == self.raft.member() => {
                let voters = &self.raft.membership().voters;
                let others = voters.iter().filter(|id| **id != leader);
                let reached = others.filter(|id| self.reached_since(**id, begun_ms)).count();
                1 + reached > voters.len() / 2
            }
            Some(leader) => self.reached_since(leader, begun_ms),
        };
        if connected { status::timeout() } else { status::timeout_connection_lost() }
    }

    /// Whether messages could be sent to a member all the time since then.
    fn reached_since(&self, id: MemberId, begun_ms: u64) -> bool {
        let since = self.transport.get().and_then(|transport| transport.active_since(id));
        since.is_some_and(|since| since.0 <= begun_ms)
    }

    /// Ends calls that need a leader when there is none for too long, and as the leader lets new
    /// voters vote. Looks each `election`.
    pub(crate) async fn watch_for_leader(self, election: Duration) {
        let mut without = 0;
        loop {
            tokio::time::sleep(election).await;
            // What takes longer goes on in raft, and is looked at again.
            let _ = tokio::time::timeout(election, self.admit_voter()).await;
            without = if self.raft.status().leader.is_some() { 0 } else { without + 1 };
            if without == LOOKS_WITHOUT_LEADER {
                self.leadership.losses.send_modify(|losses| *losses += 1);
                without = 0;
            }
        }
    }

    /// Returns the status of a stream that needs a leader, when there is none for too long.
    pub(crate) async fn leader_lost(self) -> Status {
        let mut losses = self.leadership.losses.subscribe();
        match losses.changed().await {
            Ok(()) => status::no_leader(),
            Err(_) => status::stopped(),
        }
    }
}
