//! The store: its settings and its writing side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use etcdrs_backend::{Backend, Batch};
use etcdrs_types::LeaseId;
use parking_lot::RwLock;

use crate::ring::Ring;
use crate::state::{Shared, State};
use crate::{Loaded, OpenError, Reader, ReplaceError, WriteBatch};

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
    /// The one of [`State`]: the writer needs no lock for it.
    pub(crate) backend: Backend,
    /// Empty, with the memory of the batch before.
    pub(crate) spare_rows: Batch,
}

impl Store {
    /// Opens the store in `backend` and rebuilds the key index.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(backend: Backend, options: &Options) -> Result<Opened, OpenError> {
        let mut loaded = Loaded::open(backend)?;
        let leased_keys = std::mem::take(&mut loaded.leased_keys);
        Ok(Opened { store: Self::with(loaded, options), leased_keys })
    }

    /// The store of a database that was read already.
    #[must_use]
    pub fn with(loaded: Loaded, options: &Options) -> Self {
        let Loaded { backend, tree, revision, compact_revision, finished_compact, .. } = loaded;
        let ring = Ring::new(options.event_ring_bytes, revision);
        let handle = backend.clone();
        let state =
            State { backend: handle, generation: 0, tree, ring, revision, compact_revision };
        let shared = Shared {
            state: RwLock::new(state),
            options: options.clone(),
            revision: AtomicI64::new(revision),
            compact_revision: AtomicI64::new(compact_revision),
            finished_compact: AtomicI64::new(finished_compact),
            job_alive: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), backend, spare_rows: Batch::new() }
    }

    /// Goes on with another database that holds the same history and more of it, as a leader's
    /// snapshot does. Every [`Reader`] sees the new state from one moment on; reads under way end
    /// on the old database or answer that they were compacted. No event comes out of this: the
    /// watch hub is told by [`Hub::restore`](crate::watch::Hub::restore).
    ///
    /// Takes microseconds; the work was done by [`Loaded::open`].
    ///
    /// # Errors
    /// [`ReplaceError`] if the database is older; nothing has changed then.
    pub fn replace(&mut self, loaded: Loaded) -> Result<Retired, ReplaceError> {
        let Loaded { backend, tree, revision, compact_revision, finished_compact, .. } = loaded;
        let ring = Ring::new(self.shared.options.event_ring_bytes, revision);
        let mut state = self.shared.state.write();
        if revision < state.revision || compact_revision < state.compact_revision {
            let current = state.revision.max(state.compact_revision);
            return Err(ReplaceError { offered: revision, current });
        }
        let generation = state.generation + 1;
        let fresh =
            State { backend: backend.clone(), generation, tree, ring, revision, compact_revision };
        let old = std::mem::replace(&mut *state, fresh);
        self.shared.publish_numbers(&state);
        self.shared.finished_compact.store(finished_compact, Ordering::Release);
        drop(state);
        self.backend = backend;
        Ok(Retired { state: old })
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

/// What a store was before it went on with another database. Freeing it takes a while: drop it on
/// a thread that may wait.
#[derive(Debug)]
pub struct Retired {
    state: State,
}

impl Retired {
    /// Frees what was in memory, and hands out the old database. Readers that began before may
    /// still use it: see [`Backend::close`].
    #[must_use]
    pub fn into_backend(self) -> Backend {
        self.state.backend
    }
}
