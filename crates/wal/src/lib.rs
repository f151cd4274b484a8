//! Write-ahead log in etcd's on-disk format, with group commit.
#![deny(missing_docs)]

mod error;
mod options;
mod types;
mod wal;
mod writer;

pub use crate::error::{CreateError, Damage, OpenError, WriteError, WriteFailed};
pub use crate::options::{NoObserver, Observer, Options, Prepare, StartAt};
pub use crate::types::{Batch, Entry, EntryKind, HardState, Metadata, SnapshotMark, Vote};
pub use crate::wal::{Content, Opened, Wal};
pub use crate::writer::{Completion, Writer};
