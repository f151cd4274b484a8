//! Linearizable reads: all that wait share one read-index round.
//!
//! The leader confirms by a quorum that it still leads; a follower asks the leader, whose rounds
//! serve its own readers and those of followers together.

use std::time::Duration;

use etcdrs_platform::failpoint::strikes;
use etcdrs_types::MemberId;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{Raft, ReadPolicy, ServerState};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ReadError;
use crate::handle::Status;
use crate::peers::{Body, Lane, Nothing, Peers, ReadAt};
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

/// Reads that may wait for a round.
pub(crate) const QUEUE_MAX: usize = 65_536;
/// Reads served by one round.
const ROUND_MAX: usize = 8192;
/// How long the leader may take to answer before it is asked again, as in etcd.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Somebody who waits for a round.
pub(crate) enum Waiting {
    /// A read here: it may run once the index is applied here.
    Here(oneshot::Sender<Result<(), ReadError>>),
    /// A peer's round: it wants the index.
    Peer { from: MemberId, call: u64 },
}

/// What a round needs.
pub(crate) struct Rounds<F: etcdrs_platform::Fs> {
    pub(crate) raft: Raft<TypeConfig, StateMachine<F>>,
    pub(crate) member: MemberId,
    pub(crate) peers: Peers,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) applied: watch::Receiver<u64>,
}

impl<F: etcdrs_platform::Fs> Rounds<F> {
    /// Runs rounds until the queue ends. A read that arrives while a round is under way stays in
    /// the queue and is served by the next one, which starts after its arrival.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut round = Vec::with_capacity(64);
        while queue.recv_many(&mut round, ROUND_MAX).await > 0 {
            let led_by_other = self.other_leader();
            let index = match led_by_other {
                Some(leader) => self.ask(leader).await,
                None => self.confirm().await,
            };
            for waiting in round.extract_if(.., |waiting| matches!(waiting, Waiting::Peer { .. })) {
                if let Waiting::Peer { from, call } = waiting {
                    // A peer that takes this member for the leader is not sent on: two members
                    // that take each other for it would ask in circles.
                    let answer = match index {
                        Ok(index) if led_by_other.is_none() => Body::ReadAt(ReadAt { index }),
                        _ => Body::Refused(Nothing {}),
                    };
                    self.peers.answer(from, call, answer);
                }
            }
            if round.is_empty() {
                continue;
            }
            let result = match index {
                Ok(index) => self.reached(index).await,
                Err(error) => Err(error),
            };
            for waiting in round.drain(..) {
                if let Waiting::Here(done) = waiting {
                    // A client that went away needs no answer.
                    let _ = done.send(result.clone());
                }
            }
        }
    }

    async fn reached(&mut self, index: u64) -> Result<(), ReadError> {
        let reached = self.applied.wait_for(|applied| *applied >= index).await;
        reached.map(drop).map_err(|_| ReadError::Stopped)
    }

    /// The leader, if it is another member. Without one openraft is asked: it knows best, and a
    /// read that comes before the first status is served all the same.
    fn other_leader(&self) -> Option<MemberId> {
        self.status.borrow().leader.filter(|leader| *leader != self.member)
    }

    /// The index from which on a read is linearizable, confirmed by a quorum.
    async fn confirm(&self) -> Result<u64, ReadError> {
        if strikes("planted-trusted-lead", 0)
            && self.raft.metrics().borrow_watched().state == ServerState::Leader
        {
            return Ok(*self.applied.borrow());
        }
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(error) if error.fatal().is_some() => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::NoLeader),
        }
    }

    /// Asks the leader, again and again, until it answers or leads no more.
    async fn ask(&mut self, leader: MemberId) -> Result<u64, ReadError> {
        let term = self.status.borrow().term;
        loop {
            let call = self.peers.call(leader, Lane::Control, Body::ReadIndex(Nothing {}));
            let Ok(mut call) = call else { return Err(ReadError::NoLeader) };
            tokio::select! {
                biased;
                answer = tokio::time::timeout(ASK_AGAIN, &mut call.answer) => match answer {
                    Ok(Ok(Body::ReadAt(ReadAt { index }))) => return Ok(index),
                    Ok(_) => return Err(ReadError::NoLeader),
                    Err(_) => {}
                },
                changed = self.status.wait_for(|now| now.leader != Some(leader) || now.term != term) => {
                    changed.map_err(|_| ReadError::Stopped)?;
                    return Err(ReadError::LeaderChanged);
                }
            }
        }
    }
}
