//! What peers send: answers go to their callers, calls to raft and its queues.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use etcdrs_platform::Fs;
use etcdrs_types::MemberId;
use futures_util::StreamExt as _;
use openraft::Raft;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::message::{Appended, Ballot, SnapshotHead, Transfer, Transferred, Voted};
use super::{Body, Chunks, Envelope, Nothing, Peers};
use crate::contact::Contact;
use crate::propose::{Done, Queued};
use crate::reads::Waiting;
use crate::snapshots::Incoming;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;

/// Calls of peers that may wait to be looked at.
pub(crate) const QUEUE_MAX: usize = 16_384;
/// Calls taken in one sweep.
const SWEEP_MAX: usize = 1024;
/// Appends of one peer that may wait for raft: what one of its streams may have in flight, twice.
const APPENDS_MAX: usize = 256;

/// Answers what peers ask beside raft.
pub type Answering =
    dyn Fn(MemberId, Bytes) -> Pin<Box<dyn Future<Output = Bytes> + Send>> + Send + Sync;

/// Where the transport delivers. Cloneable.
#[derive(Clone)]
pub struct Inbound {
    peers: Peers,
    events: mpsc::Sender<Event>,
    contact: Arc<Contact>,
    incoming: Incoming,
    answering: Arc<OnceLock<Box<Answering>>>,
}

/// Why a database of a peer was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotRefused {
    /// What stands in front of it cannot be read.
    #[error("unreadable head of a snapshot: {0}")]
    Head(String),
    /// It did not arrive whole, or cannot be installed.
    #[error("{0}")]
    Failed(String),
}

/// A call of a peer: who called, the call's number, what it wants.
pub(crate) struct Event {
    from: MemberId,
    call: u64,
    wish: Wish,
}

enum Wish {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(Ballot),
    PreVote(Ballot),
    Transfer(Transfer),
    ReadIndex,
    Propose(Bytes),
    Ask(Bytes),
    /// Not a call: the peer can be reached again, so there is nothing to wait for any more.
    Reached,
}

impl Inbound {
    pub(crate) fn new(
        peers: Peers,
        contact: Arc<Contact>,
        incoming: Incoming,
    ) -> (Self, mpsc::Receiver<Event>) {
        let (events, queue) = mpsc::channel(QUEUE_MAX);
        let answering = Arc::default();
        (Self { peers, events, contact, incoming, answering }, queue)
    }

    /// Takes what one read of a peer's stream brought. Never blocks: calls that find no room are
    /// left in `messages`, and their callers try again.
    pub fn receive(&self, from: MemberId, messages: &mut Vec<Bytes>) {
        messages.retain(|message| {
            match Envelope::decode(message.clone()) {
                Ok(Envelope { call, body: Some(body) }) => return !self.take(from, call, body),
                Ok(Envelope { body: None, .. }) => {
                    tracing::warn!(peer = %from, "dropped a message of an unknown kind");
                }
                Err(error) => tracing::warn!(peer = %from, %error, "dropped an unreadable message"),
            }
            false
        });
    }

    /// `false` if there is no room.
    fn take(&self, from: MemberId, call: u64, body: Body) -> bool {
        let wish = match body {
            Body::Append(append) => match append.request() {
                Ok(request) => Wish::Append(request),
                Err(error) => {
                    tracing::warn!(peer = %from, error, "dropped unreadable entries");
                    return true;
                }
            },
            Body::Vote(ballot) => Wish::Vote(ballot),
            Body::PreVote(ballot) => Wish::PreVote(ballot),
            Body::Transfer(transfer) => Wish::Transfer(transfer),
            Body::ReadIndex(_) => Wish::ReadIndex,
            Body::Propose(request) => Wish::Propose(request),
            Body::Ask(question) => Wish::Ask(question),
            answer => {
                self.peers.answered(from, call, answer);
                return true;
            }
        };
        !matches!(self.events.try_send(Event { from, call, wish }), Err(TrySendError::Full(_)))
    }

    /// Notes that messages can (`up`) or cannot be sent to `peer`.
    pub fn link_changed(&self, peer: MemberId, up: bool) {
        self.peers.link_changed(peer, up);
        if up {
            // With a full queue openraft finds out by itself, a little later.
            let _ = self.events.try_send(Event { from: peer, call: 0, wish: Wish::Reached });
        }
    }

    /// Who answers [`crate::Handle::ask_leader`] when this member leads. Set once.
    pub fn set_answering(&self, answering: Box<Answering>) {
        if self.answering.set(answering).is_err() {
            tracing::error!("the answering of peers was set twice");
        }
    }

    /// Receives a database and installs it in place of the member's own.
    ///
    /// # Errors
    ///
    /// [`SnapshotRefused`]; the member's own state is as it was.
    pub async fn receive_snapshot(
        &self,
        from: MemberId,
        head: Bytes,
        chunks: Chunks,
    ) -> Result<Bytes, SnapshotRefused> {
        let head =
            SnapshotHead::decode(head).map_err(|error| SnapshotRefused::Head(error.to_string()))?;
        self.incoming.receive(from, head, chunks).await
    }
}

/// An append and the number of its call.
type Append = (u64, AppendEntriesRequest<TypeConfig>);
/// The queues of appends, by who sends them.
type Appends = HashMap<MemberId, mpsc::Sender<Append>>;

