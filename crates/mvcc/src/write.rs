//! Batches of changes.

use std::sync::Arc;

use etcdrs_backend::{Backend, Batch, Bucket};
use etcdrs_types::Revision;

use crate::overlay::Overlay;
use crate::state::Shared;
use crate::{CompactError, EventBlock, KeyMeta, PrevKv, Store, StoredKv, Txn, WriteError, schema};

/// A batch of at most this many bytes leaves its buffer to the next one.
const SPARE_BYTES_MAX: usize = 1 << 20;

/// What a commit made visible.
#[derive(Debug)]
pub struct Committed {
    /// The events of the batch, one block per revision, for the watch hub.
    pub blocks: Vec<Arc<EventBlock>>,
    /// The current revision.
    pub revision: i64,
}

/// Changes of several committed entries that become visible and durable together.
///
/// Each entry is a [`Txn`]; later ones see the earlier ones. Until [`Self::commit`] nobody else
/// sees anything.
#[derive(Debug)]
pub struct WriteBatch<'a> {
    /// Held to the end: there is one batch at a time.
    store: &'a mut Store,
    pub(crate) rows: Batch,
    pub(crate) overlay: Overlay,
    pub(crate) blocks: Vec<Arc<EventBlock>>,
    /// The published revision when the batch began.
    pub(crate) base: i64,
    pub(crate) revision: i64,
    compact_revision: i64,
    /// For rows that are put together before they go into the batch.
    pub(crate) scratch: Vec<u8>,
}

impl<'a> WriteBatch<'a> {
    pub(crate) fn new(store: &'a mut Store) -> Self {
        let state = store.shared.state.read();
        let (base, compact_revision) = (state.revision, state.compact_revision);
        drop(state);
        let rows = std::mem::take(&mut store.spare_rows);
        Self {
            store,
            rows,
            overlay: Overlay::default(),
            blocks: Vec::new(),
            base,
            revision: base,
            compact_revision,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.store.shared
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.store.backend
    }

    /// The database batch, for rows of other buckets that belong to the same entries.
    pub fn backend_batch(&mut self) -> &mut Batch {
        &mut self.rows
    }

    /// The current revision, with the changes of this batch.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compacted revision, with the changes of this batch; -1 if there is none.
    #[must_use]
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Begins the changes of one entry, which get one main revision.
    ///
    /// Dropping the [`Txn`] ends it like [`Txn::finish`]: changes cannot be taken back, so callers
    /// check an entry before they change anything.
    pub fn txn(&mut self) -> Txn<'_, 'a> {
        Txn::new(self)
    }

    /// Records a compaction at `at` (CP-01). The removal is a [`CompactionJob`](crate::CompactionJob)
    /// of its own, after the commit.
    ///
    /// # Errors
    /// See [`CompactError`].
    pub fn compact(&mut self, at: i64) -> Result<(), CompactError> {
        if at <= self.compact_revision {
            return Err(CompactError::Compacted);
        }
        if at > self.revision {
            return Err(CompactError::Future);
        }
        self.compact_revision = at;
        let row = Revision::main(at).to_key();
        self.rows.put(Bucket::Meta, schema::SCHEDULED_COMPACT_ROW, &row);
        Ok(())
    }

    /// The newest state of `key`, and its pair if that is in memory.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<(KeyMeta, Option<StoredKv>)> {
        if let Some(changes) = self.overlay.get(key) {
            let change = changes.last();
            return Some((change.meta()?, change.kv().cloned()));
        }
        let state = self.shared().state.read();
        let slot = state.tree.get(key)?;
        Some((slot.meta()?, slot.value().cloned()))
    }

    /// What an event of the entry that is being made says of `key`'s state before the entry
    /// (WA-17). `latest` is its state now.
    pub(crate) fn before(&self, key: &[u8], latest: (KeyMeta, Option<StoredKv>)) -> PrevKv {
        let known = |kv: Option<StoredKv>| kv.map_or(PrevKv::Lookup, PrevKv::Known);
        let (meta, kv) = latest;
        if meta.mod_revision.main <= self.revision {
            return known(kv);
        }
        // The entry itself changed the key already.
        let earlier = self.overlay.get(key).and_then(|changes| changes.at(self.revision));
        if let Some(change) = earlier {
            return change.meta().map_or(PrevKv::None, |_| known(change.kv().cloned()));
        }
        let state = self.shared().state.read();
        let slot = state.tree.get(key).filter(|slot| slot.is_live());
        slot.map_or(PrevKv::None, |slot| known(slot.value().cloned()))
    }

    /// Writes the batch to the database in one piece, then makes index, values, counts, events
    /// and revision visible together.
    ///
    /// # Errors
    /// If the database refuses; nothing is visible then.
    pub fn commit(self) -> Result<Committed, WriteError> {
        let Self { store, mut rows, overlay, blocks, revision, compact_revision, .. } = self;
        let size_bytes = rows.size_bytes();
        store.backend.write_and_clear(&mut rows)?;
        if size_bytes <= SPARE_BYTES_MAX {
            store.spare_rows = rows;
        }
        let shared = &store.shared;
        if revision == shared.state.read().revision
            && compact_revision == shared.state.read().compact_revision
        {
            return Ok(Committed { blocks, revision });
        }
        let mut state = shared.state.write();
        for (key, changes) in overlay.into_iter() {
            changes.into_iter().for_each(|change| state.tree.apply(&key, change));
        }
        blocks.iter().for_each(|block| state.ring.push(block));
        state.ring.trim();
        state.revision = revision;
        state.compact_revision = compact_revision;
        shared.publish_numbers(&state);
        shared.evict(&mut state);
        drop(state);
        Ok(Committed { blocks, revision })
    }
}
