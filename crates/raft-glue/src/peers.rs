//! The other members: calls to them, their calls, and which of them can be reached.
//!
//! A transport carries opaque messages one way and promises order on a lane; here they become
//! calls with answers. A call ends when its answer comes, when its caller gives up, or when the
//! link to the peer breaks, because then its answer may be lost.

mod inbound;
mod message;
mod network;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::fp;
use etcdrs_types::MemberId;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::inbound::{Answering, Inbound, SnapshotRefused};
pub(crate) use self::inbound::{Desk, Event, run as run_inbound};
pub(crate) use self::message::{Body, Envelope, Nothing, ReadAt, SnapshotHead, SnapshotTaken};
pub(crate) use self::network::Network;

/// Carries messages to peers. Implemented by the server on the peer transport.
pub trait Transport: Send + Sync + 'static {
    /// Queues a message without blocking. Messages of one lane arrive in order or not at all.
    ///
    /// # Errors
    ///
    /// [`Unsent`]: the message is dropped.
    fn send(&self, to: MemberId, lane: Lane, message: Bytes) -> Result<(), Unsent>;

    /// Sends a database and waits for the peer's answer.
    fn send_snapshot(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, SnapshotUnsent>> + Send>>;
}

/// A database on its way.
pub type Chunks = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// What a message is, so that a long one does not hold up a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Log entries.
    Append,
    /// Everything else.
    Control,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// There is no link to the peer now.
    #[error("no link to the member")]
    NoLink,
    /// The peer takes messages more slowly than they come.
    #[error("the member's queue is full")]
    Full,
}

/// Why a database did not reach a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("snapshot was not delivered: {0}")]
pub struct SnapshotUnsent(pub String);

/// A transport for a member that has no peers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&self, _: MemberId, _: Lane, _: Bytes) -> Result<(), Unsent> {
        Err(Unsent::NoLink)
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        _: Bytes,
        _: Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, SnapshotUnsent>> + Send>> {
        Box::pin(std::future::ready(Err(SnapshotUnsent(format!("no transport to {to}")))))
    }
}

/// Calls to peers. Cloneable.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    next_call: AtomicU64,
    /// In order, so that a broken link is heard of in the same order in every simulation.
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

struct Waiting {
    peer: MemberId,
    answer: oneshot::Sender<Body>,
}

/// A call that was sent. Dropping it forgets the call.
pub(crate) struct Call {
    pub(crate) answer: oneshot::Receiver<Body>,
    number: u64,
    peers: Peers,
    lost: bool,
}

impl Call {
    /// Notes that no answer will come.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.peers.0.waiting.lock().remove(&self.number);
    }
}

impl Peers {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self(Arc::new(Inner { transport, next_call: AtomicU64::new(1), waiting: Mutex::default() }))
    }

    pub(crate) fn transport(&self) -> &Arc<dyn Transport> {
        &self.0.transport
    }

    /// Sends a call.
    pub(crate) fn call(&self, to: MemberId, lane: Lane, body: Body) -> Result<Call, Unsent> {
        let number = self.0.next_call.fetch_add(1, Ordering::Relaxed);
        let lost = body.is_heartbeat() && strikes("raft-drop-heartbeat", number);
        let message = Envelope::encoded(number, body);
        let (answer, receiver) = oneshot::channel();
        // Registered first: the answer may be quicker than this thread.
        self.0.waiting.lock().insert(number, Waiting { peer: to, answer });
        let call = Call { answer: receiver, number, peers: self.clone(), lost: false };
        if !lost {
            self.0.transport.send(to, lane, message)?;
        }
        Ok(call)
    }

    /// Answers call `number` of a peer. An answer that cannot be sent is lost, and the caller
    /// hears of the broken link.
    pub(crate) fn answer(&self, to: MemberId, number: u64, body: Body) {
        fp!("raft-before-follower-send");
        if let Err(error) =
            self.0.transport.send(to, Lane::Control, Envelope::encoded(number, body))
        {
            tracing::debug!(peer = %to, %error, "dropped an answer");
        }
    }

    /// Hands an answer to its caller, if it still waits. Only the called member can answer.
    fn answered(&self, from: MemberId, number: u64, body: Body) {
        let mut waiting = self.0.waiting.lock();
        if waiting.get(&number).is_some_and(|call| call.peer == from)
            && let Some(call) = waiting.remove(&number)
        {
            drop(waiting);
            // The caller may have given up just now.
            let _ = call.answer.send(body);
        }
    }

    /// Notes that messages can or cannot be sent to `peer`.
    fn link_changed(&self, peer: MemberId, up: bool) {
        if !up {
            self.0.waiting.lock().retain(|_, call| call.peer != peer);
        }
    }
}
