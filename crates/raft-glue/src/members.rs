//! Membership as raft sees it, and what only the leader can do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use etcdrs_platform::{Fs, fp};
use etcdrs_types::{LogIndex, MemberId, Term};
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{EmptyNode, Instant as _, Raft};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};

use crate::error::{ChangeError, StartError, TransferError};
use crate::propose::Committed;
use crate::state_machine::StateMachine;
use crate::types::{self, LogId, MembershipRecord, Payload, StoredMembership, TypeConfig, term_of};

/// A target of a transfer may be this many entries behind.
const TRANSFER_LAG_MAX: u64 = 256;

/// Who votes and who learns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members that vote.
    pub voters: BTreeSet<MemberId>,
    /// Members that do not.
    pub learners: BTreeSet<MemberId>,
    /// Where it stands in the log.
    pub at: (Term, LogIndex),
}

impl Membership {
    /// Reads the membership that a database holds ([`etcdrs_apply::Position::membership`]).
    ///
    /// # Errors
    ///
    /// [`StartError::Entry`] if it is none.
    pub fn decode(record: &[u8]) -> Result<Self, StartError> {
        let record = MembershipRecord::decode(record).map_err(|error| error.to_string());
        let stored = record.and_then(|record| record.stored());
        let damaged = |error| StartError::Entry(format!("stored membership: {error}"));
        stored.map(|stored| Self::of(&stored)).map_err(damaged)
    }

    pub(crate) fn of(stored: &StoredMembership) -> Self {
        let record = MembershipRecord::of(stored.membership(), None);
        let at = stored
            .log_id()
            .map_or((Term(0), LogIndex(0)), |id| (Term(term_of(&id)), LogIndex(id.index)));
        Self {
            voters: record.voters().map(MemberId).collect(),
            learners: record.learners().map(MemberId).collect(),
            at,
        }
    }

    /// Everybody, voters first.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.voters.iter().chain(&self.learners).copied()
    }

    fn raft(&self) -> Result<types::Membership, ChangeError> {
        let nodes: BTreeMap<u64, EmptyNode> =
            self.members().map(|id| (id.0, EmptyNode {})).collect();
        let voters = self.voters.iter().map(|id| id.0).collect();
        types::Membership::new(vec![voters], nodes)
            .map_err(|error| ChangeError::Refused(error.to_string()))
    }
}

/// How far a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which member.
    pub member: MemberId,
    /// The newest entry that it is known to have.
    pub matched: LogIndex,
    /// How long ago it last answered; `None` if never.
    pub answered_ago: Option<Duration>,
}

/// What the leader is told to do.
pub(crate) enum Command {
    Change {
        membership: Membership,
        based_on: (Term, LogIndex),
        request: Bytes,
        done: oneshot::Sender<Result<Committed, ChangeError>>,
    },
    Progress {
        done: oneshot::Sender<Vec<Progress>>,
    },
    Transfer {
        target: MemberId,
        done: oneshot::Sender<Result<(), TransferError>>,
    },
}

/// Carries out commands until the queue ends.
pub(crate) async fn run<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    heartbeat: Duration,
    mut commands: mpsc::Receiver<Command>,
) {
    while let Some(command) = commands.recv().await {
        // Whoever asked may have gone away; the command is carried out all the same.
        match command {
            Command::Change { membership, based_on, request, done } => {
                let raft = raft.clone();
                tokio::spawn(async move {
                    let _ = done.send(change(&raft, &membership, based_on, request).await);
                });
            }
            Command::Progress { done } => drop(done.send(progress(&raft))),
            Command::Transfer { target, done } => {
                let _ = done.send(transfer(&raft, target, heartbeat).await);
            }
        }
    }
}

async fn change<F: Fs>(
    raft: &Raft<TypeConfig, StateMachine<F>>,
    membership: &Membership,
    (term, index): (Term, LogIndex),
    request: Bytes,
) -> Result<Committed, ChangeError> {
    let proposed = membership.raft()?;
    let change = types::Change { membership: proposed.clone(), request, forced: false };
    let payload = Payload::Change(Box::new(change));
    let observed = Some(types::log_id(term.0, index.0));
    let unchanged = Precondition::LastMembershipLogId { last_membership_log_id: observed };
    fp!("raft-before-conf-change");
    let appended = raft.append_membership(proposed, payload, [unchanged]).await;
    fp!("raft-after-conf-change");
    match appended {
        Ok(response) => Ok(Committed {
            index: LogIndex(response.log_id.index),
            term: Term(term_of(&response.log_id)),
            outcome: response.data,
        }),
        Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        Err(RaftError::APIError(error)) => Err(match error {
            ClientWriteError::ForwardToLeader(_) => ChangeError::NotLeader,
            ClientWriteError::PreconditionFailed(_) => ChangeError::Raced,
            ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_),
            ) => ChangeError::Raced,
            ClientWriteError::ChangeMembershipError(error) => {
                ChangeError::Refused(error.to_string())
            }
            _ => ChangeError::OutcomeUnknown,
        }),
    }
}

fn progress<F: Fs>(raft: &Raft<TypeConfig, StateMachine<F>>) -> Vec<Progress> {
    let metrics = raft.metrics();
    let seen = metrics.borrow_watched();
    let Some(replication) = &seen.replication else { return Vec::new() };
    let answered = |id: &u64| {
        let last = seen.heartbeat.as_ref()?.get(id)?.as_ref()?;
        Some(last.elapsed())
    };
    let index = |at: &Option<LogId>| LogIndex(at.map_or(0, |id| id.index));
    replication
        .iter()
        .map(|(id, matched)| Progress {
            member: MemberId(*id),
            matched: if *id == seen.id {
                LogIndex(seen.last_log_index.unwrap_or(0))
            } else {
                index(matched)
            },
            answered_ago: if *id == seen.id { Some(Duration::ZERO) } else { answered(id) },
        })
        .collect()
}

/// Begins a transfer, after the checks that keep it from failing: openraft never takes one back.
async fn transfer<F: Fs>(
    raft: &Raft<TypeConfig, StateMachine<F>>,
    target: MemberId,
    heartbeat: Duration,
) -> Result<(), TransferError> {
    let last = {
        let metrics = raft.metrics();
        let seen = metrics.borrow_watched();
        if !seen.membership_config.membership().voter_ids().any(|id| id == target.0) {
            return Err(TransferError::BadTarget);
        }
        seen.last_log_index.unwrap_or(0)
    };
    let all = progress(raft);
    let Some(found) = all.iter().find(|progress| progress.member == target) else {
        return Err(TransferError::NotLeader);
    };
    let answers = found.answered_ago.is_some_and(|ago| ago < 3 * heartbeat);
    if !answers || last.saturating_sub(found.matched.0) > TRANSFER_LAG_MAX {
        return Err(TransferError::TargetLags);
    }
    raft.trigger().transfer_leader(target.0).await.map_err(|_| TransferError::Stopped)
}
