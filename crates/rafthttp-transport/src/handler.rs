//! What the transport's user does with what arrives.

use bytes::Bytes;
use etcdrs_types::MemberId;
use futures_util::future::BoxFuture;

use crate::snapshot::SnapshotBody;

/// Receives messages and news about links. All but [`Self::receive_snapshot`] return at once.
pub trait Handler: Send + Sync + 'static {
    /// Everything that one read brought from a member, in order. What is left in `messages` found
    /// no room: it is counted, logged and dropped. Messages share the memory they were read into: copy what is kept for long.
    fn receive(&self, from: MemberId, messages: &mut Vec<Bytes>);

    /// Whether `member` was removed from the cluster for good.
    fn is_removed(&self, member: MemberId) -> bool;

    /// Messages to `peer` can or cannot be sent from now on. "Down" also says that some of what
    /// was sent before may be lost, even when "up" follows at once.
    fn link_changed(&self, peer: MemberId, up: bool);

    /// `peer` says that this member was removed from the cluster. Called once for each peer.
    fn removed_by_peer(&self, peer: MemberId);

    /// A snapshot arrives. It is good when [`SnapshotBody::chunk`] has returned `None`, and not
    /// before. The sender gets the answer.
    fn receive_snapshot<'a>(
        &'a self,
        from: MemberId,
        head: Bytes,
        body: SnapshotBody,
    ) -> BoxFuture<'a, Result<Bytes, SnapshotRefused>>;

    /// A member that is not a peer spoke to us, and can be reached at `urls`. The transport can
    /// answer it from now on.
    fn unknown_sender(&self, from: MemberId, urls: Vec<String>);
}

/// Why a snapshot was not taken; the sender reads the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotRefused {
    /// Its head or body cannot be understood (400).
    #[error("{0}")]
    Malformed(String),
    /// It could not be stored, or is not wanted now (500).
    #[error("{0}")]
    Failed(String),
}
