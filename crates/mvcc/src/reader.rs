//! The reading side.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use etcdrs_backend::Backend;
use etcdrs_types::KeyRange;

use crate::state::Shared;
use crate::{
    CompactionJob, EventBlock, HashKv, Memory, RangeError, RangeQuery, RangeResult, Stats,
    StoredKv, WarmJob, hash, history, range,
};

/// A handle for reading from any thread. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

impl Reader {
    /// The current revision.
    #[must_use]
    pub fn current_revision(&self) -> i64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    /// The compacted revision; -1 if there is none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.shared.compact_revision.load(Ordering::Acquire)
    }

    /// Newest compaction whose removal is finished; -1 if there is none.
    #[must_use]
    pub fn finished_compact_revision(&self) -> i64 {
        self.shared.finished_compact.load(Ordering::Acquire)
    }

    /// Reads a range (RG-03 to RG-11). Long ones hold no lock for long.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError> {
        range::published(&self.shared, query)
    }

    /// Keys of `range` at the current revision.
    #[must_use]
    pub fn count(&self, range: &KeyRange) -> i64 {
        self.shared.state.read().tree.count(range)
    }

    /// The pair of `key` at `revision`, if it existed.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn get_at(&self, key: &[u8], revision: i64) -> Result<Option<StoredKv>, RangeError> {
        let range = KeyRange::single(Bytes::copy_from_slice(key));
        let query = RangeQuery { revision, ..RangeQuery::new(range) };
        Ok(self.range(&query)?.kvs.pop())
    }

    /// Hands a short list of the newest state to `sink` as it lies in memory. `None`, with nothing
    /// handed out, where [`Self::range`] has to answer: another kind of query, more than
    /// `pairs_max` pairs, or a value that is not in memory.
    pub fn splice(
        &self,
        query: &RangeQuery,
        pairs_max: usize,
        sink: &mut impl crate::Splice,
    ) -> Option<crate::Spliced> {
        crate::splice::splice(&self.shared, query, pairs_max, sink)
    }

    /// Recent events from main revision `from` on, up to the current one; `None` if the ring
    /// does not reach back that far.
    #[must_use]
    pub fn blocks(&self, from: i64) -> Option<Vec<Arc<EventBlock>>> {
        self.shared.state.read().ring.blocks(from, i64::MAX, usize::MAX)
    }

    /// Events of the revisions `from..=to` (at most up to the current one), from the ring or from
    /// the database; not more than `revisions_max` revisions with changes. Only revisions with
    /// changes have a block.
    ///
    /// # Errors
    /// [`RangeError::Compacted`] if `from` is below the compacted revision.
    pub fn history(
        &self,
        from: i64,
        to: i64,
        revisions_max: usize,
    ) -> Result<Vec<Arc<EventBlock>>, RangeError> {
        history::read(&self.shared, from, to, revisions_max)
    }

    /// Hashes the history up to `revision`, 0 for the current one, negative for none of it
    /// (MT-04). Reads everything: call it from a thread that may block.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, RangeError> {
        hash::hash_kv(&self.shared, revision)
    }

    /// Hashes all buckets that etcd has too, but for the rows that differ between equal members
    /// (MT-03). Reads everything.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn hash(&self) -> Result<u32, RangeError> {
        hash::hash(&self.shared)
    }

    /// The removal that is due after a compaction, if any. There is one job at a time: `None`
    /// also while another is alive.
    #[must_use]
    pub fn compaction_job(&self) -> Option<CompactionJob> {
        CompactionJob::start(&self.shared)
    }

    /// Reads newest pairs into memory after a start; every one is optional.
    #[must_use]
    pub fn warm_job(&self) -> WarmJob {
        WarmJob::new(&self.shared)
    }

    /// The database below, as it is now. It stays open for as long as the handle lives, also when
    /// the store has gone on with another one: don't keep it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.shared.state.read().backend.clone()
    }

    /// Memory taken. Walks the leaves of the index: some milliseconds for millions of keys.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let state = self.shared.state.read();
        let (index, keys) = state.tree.memory();
        Memory { index, keys, values: state.tree.value_bytes(), ring: state.ring.bytes() }
    }

    /// Counts.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.shared.state.read();
        Stats {
            keys: state.tree.live(),
            index_entries: state.tree.entries(),
            revision: state.revision,
            compact_revision: state.compact_revision,
            finished_compact_revision: self.finished_compact_revision(),
        }
    }
}
