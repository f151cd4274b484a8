//! Snapshots of a member: raft's in `.snap` files as etcd writes them (metadata and conf state), and
//! whole databases that come from a peer or go to one.
//!
//! The two don't mix: a `.snap` file never holds the database, and a database is a directory of
//! files whose content is nobody's business here.
//!
//! Invariants:
//! - A saved snapshot is durable and whole, or not there.
//! - A file is trusted only if its checksum is right, its name is its own, and the caller's log
//!   has a mark for it.
//! - A received database gets its name when every byte of it was checked and is durable; the
//!   database in use changes by one rename, so a start opens the old one or the new one, whole.
#![deny(missing_docs)]

mod db;
mod message;
mod store;

pub use crate::db::{
    CHUNK_BYTES, DbDirs, DbError, DbFile, IncomingDb, IncomingError, Manifest, ManifestError,
    OutgoingDb, OutgoingReader, ReceivedDb,
};
pub use crate::message::{MessageError, Snapshot};
pub use crate::store::{Error, Store};
