//! Write-ahead log in etcd's on-disk format, with group commit.
//!
//! The format is etcd's byte for byte (see `FORMAT.md`); a log written by a real etcd opens here
//! and the other way round. [`Wal`] is the log of one writer, [`Writer`] a thread around it that
//! makes one write and one sync of everything that waits.
//!
//! ```
//! use etcdrs_platform::OsFs;
//! use etcdrs_types::{LogIndex, Term};
//! use etcdrs_wal::{Batch, Entry, Metadata, Options, SnapshotMark, StartAt, Wal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let parent = tempfile::tempdir()?;
//! let dir = parent.path().join("wal");
//! let mut wal = Wal::create(OsFs, &dir, &Metadata::default(), Options::default())?;
//! let entry = Entry { term: Term(1), index: LogIndex(1), ..Entry::default() };
//! assert_eq!(wal.save(&Batch::entries(vec![entry.clone()]))?, LogIndex(1));
//! drop(wal);
//!
//! let start = StartAt::Mark(SnapshotMark::default());
//! let opened = Wal::open(OsFs, &dir, &start, Options::default())?;
//! assert_eq!(opened.content.entries, [entry]);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - What [`Wal::sync`] or a [`Writer`] acknowledged survives any crash.
//! - A failed write or sync is final: the log takes nothing more until it is opened again.
//! - Reading gives a prefix of what was written or refuses; it never gives an altered entry, and
//!   never less than what the log itself calls committed.
#![deny(missing_docs)]

mod content;
mod error;
mod evidence;
mod options;
mod purge;
mod reader;
mod record;
mod replay;
mod scan;
mod segment;
mod spare;
mod types;
mod wal;
mod writer;

pub use crate::error::{CreateError, Damage, OpenError, WriteError, WriteFailed};
pub use crate::options::{NoObserver, Observer, Options, Prepare, StartAt};
pub use crate::purge::purge;
pub use crate::reader::{Summary, metadata, read_entries, read_only, verify};
pub use crate::replay::Replayed;
pub use crate::types::{Batch, Entry, EntryKind, HardState, Metadata, SnapshotMark, Vote};
pub use crate::wal::{Opened, Repaired, Wal};
pub use crate::writer::{Completion, Hand, Writer};
