//! Raft snapshot files (`.snap`) as etcd writes them: metadata and conf state, never the database.
#![deny(missing_docs)]

mod message;
mod store;

pub use crate::message::{MessageError, Snapshot};
pub use crate::store::{Error, Store};
