//! Transactions: the changes of one committed entry.

use bytes::Bytes;
use etcdrs_backend::Bucket;
use etcdrs_types::{KeyRange, LeaseId, Revision};

use crate::index::{Change, ChangeKind};
use crate::{
    Event, EventBlock, KeyMeta, PrevKv, RangeError, RangeQuery, RangeResult, StoredKv, WriteBatch,
    deleted_kv, kv, range, schema, state,
};

/// A finished put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// Revision of the put.
    pub revision: Revision,
    /// The key's state before, if it existed.
    pub previous: Option<KeyMeta>,
}

/// A key that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// Its state before.
    pub meta: KeyMeta,
}

/// The changes of one committed entry. They see the ones before them, in this entry and in
/// earlier ones of the batch, and share one main revision (RV-02).
#[derive(Debug)]
pub struct Txn<'b, 'a> {
    batch: &'b mut WriteBatch<'a>,
    events: Vec<Event>,
}

impl<'b, 'a> Txn<'b, 'a> {
    pub(crate) fn new(batch: &'b mut WriteBatch<'a>) -> Self {
        Self { batch, events: Vec::new() }
    }

    /// Reads a range. Revision 0 or less reads the newest state, this entry's changes included;
    /// an explicit one reads that revision (TX-10).
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, RangeError> {
        let current = self.revision();
        let at = if query.revision <= 0 { current } else { query.revision };
        if at > current {
            return Err(RangeError::Future);
        }
        if at < self.batch.compact_revision() {
            return Err(RangeError::Compacted);
        }
        let shared = self.batch.shared();
        if self.batch.overlay.is_empty() || at < self.batch.base {
            let published =
                range::published(shared, &RangeQuery { revision: at, ..query.clone() })?;
            return Ok(RangeResult { revision: current, ..published });
        }
        range::overlaid(shared, self.batch.backend(), &self.batch.overlay, query, at, current)
    }

    /// What the index knows of `key` now.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Option<KeyMeta> {
        self.batch.latest(key).map(|(meta, _)| meta)
    }

    /// The newest pair of `key`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<StoredKv>, RangeError> {
        match self.batch.latest(key) {
            None => Ok(None),
            Some((_, Some(kv))) => Ok(Some(kv)),
            Some((meta, None)) => {
                state::fetch_one(self.batch.backend(), meta.mod_revision).map(Some)
            }
        }
    }

    /// Sets `key`. The bytes are copied.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> PutDone {
        let previous = self.batch.latest(key);
        let revision = self.next_revision();
        let (create, version) = match &previous {
            Some((meta, _)) => (meta.create_revision, meta.version + 1),
            None => (revision.main, 1),
        };
        let meta = KeyMeta { create_revision: create, mod_revision: revision, version, lease };
        let pair = kv::encode(key, value, &meta);
        self.batch.rows.put(Bucket::Key, &revision.to_key(), pair.bytes());
        let key = pair.key_bytes();
        let kind = ChangeKind::Put { create, version, lease, kv: Some(pair.clone()) };
        self.record(key.clone(), Change { revision, kind });
        let (previous, prev) = match previous {
            Some((meta, kv)) => (Some(meta), self.batch.before(&key, (meta, kv))),
            None => (None, PrevKv::None),
        };
        self.emit(Event::put(key, revision, previous.is_none(), pair, prev));
        PutDone { revision, previous }
    }

    /// Deletes all keys of `range`, in key order.
    pub fn delete_range(&mut self, range: &KeyRange) -> Vec<Deleted> {
        let mut found = Vec::new();
        if range.is_single() {
            let latest = self.batch.latest(&range.start);
            found.extend(latest.map(|(meta, kv)| (range.start.to_vec(), meta, kv)));
        } else {
            let shared = self.batch.shared();
            let state = shared.state.read();
            range::merged(&state.tree, &self.batch.overlay, range, i64::MAX, |key, live| {
                found.push((key.to_vec(), live.meta, live.kv.cloned()));
                true
            });
        }
        found.into_iter().map(|(key, meta, kv)| self.delete(key, meta, kv)).collect()
    }

    fn delete(&mut self, key: Vec<u8>, meta: KeyMeta, kv: Option<StoredKv>) -> Deleted {
        let revision = self.next_revision();
        let pair = deleted_kv(&key, revision.main);
        let key = pair.key_bytes();
        let mut row = std::mem::take(&mut self.batch.scratch);
        row.clear();
        kv::encode_tombstone(&key, &mut row);
        self.batch.rows.put(Bucket::Key, &revision.to_tombstone_key(), &row);
        self.batch.scratch = row;
        self.record(key.clone(), Change { revision, kind: ChangeKind::Delete });
        let prev = self.batch.before(&key, (meta, kv));
        self.emit(Event::delete(key.clone(), revision, pair, prev));
        Deleted { key, meta }
    }

    /// Writes the index row of `change` and lets later reads of the batch see it.
    fn record(&mut self, key: Bytes, change: Change) {
        let mut row = std::mem::take(&mut self.batch.scratch);
        schema::index_key(&key, change.revision, &mut row);
        self.batch.rows.put(Bucket::Index, &row, &schema::index_value(&change));
        self.batch.scratch = row;
        self.batch.overlay.push(key, change);
    }

    /// Most entries change one key, and their event stays in memory: no room for more is taken.
    fn emit(&mut self, event: Event) {
        if self.events.capacity() == 0 {
            self.events.reserve_exact(1);
        }
        self.events.push(event);
    }

    fn next_revision(&self) -> Revision {
        Revision { main: self.batch.revision + 1, sub: self.events.len() as i64 }
    }

    /// Whether anything was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        !self.events.is_empty()
    }

    /// The current revision as this entry sees it: one more than before once it changed something.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.batch.revision + i64::from(self.changed())
    }

    /// Ends the entry: the current revision after it (unchanged if it changed nothing).
    pub fn finish(self) -> i64 {
        self.revision()
    }
}

impl Drop for Txn<'_, '_> {
    fn drop(&mut self) {
        if self.changed() {
            self.batch.revision += 1;
            let events = std::mem::take(&mut self.events);
            self.batch.blocks.push(EventBlock::new(self.batch.revision, events));
        }
    }
}
