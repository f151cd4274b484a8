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

mod error;
mod log_store;
mod network;
mod node;
mod propose;
mod reads;
mod state_machine;
mod types;

pub use crate::error::{ProposeError, ReadError, StartError};
pub use crate::log_store::LogCacheStats;
pub use crate::node::{Config, Handle, Node, Status};
pub use crate::propose::Committed;

/// Compiles the example of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
