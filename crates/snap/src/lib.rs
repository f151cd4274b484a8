//! Raft snapshot files (`.snap`) as etcd writes them: metadata and conf state, never the database.
//!
//! Invariants:
//! - A saved snapshot is durable and whole, or not there.
//! - A file is trusted only if its checksum is right, its name is its own, and the caller's log
//!   has a mark for it.
#![deny(missing_docs)]

mod message;
mod store;

pub use crate::message::{MessageError, Snapshot};
pub use crate::store::{Error, Store};
