//! etcd's peer protocol: messages, snapshots and small questions between members, over HTTP/1.1.
//!
//! The crate moves opaque messages from member to member and knows nothing of raft. For each peer
//! there are two lanes ([`Lane`]), each with a bounded queue. The messages of a lane travel in the
//! body of a long `GET` that the *receiving* member opened, as in etcd; while there is no such
//! stream they go as `POST /raft`, one at a time, so that order holds across the change. Snapshots
//! go as `POST /raft/snapshot` on connections of their own.
//!
//! Invariants:
//! - [`Transport::send`] never blocks: a full queue drops the message, counts it and says so.
//! - The messages of a lane arrive in the order they were sent, once, or not at all. When sent
//!   ones may be lost, [`Handler::link_changed`] says "down", before it says "up" again.
//! - What arrives has passed a checksum; a damaged frame ends its connection and nothing else.
//! - Lengths are checked before memory is taken, and a snapshot needs the memory of a few chunks.
//! - A peer that is silent, or that takes nothing, is found dead within the configured time-outs.
//! - Statuses and texts of refusals are etcd's (operations.md §3.6, §3.7, §6.6).
//!
//! Everything runs on the tokio runtime that [`Transport::new`] was called on. What is on the wire
//! stands in FORMAT.md.
#![deny(missing_docs)]

mod api;
pub mod client;
mod config;
mod connect;
mod frame;
mod handler;
mod headers;
mod http1;
mod inbound;
mod lane;
mod order;
mod peer;
mod post;
mod probe;
mod proxy;
mod reader;
mod reply;
mod serve;
mod snapshot;
mod time;
mod transport;
mod url;

pub use futures_util::future::BoxFuture;

pub use crate::api::{HashError, HashKv, LeaseError, PeerApi, PeerMember, PromoteError, Versions};
pub use crate::config::{Config, Observer};
pub use crate::connect::{Connect, Io, PlainTcp};
pub use crate::handler::{Handler, SnapshotRefused};
pub use crate::lane::Lane;
pub use crate::proxy::Proxies;
pub use crate::serve::{Accept, Limits, Listener, serve};
pub use crate::snapshot::{SnapshotBody, SnapshotReadError, SnapshotSendError};
pub use crate::transport::{AddError, PeerStatus, SendError, Transport};
pub use crate::url::{PeerUrl, UrlError};

/// Runs the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
