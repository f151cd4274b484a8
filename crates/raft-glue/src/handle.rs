//! What the server does with a member's raft.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use etcdrs_platform::failpoint::strikes;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{AskError, ChangeError, ProposeError, ReadError, TransferError};
use crate::forwarded::Forwarded;
use crate::log_store::{LogCacheStats, LogStore};
use crate::members::{Command, Membership, Progress};
use crate::peers::{Body, Inbound, Lane, Peers};
use crate::propose::{self, Committed, Done, Queued};
use crate::reads::Waiting;

/// How long a proposal that nobody could take waits before it is offered again.
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// What a member knows of its cluster's raft at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The leader, if there is contact to one: a leader without its quorum counts as none.
    pub leader: Option<MemberId>,
    /// The current term.
    pub term: Term,
    /// The newest committed entry.
    pub committed: LogIndex,
    /// The newest applied entry.
    pub applied: LogIndex,
    /// The newest entry of the log.
    pub last: LogIndex,
    /// Whether this member leads, with its quorum behind it.
    pub is_leader: bool,
}

/// Proposes, reads and tells the status. Cloneable, usable from any thread.
#[derive(Clone)]
pub struct Handle {
    pub(crate) member: MemberId,
    pub(crate) cluster: ClusterId,
    pub(crate) proposals: mpsc::Sender<Queued>,
    pub(crate) reads: mpsc::Sender<Waiting>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) membership: watch::Receiver<Arc<Membership>>,
    pub(crate) term: Arc<AtomicU64>,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) installs: watch::Receiver<u64>,
    pub(crate) log: LogStore,
    pub(crate) peers: Peers,
    pub(crate) forwarded: Forwarded,
    pub(crate) inbound: Inbound,
}

