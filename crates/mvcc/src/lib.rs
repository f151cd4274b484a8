//! Multi-version key-value store with etcd's semantics, and its watch hub.
//!
//! A [`Store`] keeps the history of all keys in a [`Backend`](etcdrs_backend::Backend), and an
//! index of it in memory: every key with its live revisions and, within a budget, its newest
//! pair. One thread writes through [`Store::begin`]; any number read through a [`Reader`].
//! Everything is synchronous; there is no clock and no randomness.
//!
//! Invariants:
//! - A batch is in the database before anything of it is visible, and becomes visible at once:
//!   index, values, counts, events and current revision under one lock.
//! - A reader fixes its revision under that lock and sees exactly that revision, however long it
//!   takes; if a compaction overtakes it, it says so instead of answering with gaps.
//! - [`Store::replace`] swaps all of that, and the database below, under the same lock; every
//!   [`Reader`] goes on. The new history contains the old one, or a suffix of it.
//! - Bucket `index` has a row for every row of bucket `key`; both are written and removed in the
//!   same batches.

mod compaction;
mod error;
mod event;
mod hash;
mod history;
mod index;
mod kv;
mod overlay;
mod query;
mod range;
mod reader;
mod restore;
mod ring;
mod schema;
mod splice;
mod state;
mod store;
mod txn;
mod warm;
pub mod watch;
mod write;

pub use crate::compaction::{CompactionJob, Progress};
pub use crate::error::{CompactError, OpenError, RangeError, ReplaceError, WriteError};
pub use crate::event::{Event, EventBlock, EventKind, PrevKv, deleted_kv};
pub use crate::hash::HashKv;
pub use crate::kv::{KeyMeta, KvFields, StoredKv};
pub use crate::query::{RangeQuery, RangeResult, SortOrder, SortTarget};
pub use crate::reader::Reader;
pub use crate::restore::Loaded;
pub use crate::splice::{Splice, Spliced};
pub use crate::store::{Memory, Opened, Options, Retired, Stats, Store};
pub use crate::txn::{Deleted, PutDone, Txn};
pub use crate::warm::WarmJob;
pub use crate::write::{Committed, WriteBatch};
