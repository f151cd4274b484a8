//! Proposals: collected while openraft is busy with the previous ones, handed over in one sweep.

use bytes::Bytes;
use etcdrs_apply::Outcome;
use etcdrs_types::{LogIndex, MemberId, Term};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::{Raft, RaftTypeConfig};
use tokio::sync::{mpsc, oneshot};

use crate::error::ProposeError;
use crate::peers::{Body, Nothing, Peers};
use crate::state_machine::StateMachine;
use crate::types::{Proposal, TypeConfig, term_of};

/// Proposals that may wait for openraft.
pub(crate) const QUEUE_MAX: usize = 16_384;
/// Proposals taken in one sweep.
const SWEEP_MAX: usize = 2048;

/// A proposal that was applied.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where it stands in the log.
    pub index: LogIndex,
    /// The term it was proposed in.
    pub term: Term,
    /// What it did.
    pub outcome: Outcome,
}

/// Passes a result to whoever waits, if anybody still does.
pub(crate) enum Waiter<T> {
    Here(oneshot::Sender<T>),
    Then(Box<dyn FnOnce(T) + Send>),
}

impl<C: RaftTypeConfig, T: openraft::OptionalSend + 'static> Responder<C, T> for Waiter<T> {
    fn on_complete(self, result: T) {
        match self {
            // A client that went away needs no answer.
            Self::Here(waiting) => drop(waiting.send(result)),
            Self::Then(then) => then(result),
        }
    }
}

pub(crate) type Written = ClientWriteResult<TypeConfig>;

/// A proposal on its way.
pub(crate) struct Queued {
    pub(crate) request: Bytes,
    pub(crate) done: Done,
}

/// Who wants to know what became of a proposal.
pub(crate) enum Done {
    /// A client of this member.
    Here(oneshot::Sender<Written>),
    /// A peer that took this member for the leader. It is told only if the proposal was refused:
    /// what it did, it learns from its own log.
    Peer { from: MemberId, call: u64, peers: Peers },
}

impl From<Done> for Waiter<Written> {
    fn from(done: Done) -> Self {
        match done {
            Done::Here(done) => Self::Here(done),
            Done::Peer { from, call, peers } => Self::Then(Box::new(move |written| {
                if matches!(written, Err(ClientWriteError::ForwardToLeader(_))) {
                    peers.answer(from, call, Body::Refused(Nothing {}));
                }
            })),
        }
    }
}

/// Hands queued proposals to openraft until the queue or openraft ends.
pub(crate) async fn run<F: etcdrs_platform::Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    mut queue: mpsc::Receiver<Queued>,
) {
    let mut sweep = Vec::with_capacity(64);
    while queue.recv_many(&mut sweep, SWEEP_MAX).await > 0 {
        for Queued { request, done } in sweep.drain(..) {
            if raft.client_write_ff(Proposal(request), Some(done.into())).await.is_err() {
                return;
            }
        }
    }
}

pub(crate) fn committed(written: Written) -> Result<Committed, ProposeError> {
    match written {
        Ok(response) => Ok(Committed {
            index: LogIndex(response.log_id.index),
            term: Term(term_of(&response.log_id)),
            outcome: response.data,
        }),
        Err(ClientWriteError::ForwardToLeader(_)) => Err(ProposeError::NotLeader),
        Err(_) => Err(ProposeError::OutcomeUnknown),
    }
}
