//! Filling the cache of newest values after a start.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_backend::{Bucket, Scan};
use etcdrs_types::Revision;

use crate::state::{FETCH_ROWS, Shared};
use crate::{RangeError, StoredKv};

/// Reads the newest pairs into memory, in the order of the database, until the budget is full.
///
/// Reading them in that order is ten times cheaper than one by one when they are asked for.
#[derive(Debug)]
pub struct WarmJob {
    shared: Arc<Shared>,
    /// The last row that was looked at.
    last: Option<Vec<u8>>,
    done: bool,
}

impl WarmJob {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), last: None, done: false }
    }

    /// Looks at up to `items_max` rows. Returns whether there is more to do.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn step(&mut self, items_max: usize) -> Result<bool, RangeError> {
        let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let scan = Scan { from, before: None, fill_cache: false };
        let backend = self.shared.state.read().backend.clone();
        let mut rows = backend.rows(Bucket::Key, &scan);
        let mut found = Vec::with_capacity(FETCH_ROWS);
        let mut last = None;
        for _ in 0..items_max {
            let Some((key, row)) = rows.next()? else {
                self.done = true;
                break;
            };
            let corrupt = RangeError::Corrupt(Revision::default());
            let (revision, tombstone) = Revision::from_key(key).ok_or(corrupt)?;
            last = Some(key.to_vec());
            if !tombstone {
                found.push((revision, StoredKv::from_encoded(Bytes::copy_from_slice(row))));
            }
            if found.len() == FETCH_ROWS {
                self.done = !fill(&self.shared, &mut found);
            }
            if self.done {
                break;
            }
        }
        if !self.done || !found.is_empty() {
            self.done |= !fill(&self.shared, &mut found);
        }
        drop(rows);
        self.last = last.or_else(|| self.last.take());
        Ok(!self.done)
    }
}

/// Caches those of `found` that are newest versions. Returns whether there is room for more.
fn fill(shared: &Shared, found: &mut Vec<(Revision, StoredKv)>) -> bool {
    let mut state = shared.state.write();
    for (revision, kv) in found.drain(..) {
        if state.tree.value_bytes() + kv.bytes().len() > shared.options.value_cache_bytes {
            return false;
        }
        let key = kv.key_bytes();
        state.tree.fill(&key, revision, kv);
    }
    true
}
