//! The reading side.
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_types::KeyRange;

use crate::{EventBlock, Memory, RangeError, RangeQuery, RangeResult, Stats, StoredKv};

/// A handle for reading from any thread.
#[derive(Clone, Debug)]
pub struct Reader {}

/// A hash of the history up to a revision (storage-and-raft.md §3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The revision that was hashed.
    pub revision: i64,
    /// The compacted revision at that moment.
    pub compact_revision: i64,
    /// The current revision at that moment.
    pub current_revision: i64,
}

/// How far a [`CompactionJob`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to remove.
    More,
    /// The compaction at this revision is finished.
    Finished {
        /// The revision.
        revision: i64,
    },
}

/// Removes what a compaction made unreachable, in slices.
#[derive(Debug)]
pub struct CompactionJob {}

impl CompactionJob {
    /// The revision this job compacts at.
    #[must_use]
    pub fn revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// Looks at up to `items_max` keys and removes what is dead.
    ///
    /// # Errors
    /// If the database cannot be written; the job can be tried again after a restart.
    pub fn step(&mut self, _items_max: usize) -> Result<Progress, RangeError> {
        unreachable!("being built")
    }
}

impl Reader {
    /// The current revision.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// The compacted revision; -1 if there is none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// Reads a range (RG-03 to RG-11).
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn range(&self, _query: &RangeQuery) -> Result<RangeResult, RangeError> {
        unreachable!("being built")
    }

    /// Keys of `range` at the current revision.
    #[must_use]
    pub fn count(&self, _range: &KeyRange) -> i64 {
        unreachable!("being built")
    }

    /// The pair of `key` at `revision`, if it existed.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn get_at(&self, _key: &[u8], _revision: i64) -> Result<Option<StoredKv>, RangeError> {
        unreachable!("being built")
    }

    /// Recent events from main revision `from` on, up to the current one; `None` if the ring
    /// does not reach back that far.
    #[must_use]
    pub fn blocks(&self, _from: i64) -> Option<Vec<Arc<EventBlock>>> {
        unreachable!("being built")
    }

    /// Events of the revisions `from..=to` (at most up to the current one), from the ring or from
    /// the database; not more than `revisions_max` revisions with changes. Only revisions with
    /// changes have a block.
    ///
    /// # Errors
    /// [`RangeError::Compacted`] if `from` is below the compacted revision.
    pub fn history(
        &self,
        _from: i64,
        _to: i64,
        _revisions_max: usize,
    ) -> Result<Vec<Arc<EventBlock>>, RangeError> {
        unreachable!("being built")
    }

    /// Hashes the history up to `revision`, 0 for the current one (MT-04). Reads everything:
    /// call it from a thread that may block.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn hash_kv(&self, _revision: i64) -> Result<HashKv, RangeError> {
        unreachable!("being built")
    }

    /// Hashes the whole database (MT-03).
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn hash(&self) -> Result<u32, RangeError> {
        unreachable!("being built")
    }

    /// The removal that is due after a compaction, if any. There is one job at a time: `None`
    /// also while another is alive.
    #[must_use]
    pub fn compaction_job(&self) -> Option<CompactionJob> {
        unreachable!("being built")
    }

    /// Newest compaction whose removal is finished; -1 if there is none.
    #[must_use]
    pub fn finished_compact_revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// Memory taken.
    #[must_use]
    pub fn memory(&self) -> Memory {
        unreachable!("being built")
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        unreachable!("being built")
    }

    /// The key of the newest put of `key`, shared with the stored pair.
    #[doc(hidden)]
    #[must_use]
    pub fn shared_key(&self, _key: &[u8]) -> Option<Bytes> {
        None
    }
}