/// What [`run`] hands calls to.
pub(crate) struct Desk<F: Fs> {
    pub(crate) raft: Raft<TypeConfig, StateMachine<F>>,
    pub(crate) inbound: Inbound,
    pub(crate) proposals: mpsc::Sender<Queued>,
    pub(crate) reads: mpsc::Sender<Waiting>,
}

/// Hands calls of peers on until the queue ends.
pub(crate) async fn run<F: Fs>(desk: Desk<F>, mut queue: mpsc::Receiver<Event>) {
    let mut sweep = Vec::with_capacity(64);
    let mut appends = HashMap::new();
    while queue.recv_many(&mut sweep, SWEEP_MAX).await > 0 {
        for Event { from, call, wish } in sweep.drain(..) {
            if !desk.carry_out(&mut appends, from, call, wish) {
                desk.inbound.peers.answer(from, call, Body::Refused(Nothing {}));
            }
        }
    }
}

impl<F: Fs> Desk<F> {
    /// `false` if the call is not carried out, and its caller has to hear that.
    fn carry_out(&self, appends: &mut Appends, from: MemberId, call: u64, wish: Wish) -> bool {
        match wish {
            Wish::Append(request) => {
                self.inbound.contact.leader_spoke(&request);
                let queue = appends.entry(from).or_insert_with(|| self.take_appends(from));
                return queue.try_send((call, request)).is_ok();
            }
            Wish::ReadIndex => return self.reads.try_send(Waiting::Peer { from, call }).is_ok(),
            Wish::Propose(request) => {
                let done = Done::Peer { from, call, peers: self.inbound.peers.clone() };
                return self.proposals.try_send(Queued { request, done }).is_ok();
            }
            Wish::Ask(question) => {
                let Some(answering) = self.inbound.answering.get() else { return false };
                let (peers, told) = (self.inbound.peers.clone(), answering(from, question));
                tokio::spawn(async move { peers.answer(from, call, Body::Told(told.await)) });
            }
            Wish::Vote(ballot) => self.vote(from, call, ballot, false),
            Wish::PreVote(ballot) => self.vote(from, call, ballot, true),
            Wish::Transfer(transfer) => self.transfer(from, call, transfer),
            Wish::Reached => self.reached(from),
        }
        true
    }

    fn take_appends(&self, from: MemberId) -> mpsc::Sender<Append> {
        let (sender, queue) = mpsc::channel(APPENDS_MAX);
        tokio::spawn(serve_appends(self.raft.clone(), self.inbound.peers.clone(), from, queue));
        sender
    }

    fn vote(&self, from: MemberId, call: u64, ballot: Ballot, pre: bool) {
        let (raft, peers) = (self.raft.clone(), self.inbound.peers.clone());
        tokio::spawn(async move {
            let request = ballot.request();
            let result = if pre { raft.pre_vote(request).await } else { raft.vote(request).await };
            peers.answer(
                from,
                call,
                match result {
                    Ok(response) => Body::Voted(Voted::of(&response)),
                    Err(_) => Body::Refused(Nothing {}),
                },
            );
        });
    }

    fn reached(&self, peer: MemberId) {
        let raft = self.raft.clone();
        // Only a member that stops is past caring.
        tokio::spawn(async move { drop(raft.trigger().reset_backoff([peer.0]).await) });
    }

    fn transfer(&self, from: MemberId, call: u64, transfer: Transfer) {
        let (raft, peers) = (self.raft.clone(), self.inbound.peers.clone());
        tokio::spawn(async move {
            let refusal = match raft.handle_transfer_leader(transfer.request()).await {
                Ok(Ok(())) => String::new(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            peers.answer(from, call, Body::Transferred(Transferred { refusal }));
        });
    }
}

/// Hands the appends of one peer to raft in the order they came, many at once, and sends the
/// answers, which come in the same order.
async fn serve_appends<F: Fs>(
    raft: Raft<TypeConfig, StateMachine<F>>,
    peers: Peers,
    from: MemberId,
    mut queue: mpsc::Receiver<Append>,
) {
    let mut calls = VecDeque::new();
    loop {
        // A stream ends with the first conflict or higher vote; the sender starts anew then too.
        let (requests, input) = mpsc::channel(APPENDS_MAX);
        let input = futures_util::stream::unfold(input, |mut input: mpsc::Receiver<_>| async {
            let request = input.recv().await?;
            Some((request, input))
        });
        let mut answers = std::pin::pin!(raft.stream_append(input));
        loop {
            let result: StreamAppendResult<TypeConfig> = tokio::select! {
                biased;
                answer = answers.next() => match answer {
                    Some(Ok(result)) => result,
                    Some(Err(_)) => return,
                    None => break,
                },
                request = queue.recv(), if calls.len() < APPENDS_MAX => {
                    let Some((call, request)) = request else { return };
                    calls.push_back(call);
                    if requests.try_send(request).is_err() {
                        break;
                    }
                    continue;
                }
            };
            let ended = result.is_err();
            if let Some(call) = calls.pop_front() {
                peers.answer(from, call, Body::Appended(Appended::of(result)));
            }
            if ended {
                break;
            }
        }
        for call in calls.drain(..) {
            peers.answer(from, call, Body::Refused(Nothing {}));
        }
    }
}
