//! The store.
use bytes::Bytes;
use etcdrs_backend::Backend;
use etcdrs_types::LeaseId;

use crate::{OpenError, Reader, WriteBatch};

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for newest values, bytes; beyond it cold ones are read from the database.
    pub value_cache_bytes: usize,
    /// Memory for recent events, bytes.
    pub event_ring_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { value_cache_bytes: 256 << 20, event_ring_bytes: 64 << 20 }
    }
}

/// A store that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Keys that are attached to a lease, sorted by key.
    pub leased_keys: Vec<(LeaseId, Bytes)>,
}

/// Memory a store takes, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Key index without the keys.
    pub index: usize,
    /// Keys.
    pub keys: usize,
    /// Cached values.
    pub values: usize,
    /// Recent events.
    pub ring: usize,
}

/// Counts of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Keys that exist at the current revision.
    pub keys: i64,
    /// Keys in the index, deleted ones included.
    pub index_entries: usize,
    /// Current revision.
    pub revision: i64,
    /// Compacted revision; -1 if there is none.
    pub compact_revision: i64,
    /// Newest compaction whose removal is finished; -1 if there is none.
    pub finished_compact_revision: i64,
}

/// The writing side of the store; there is one. Reads go through [`Store::reader`].
#[derive(Debug)]
pub struct Store {
    reader: Reader,
}

impl Store {
    /// Opens the store in `backend` and rebuilds the key index.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(_backend: Backend, _options: &Options) -> Result<Opened, OpenError> {
        unreachable!("being built")
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Begins a batch of changes. Dropping it without a commit changes nothing.
    pub fn begin(&mut self) -> WriteBatch<'_> {
        unreachable!("being built")
    }
}
