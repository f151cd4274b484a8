//! Batches.
use std::sync::Arc;

use crate::{CompactError, EventBlock, Store, Txn, WriteError};

/// What a commit made visible.
#[derive(Debug)]
pub struct Committed {
    /// The events of the batch, one block per revision, for the watch hub.
    pub blocks: Vec<Arc<EventBlock>>,
    /// The current revision.
    pub revision: i64,
}

/// Changes of several committed entries that become visible and durable together.
#[derive(Debug)]
pub struct WriteBatch<'a> {
    store: &'a mut Store,
}

impl<'a> WriteBatch<'a> {
    /// The database batch, for rows of other buckets that belong to the same entries.
    pub fn backend_batch(&mut self) -> &mut etcdrs_backend::Batch {
        let _ = &self.store;
        unreachable!("being built")
    }

    /// The current revision, with the changes of this batch.
    #[must_use]
    pub fn revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// The compacted revision, with the changes of this batch; -1 if there is none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// Begins the changes of one entry, which get one main revision.
    pub fn txn(&mut self) -> Txn<'_, 'a> {
        unreachable!("being built")
    }

    /// Records a compaction at `at` (CP-01). The removal is a [`CompactionJob`](crate::CompactionJob)
    /// of its own, after the commit.
    ///
    /// # Errors
    /// See [`CompactError`].
    pub fn compact(&mut self, _at: i64) -> Result<(), CompactError> {
        unreachable!("being built")
    }

    /// Writes the batch to the database and makes it visible.
    ///
    /// # Errors
    /// If the database refuses; nothing is visible then.
    pub fn commit(self) -> Result<Committed, WriteError> {
        unreachable!("being built")
    }
}
