//! The other members: raft's messages on the peer transport, and whom the transport talks to.

mod answers;
mod questions;
mod tls;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use etcdrs_apply::Shared;
use etcdrs_raft_glue::{self as raft, Inbound};
use etcdrs_rafthttp_transport::{
    self as rafthttp, BoxFuture, Handler, SendError, SnapshotBody, Transport,
};
use etcdrs_types::MemberId;
use futures_util::StreamExt as _;
use tokio::sync::watch;

pub(crate) use self::answers::PeerAnswers;
pub(crate) use self::questions::{DiscoveryClient, PeerQuestions};
pub(crate) use self::tls::{PeerDialer, PeerDoor};
use crate::bootstrap::Bootstrap;

/// Raft's way out. The transport comes once the member knows who it is; before, nobody is there.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<OnceLock<Transport>>);

impl Wire {
    pub(crate) fn connect(&self, transport: Transport) {
        if self.0.set(transport).is_err() {
            tracing::error!("the peer transport was connected twice");
        }
    }
}

impl raft::Transport for Wire {
    fn send(&self, to: MemberId, lane: raft::Lane, message: Bytes) -> Result<(), raft::Unsent> {
        let transport = self.0.get().ok_or(raft::Unsent::NoLink)?;
        let lane = match lane {
            raft::Lane::Append => rafthttp::Lane::Append,
            raft::Lane::Control => rafthttp::Lane::Control,
        };
        transport.send(to, lane, message).map_err(|error| match error {
            SendError::Full => raft::Unsent::Full,
            SendError::Unknown | SendError::Inactive => raft::Unsent::NoLink,
        })
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: raft::Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, raft::SnapshotUnsent>> + Send>> {
        let transport = self.0.get().cloned();
        Box::pin(async move {
            let transport =
                transport.ok_or_else(|| raft::SnapshotUnsent("no peer transport yet".into()))?;
            let sent = transport.send_snapshot(to, head, chunks).await;
            sent.map_err(|error| raft::SnapshotUnsent(error.to_string()))
        })
    }
}

/// Raft's way in.
pub(crate) struct Delivery {
    pub(crate) inbound: Inbound,
    pub(crate) state: Shared,
    /// Turns true when the others say that this member was removed.
    pub(crate) removed: watch::Sender<bool>,
}

impl Handler for Delivery {
    fn receive(&self, from: MemberId, messages: &mut Vec<Bytes>) {
        self.inbound.receive(from, messages);
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.state.cluster.read().is_removed(member)
    }

    fn link_changed(&self, peer: MemberId, up: bool) {
        self.inbound.link_changed(peer, up);
    }

    fn removed_by_peer(&self, peer: MemberId) {
        tracing::error!(remote_peer_id = %peer, "the member has been permanently removed from the cluster");
        self.removed.send_replace(true);
    }

    fn receive_snapshot<'a>(
        &'a self,
        from: MemberId,
        head: Bytes,
        body: SnapshotBody,
    ) -> BoxFuture<'a, Result<Bytes, rafthttp::SnapshotRefused>> {
        let chunks = futures_util::stream::unfold(Some(body), |body| async move {
            let mut body = body?;
            match body.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(std::io::Error::other(error)), None)),
            }
        });
        Box::pin(async move {
            let received = self.inbound.receive_snapshot(from, head, chunks.boxed()).await;
            received.map_err(|error| match error {
                raft::SnapshotRefused::Head(text) => rafthttp::SnapshotRefused::Malformed(text),
                raft::SnapshotRefused::Failed(text) => rafthttp::SnapshotRefused::Failed(text),
            })
        })
    }

    fn unknown_sender(&self, from: MemberId, urls: Vec<String>) {
        tracing::info!(remote_peer_id = %from, ?urls, "heard of a member that is not known yet");
    }
}

/// Makes the transport talk to the members that the flags, or a running member, named: until the
/// log says who belongs to the cluster.
pub(crate) fn introduce(
    transport: &Transport,
    bootstrap: &Bootstrap,
) -> Result<(), rafthttp::AddError> {
    for member in &bootstrap.members {
        transport.add_peer(member.id, &member.peer_urls)?;
    }
    Ok(())
}

/// Keeps the transport's peers those of the cluster: the newest membership, which counts before it
/// is applied, with the URLs of the records, which come with its application.
pub(crate) async fn keep(transport: Transport, raft: raft::Handle, state: Shared) {
    let mut memberships = raft.watch_membership();
    loop {
        let membership = Arc::clone(&memberships.borrow_and_update());
        adjust(&transport, &raft, &state, &membership);
        // URLs are known once the change is applied.
        let applied = raft.wait_applied(membership.at.1);
        tokio::select! {
            applied = applied => if !applied { return },
            changed = memberships.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        }
        adjust(&transport, &raft, &state, &membership);
        if memberships.changed().await.is_err() {
            return;
        }
    }
}

fn adjust(
    transport: &Transport,
    raft: &raft::Handle,
    state: &Shared,
    membership: &raft::Membership,
) {
    let cluster = state.cluster.read();
    for record in cluster.members().filter(|record| record.id != raft.member()) {
        let added = transport.add_peer(record.id, &record.peer_urls);
        let updated = transport.update_peer(record.id, &record.peer_urls);
        if let (Err(error), _) = (added, updated) {
            tracing::warn!(remote_peer_id = %record.id, %error, "cannot talk to a member");
        }
    }
    for peer in transport.peers().iter().filter(|peer| !peer.is_remote) {
        let belongs = cluster.member(peer.id).is_some()
            || membership.members().any(|member| member == peer.id);
        if cluster.is_removed(peer.id) && !belongs {
            transport.remove_peer(peer.id);
        }
    }
}
