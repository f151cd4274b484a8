//! The transport: who the peers are, and the way to them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use etcdrs_platform::Tick;
use etcdrs_types::MemberId;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::api::PeerApi;
use crate::config::{Config, REMOTES_MAX};
use crate::handler::Handler;
use crate::headers::Identity;
use crate::inbound;
use crate::lane::Lane;
use crate::peer::{Context, Kind, Peer};
use crate::snapshot::{self, SnapshotSendError};
use crate::url::{PeerUrl, UrlError, parse_all};

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No member by this id is known.
    #[error("unknown member")]
    Unknown,
    /// The peer could not be reached a moment ago.
    #[error("the peer cannot be reached")]
    Inactive,
    /// Too much waits already, or the message is larger than 512 MiB.
    #[error("sending buffer is full")]
    Full,
}

/// Why a peer was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// One of its URLs is none, or there are none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The transport was stopped.
    #[error("transport stopped")]
    Stopped,
}

/// What is known about a peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its id.
    pub id: MemberId,
    /// Its URLs.
    pub urls: Vec<PeerUrl>,
    /// It is no member we know, but spoke to us.
    pub is_remote: bool,
    /// Since when messages can be sent; `None` if they cannot.
    pub active_since: Option<Tick>,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// How far its clock is ahead of ours, milliseconds.
    pub clock_drift_ms: Option<i64>,
    /// Messages that wait for it.
    pub queued_messages: usize,
    /// Bytes of these.
    pub queued_bytes: usize,
    /// Messages that were dropped or lost on the way, since the peer was added.
    pub dropped: u64,
}

/// The transport of one member. Cloneable.
///
/// Its tasks run until [`Self::stop`].
#[derive(Clone)]
pub struct Transport(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    peers: Mutex<Peers>,
}

/// Invariant: empty once `stopped`.
#[derive(Default)]
struct Peers {
    members: HashMap<MemberId, Arc<Peer>>,
    remotes: HashMap<MemberId, Arc<Peer>>,
    stopped: bool,
}

