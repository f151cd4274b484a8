//! Linearizable reads: all that wait share one read-index round.

use openraft::{Raft, ReadPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ReadError;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

/// Reads that may wait for a round.
pub(crate) const QUEUE_MAX: usize = 65_536;
/// Reads served by one round.
const ROUND_MAX: usize = 8192;

pub(crate) type Waiting = oneshot::Sender<Result<(), ReadError>>;

/// Runs rounds until the queue ends. A read that arrives while a round is under way stays in the
/// queue and is served by the next one, which starts after its arrival.
pub(crate) async fn run<F: etcdrs_platform::Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    mut queue: mpsc::Receiver<Waiting>,
    mut applied: watch::Receiver<u64>,
) {
    let mut round = Vec::with_capacity(64);
    while queue.recv_many(&mut round, ROUND_MAX).await > 0 {
        let result = one_round(&raft, &mut applied).await;
        for waiting in round.drain(..) {
            // A client that went away needs no answer.
            let _ = waiting.send(result.clone());
        }
    }
}

async fn one_round<F: etcdrs_platform::Fs>(
    raft: &Raft<TypeConfig, StateMachine<F>>,
    applied: &mut watch::Receiver<u64>,
) -> Result<(), ReadError> {
    let index = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer.read_log_id().index(),
        Err(error) if error.fatal().is_some() => return Err(ReadError::Stopped),
        Err(_) => return Err(ReadError::NoLeader),
    };
    applied.wait_for(|applied| *applied >= index).await.map(drop).map_err(|_| ReadError::Stopped)
}
