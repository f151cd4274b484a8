//! Multi-version key-value store with etcd's semantics, and its watch hub.

mod error;
mod event;
mod kv;
mod query;
mod reader;
mod store;
mod txn;
pub mod watch;
mod write;

pub use crate::error::{CompactError, OpenError, RangeError, WriteError};
pub use crate::event::{Event, EventBlock, EventKind, PrevKv, deleted_kv};
pub use crate::kv::{KeyMeta, KvFields, StoredKv};
pub use crate::query::{RangeQuery, RangeResult, SortOrder, SortTarget};
pub use crate::reader::{CompactionJob, HashKv, Progress, Reader};
pub use crate::store::{Memory, Opened, Options, Stats, Store};
pub use crate::txn::{Deleted, PutDone, Txn};
pub use crate::write::{Committed, WriteBatch};