impl Transport {
    /// A transport without peers.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(config: Config, handler: Arc<dyn Handler>) -> Self {
        let context = Arc::new(Context {
            identity: Identity::new(&config),
            config,
            handler,
            runtime: Handle::current(),
            stop: watch::Sender::new(false),
        });
        Self(Arc::new(Inner { context, peers: Mutex::default() }))
    }

    /// What the peer port serves.
    pub fn router(&self, api: Arc<dyn PeerApi>) -> Router {
        inbound::router(self.clone(), api)
    }

    /// Adds a member and begins to connect to it. Nothing happens if it is there already, or is
    /// this member.
    ///
    /// # Errors
    ///
    /// Its URLs are bad, or the transport was stopped.
    pub fn add_peer(&self, id: MemberId, urls: &[String]) -> Result<(), AddError> {
        let context = &self.0.context;
        let urls = parse_all(urls)?;
        let mut peers = self.0.peers.lock();
        if peers.stopped {
            return Err(AddError::Stopped);
        }
        if id == context.config.member || peers.members.contains_key(&id) {
            return Ok(());
        }
        let peer = Arc::new(Peer::new(context.clone(), id, urls.clone(), Kind::Member));
        peers.members.insert(id, peer.clone());
        drop(peers);
        tracing::info!(remote_peer_id = %id, "starting remote peer");
        peer.start();
        log_posts(context.config.member, id);
        tracing::info!(remote_peer_id = %id, "started remote peer");
        tracing::info!(
            local_member_id = %context.config.member,
            remote_peer_id = %id,
            remote_peer_urls = ?urls,
            "added remote peer"
        );
        Ok(())
    }

    /// Changes the URLs of a member. Streams that work go on; unknown members are ignored.
    ///
    /// # Errors
    ///
    /// The URLs are bad.
    pub fn update_peer(&self, id: MemberId, urls: &[String]) -> Result<(), UrlError> {
        let urls = parse_all(urls)?;
        let peer = self.0.peers.lock().members.get(&id).cloned();
        if let Some(peer) = peer {
            tracing::info!(remote_peer_id = %id, remote_peer_urls = ?urls, "updated remote peer");
            peer.urls.replace(urls);
        }
        Ok(())
    }

    /// Ends all traffic with a member. Harmless when it is gone already.
    pub fn remove_peer(&self, id: MemberId) {
        let peer = self.0.peers.lock().members.remove(&id);
        if let Some(peer) = peer {
            drop(peer.close());
            tracing::info!(
                local_member_id = %self.0.context.config.member,
                removed_remote_peer_id = %id,
                "removed remote peer"
            );
        }
    }

    /// Ends all traffic with all members.
    pub fn remove_all(&self) {
        let ids: Vec<MemberId> = self.0.peers.lock().members.keys().copied().collect();
        for id in ids {
            self.remove_peer(id);
        }
    }

    /// Makes it possible to answer somebody who is no member we know. Nothing happens if it is a
    /// peer or remote already, or if there are very many remotes.
    ///
    /// # Errors
    ///
    /// Its URLs are bad, or the transport was stopped.
    pub fn add_remote(&self, id: MemberId, urls: &[String]) -> Result<(), AddError> {
        self.insert_remote(id, urls).map(|_| ())
    }

    /// Whether there is a new remote.
    fn insert_remote(&self, id: MemberId, urls: &[String]) -> Result<bool, AddError> {
        let context = &self.0.context;
        let urls = parse_all(urls)?;
        let mut peers = self.0.peers.lock();
        if peers.stopped {
            return Err(AddError::Stopped);
        }
        let known = id == context.config.member
            || peers.members.contains_key(&id)
            || peers.remotes.contains_key(&id);
        if known || peers.remotes.len() >= REMOTES_MAX {
            return Ok(false);
        }
        let remote = Peer::new(context.clone(), id, urls.clone(), Kind::Remote);
        peers.remotes.insert(id, Arc::new(remote));
        drop(peers);
        log_posts(context.config.member, id);
        tracing::info!(remote_peer_id = %id, remote_peer_urls = ?urls, "added new remote peer");
        Ok(true)
    }

    /// Somebody spoke to us: if it is unknown and says how to reach it, it becomes a remote.
    pub(crate) fn heard_from(&self, id: MemberId, urls: Option<Vec<String>>) {
        let Some(urls) = urls else { return };
        match self.insert_remote(id, &urls) {
            Ok(true) => self.0.context.handler.unknown_sender(id, urls),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(remote_peer_id = %id, %error, "could not add a remote");
            }
        }
    }

    /// Queues a message without blocking.
    ///
    /// # Errors
    ///
    /// The message was dropped.
    pub fn send(&self, to: MemberId, lane: Lane, message: Bytes) -> Result<(), SendError> {
        self.peer(to).ok_or(SendError::Unknown)?.send(lane, message)
    }

    /// Sends a snapshot on a connection of its own and returns what the receiver answers. `chunks`
    /// is read as fast as the receiver takes them; chunks of 64 KiB to 1 MiB do best. Dropping the
    /// future cancels the snapshot.
    ///
    /// # Errors
    ///
    /// The receiver has not taken the snapshot, or its answer was lost.
    pub async fn send_snapshot<S>(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: S,
    ) -> Result<Bytes, SnapshotSendError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let peer = self.peer(to).ok_or(SnapshotSendError::Unknown)?;
        snapshot::send(&peer, head, chunks).await
    }

    /// Since when messages to a member can be sent; `None` if they cannot.
    #[must_use]
    pub fn active_since(&self, id: MemberId) -> Option<Tick> {
        self.peer(id)?.active_since()
    }

    /// All peers and remotes, by id.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let mut all: Vec<PeerStatus> = {
            let peers = self.0.peers.lock();
            let members = &peers.members;
            let remotes = peers.remotes.iter().filter(|(id, _)| !members.contains_key(id));
            members.iter().chain(remotes).map(|(_, peer)| peer.status()).collect()
        };
        all.sort_unstable_by_key(|peer| peer.id);
        all
    }

    /// Ends everything and waits until the tasks are over. Nothing can be added afterwards.
    pub async fn stop(&self) {
        let all: Vec<Arc<Peer>> = {
            let mut peers = self.0.peers.lock();
            let stopped = Peers { stopped: true, ..Peers::default() };
            let Peers { members, remotes, .. } = std::mem::replace(&mut *peers, stopped);
            members.into_values().chain(remotes.into_values()).collect()
        };
        self.0.context.stop.send_replace(true);
        for peer in all {
            peer.close().shutdown().await;
        }
    }

    /// A member or remote.
    pub(crate) fn peer(&self, id: MemberId) -> Option<Arc<Peer>> {
        let peers = self.0.peers.lock();
        peers.members.get(&id).or_else(|| peers.remotes.get(&id)).cloned()
    }

    /// A member, not a remote.
    pub(crate) fn member(&self, id: MemberId) -> Option<Arc<Peer>> {
        self.0.peers.lock().members.get(&id).cloned()
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.0.context.stop.borrow()
    }
}

/// That messages can be posted from now on, in etcd's words (T20).
fn log_posts(local: MemberId, remote: MemberId) {
    tracing::info!(
        local_member_id = %local,
        remote_peer_id = %remote,
        "started HTTP pipelining with remote peer"
    );
}
