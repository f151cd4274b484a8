//! openraft on top of `wal`, `snap` and `apply`.
//!
//! The only crate that sees openraft's types. A [`Node`] is one member's raft: it takes encoded
//! requests ([`Handle::propose`]), answers with what the state machine made of them, and tells
//! when a linearizable read may run ([`Handle::read_barrier`]).
//!
//! Invariants:
//! - Vote and log are one ordered stream in one write-ahead log; what openraft is told is durable
//!   was synced by the log's writer.
//! - An entry is applied only after this member's own log has synced it, so the database never
//!   runs ahead of the log.
//! - The log is purged only up to what the database has durably flushed.
//! - A read round starts after every read it serves has arrived.
#![deny(missing_docs)]

mod contact;
mod error;
mod forwarded;
mod handle;
mod load;
mod log_store;
mod members;
mod node;
mod peers;
mod propose;
mod reads;
mod runtime;
mod snapshots;
mod state_machine;
mod types;
mod upkeep;

pub use crate::error::{AskError, ChangeError, ProposeError, ReadError, StartError, TransferError};
pub use crate::handle::{Handle, Status};
pub use crate::log_store::LogCacheStats;
pub use crate::members::{Membership, Progress};
pub use crate::node::{Config, Node};
pub use crate::peers::{
    Answering, Chunks, Inbound, Lane, NoPeers, SnapshotRefused, SnapshotUnsent, Transport, Unsent,
};
pub use crate::propose::Committed;
pub use crate::runtime::{Platform, Threads};
pub use crate::snapshots::{DatabaseError, live_database};

/// Compiles the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
