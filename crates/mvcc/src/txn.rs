//! Transactions.
use bytes::Bytes;
use etcdrs_types::{KeyRange, LeaseId, Revision};

use crate::{KeyMeta, RangeError, RangeQuery, RangeResult, StoredKv, WriteBatch};

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
/// earlier ones of the batch.
#[derive(Debug)]
pub struct Txn<'b, 'a> {
    batch: &'b mut WriteBatch<'a>,
}

impl Txn<'_, '_> {
    /// Reads a range. Revision 0 or less reads the newest state, this txn's changes included.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn range(&self, _query: &RangeQuery) -> Result<RangeResult, RangeError> {
        let _ = &self.batch;
        unreachable!("being built")
    }

    /// What the index knows of `key` now.
    #[must_use]
    pub fn lookup(&self, _key: &[u8]) -> Option<KeyMeta> {
        unreachable!("being built")
    }

    /// The newest pair of `key`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn get(&self, _key: &[u8]) -> Result<Option<StoredKv>, RangeError> {
        unreachable!("being built")
    }

    /// Sets `key`. The bytes are copied.
    pub fn put(&mut self, _key: &[u8], _value: &[u8], _lease: LeaseId) -> PutDone {
        unreachable!("being built")
    }

    /// Deletes all keys of `range`, in key order.
    pub fn delete_range(&mut self, _range: &KeyRange) -> Vec<Deleted> {
        unreachable!("being built")
    }

    /// Whether anything was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        unreachable!("being built")
    }

    /// The revision that this entry's changes have, or would have.
    #[must_use]
    pub fn revision(&self) -> i64 {
        unreachable!("being built")
    }

    /// Ends the entry: the current revision after it (unchanged if it changed nothing).
    pub fn finish(self) -> i64 {
        unreachable!("being built")
    }
}
