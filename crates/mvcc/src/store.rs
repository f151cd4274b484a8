//! The store: its settings and its writing side.

use std::sync::Arc;

use bytes::Bytes;
use etcdrs_backend::{Backend, Batch};
use etcdrs_types::LeaseId;

use crate::state::Shared;
use crate::{OpenError, Reader, WriteBatch, restore};

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
    /// Keys, as far as they are stored (shared prefixes once).
    pub keys: usize,
    /// Cached values.
    pub values: usize,
    /// Recent events, some of which share their bytes with cached values.
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
    pub(crate) shared: Arc<Shared>,
    /// Empty, with the memory of the batch before.
    pub(crate) spare_rows: Batch,
}

impl Store {
    /// Opens the store in `backend` and rebuilds the key index.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(backend: Backend, options: &Options) -> Result<Opened, OpenError> {
        restore::open(backend, options)
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { shared: Arc::clone(&self.shared) }
    }

    /// Begins a batch of changes. Dropping it without a commit changes nothing.
    pub fn begin(&mut self) -> WriteBatch<'_> {
        WriteBatch::new(self)
    }
}