impl Handle {
    /// This member's id.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The current term; cheaper than [`Self::status`].
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { applied: LogIndex(*self.applied.borrow()), ..*self.status.borrow() }
    }

    /// Follows the status as it changes. Its `applied` may lag.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Committed entries that are not applied here yet.
    #[must_use]
    pub fn apply_gap(&self) -> u64 {
        let committed = self.status.borrow().committed.0;
        committed.saturating_sub(*self.applied.borrow())
    }

    /// Waits until entry `index` is applied here. `false`: the member stops.
    pub async fn wait_applied(&self, index: LogIndex) -> bool {
        let mut applied = self.applied.clone();
        applied.wait_for(|applied| *applied >= index.0).await.is_ok()
    }

    /// The newest membership, which may not be committed yet.
    #[must_use]
    pub fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.borrow())
    }

    /// Follows the membership.
    #[must_use]
    pub fn watch_membership(&self) -> watch::Receiver<Arc<Membership>> {
        self.membership.clone()
    }

    /// Changes when another database takes the place of this member's own: what was derived from
    /// the old one beside the state machine has to be derived again.
    #[must_use]
    pub fn watch_installs(&self) -> watch::Receiver<u64> {
        self.installs.clone()
    }

    /// How much of the log is in memory.
    #[must_use]
    pub fn log_cache(&self) -> LogCacheStats {
        self.log.stats()
    }

    /// Where the transport delivers what peers send.
    #[must_use]
    pub fn inbound(&self) -> Inbound {
        self.inbound.clone()
    }

    /// Appends an encoded `InternalRaftRequest`, through the leader wherever it is, and waits
    /// until it is committed, durable and applied here. Waits, without a limit of its own, while
    /// there is no leader, and when a leader that took the request is lost: then the entry may
    /// still come.
    ///
    /// # Errors
    ///
    /// [`ProposeError::OutcomeUnknown`] means that the entry may still be applied later.
    pub async fn propose(&self, request: Bytes) -> Result<Committed, ProposeError> {
        loop {
            let leader = self.status.borrow().leader;
            let done = match leader {
                Some(leader) if leader != self.member => self.forward(leader, &request).await?,
                Some(_) => self.append(request.clone()).await?,
                None => None,
            };
            match done {
                Some(committed) => return Ok(committed),
                // Nothing was appended: the leader is not there yet, or not ready yet.
                None if leader.is_none() => self.leader_known().await?,
                None => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }

    async fn leader_known(&self) -> Result<(), ProposeError> {
        let mut status = self.status.clone();
        let known = status.wait_for(|status| status.leader.is_some()).await;
        known.map(drop).map_err(|_| ProposeError::Stopped)
    }

    /// `None` if nothing was appended.
    async fn append(&self, request: Bytes) -> Result<Option<Committed>, ProposeError> {
        let (done, written) = oneshot::channel();
        let queued = Queued { request, done: Done::Here(done) };
        self.proposals.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        match propose::committed(written.await.map_err(|_| ProposeError::Stopped)?) {
            Ok(committed) => Ok(Some(committed)),
            Err(ProposeError::NotLeader) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `None` if the leader refused, or cannot be reached.
    async fn forward(
        &self,
        leader: MemberId,
        request: &[u8],
    ) -> Result<Option<Committed>, ProposeError> {
        let (request, mut ticket) = self.forwarded.register(request);
        let Ok(mut call) = self.peers.call(leader, Lane::Control, Body::Propose(request)) else {
            return Ok(None);
        };
        let mut lost = std::pin::pin!(self.lost(leader));
        loop {
            tokio::select! {
                biased;
                committed = &mut ticket.committed => {
                    return committed.map(Some).map_err(|_| ProposeError::OutcomeUnknown);
                }
                refused = &mut call.answer, if !call.is_lost() => match refused {
                    Ok(_) => return Ok(None),
                    // The request had left before the link broke: it may be in the leader's log.
                    Err(_) => call.lose(),
                },
                // What the new leader has committed is applied here. The request is not among it.
                () = &mut lost => return Err(ProposeError::OutcomeUnknown),
            }
        }
    }

    /// Returns when another leader than `leader`, or the same in another term, has confirmed what
    /// is committed, and that is applied here.
    async fn lost(&self, leader: MemberId) {
        let term = self.status.borrow().term;
        let mut status = self.status.clone();
        loop {
            let changed = status.wait_for(|now| now.leader != Some(leader) || now.term != term);
            // Whoever stops answers all that wait.
            if changed.await.is_err() || self.read_barrier().await == Err(ReadError::Stopped) {
                return std::future::pending().await;
            }
            let now = *self.status.borrow();
            if now.leader.is_some() && (now.leader != Some(leader) || now.term != term) {
                return;
            }
        }
    }

    /// Returns once everything that was committed when the call began is applied here, confirmed
    /// by a quorum. What is read then is linearizable. Waits while there is no leader.
    ///
    /// # Errors
    ///
    /// [`ReadError::Stopped`] when the member stops, [`ReadError::LeaderChanged`] when the leader
    /// was lost while it was asked.
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        if strikes("planted-no-read-index", 0) {
            return Ok(());
        }
        loop {
            let (done, round) = oneshot::channel();
            self.reads.send(Waiting::Here(done)).await.map_err(|_| ReadError::Stopped)?;
            match round.await.map_err(|_| ReadError::Stopped)? {
                Err(ReadError::NoLeader) => tokio::time::sleep(RETRY_PAUSE).await,
                result => return result,
            }
        }
    }

    /// Changes the membership; to be called on the leader, after the rules were checked against
    /// `based_on`. `request` goes into the same entry: what the change does to the records.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Raced`] if the membership is not `based_on` any more, or its change is not
    /// committed yet: look again and try again.
    pub async fn change_members(
        &self,
        membership: Membership,
        based_on: &Membership,
        request: Bytes,
    ) -> Result<Committed, ChangeError> {
        let (done, written) = oneshot::channel();
        let command = Command::Change { membership, based_on: based_on.at, request, done };
        self.commands.send(command).await.map_err(|_| ChangeError::Stopped)?;
        written.await.map_err(|_| ChangeError::Stopped)?
    }

    /// How far each member is, as this leader sees it. Empty on a follower.
    pub async fn progress(&self) -> Vec<Progress> {
        let (done, progress) = oneshot::channel();
        // Whoever does not run leads nobody.
        let _ = self.commands.send(Command::Progress { done }).await;
        progress.await.unwrap_or_default()
    }

    /// Hands the leadership to `target`, a voter that keeps up, and waits until it leads.
    ///
    /// # Errors
    ///
    /// [`TransferError`]; after a time-out another member may lead.
    pub async fn transfer_leader(
        &self,
        target: MemberId,
        timeout: std::time::Duration,
    ) -> Result<(), TransferError> {
        let (done, started) = oneshot::channel();
        let command = Command::Transfer { target, done };
        self.commands.send(command).await.map_err(|_| TransferError::Stopped)?;
        started.await.map_err(|_| TransferError::Stopped)??;
        let mut status = self.status.clone();
        let leads = status.wait_for(|status| status.leader == Some(target));
        match tokio::time::timeout(timeout, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut),
        }
    }

    /// Asks the leader's server, as set by [`Inbound::set_answering`].
    ///
    /// # Errors
    ///
    /// [`AskError`]; after [`AskError::Lost`] the leader may have done what was asked.
    pub async fn ask_leader(&self, leader: MemberId, question: Bytes) -> Result<Bytes, AskError> {
        let call = self.peers.call(leader, Lane::Control, Body::Ask(question));
        let mut call = call.map_err(|_| AskError::Unreachable)?;
        match (&mut call.answer).await {
            Ok(Body::Told(answer)) => Ok(answer),
            Ok(_) => Err(AskError::Unreachable),
            Err(_) => Err(AskError::Lost),
        }
    }
}
