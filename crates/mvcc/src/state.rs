//! What readers and the writer share.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use etcdrs_backend::{Backend, Bucket};
use etcdrs_types::Revision;
use parking_lot::RwLock;

use crate::index::Tree;
use crate::ring::Ring;
use crate::{Options, RangeError, StoredKv};

/// Cold rows read from the database in one call.
pub(crate) const FETCH_ROWS: usize = 256;
/// Leaves that the eviction hand may look at in one commit.
const EVICT_LEAVES_MAX: usize = 256;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: RwLock<State>,
    pub(crate) options: Options,
    /// Copies of the numbers in [`State`], for those who need no more.
    pub(crate) revision: AtomicI64,
    pub(crate) compact_revision: AtomicI64,
    pub(crate) finished_compact: AtomicI64,
    pub(crate) job_alive: AtomicBool,
}

/// What is published together.
///
/// Invariant: everything in here is also in the database; `compact_revision <= revision` (but for
/// -1 and 0 in a fresh store).
#[derive(Debug)]
pub(crate) struct State {
    /// The database that the rest describes. Whoever reads rows takes a handle under the lock
    /// under which it read the index, so that both are of one piece.
    pub(crate) backend: Backend,
    /// Counts replacements of the database.
    pub(crate) generation: u64,
    pub(crate) tree: Tree,
    pub(crate) ring: Ring,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

/// Reads rows of bucket `key` that the index names, in any order.
pub(crate) fn fetch(
    backend: &Backend,
    mut wanted: Vec<(usize, Revision)>,
    mut each: impl FnMut(usize, StoredKv),
) -> Result<(), RangeError> {
    wanted.sort_unstable_by_key(|&(_, revision)| revision);
    for chunk in wanted.chunks(FETCH_ROWS) {
        let keys: Vec<_> = chunk.iter().map(|(_, revision)| revision.to_key()).collect();
        let mut missing = None;
        backend.multi_get(Bucket::Key, &keys, |position, row| match row {
            Some(row) => {
                let kv = StoredKv::from_encoded(bytes::Bytes::copy_from_slice(row));
                each(chunk[position].0, kv);
            }
            None => missing = Some(chunk[position].1),
        })?;
        if let Some(revision) = missing {
            return Err(RangeError::Corrupt(revision));
        }
    }
    Ok(())
}

/// Reads one row of bucket `key`.
pub(crate) fn fetch_one(backend: &Backend, revision: Revision) -> Result<StoredKv, RangeError> {
    let row = backend.get(Bucket::Key, &revision.to_key())?;
    row.map(StoredKv::from_encoded).ok_or(RangeError::Corrupt(revision))
}

impl Shared {
    /// Makes the numbers readable without the lock. The caller holds it.
    pub(crate) fn publish_numbers(&self, state: &State) {
        self.revision.store(state.revision, Ordering::Release);
        self.compact_revision.store(state.compact_revision, Ordering::Release);
    }

    pub(crate) fn evict(&self, state: &mut State) {
        state.tree.evict(self.options.value_cache_bytes, EVICT_LEAVES_MAX);
    }
}
