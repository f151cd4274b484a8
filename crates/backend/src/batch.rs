//! Writes that take effect together.

use std::fmt;

use crate::Bucket;

/// Sequence number (8 bytes, RocksDB fills it) and count of records (4 bytes).
const HEADER_BYTES: usize = 12;
const RECORD_DELETE: u8 = 0x4;
const RECORD_PUT: u8 = 0x5;

/// Puts and deletes that [`Backend::write`](crate::Backend::write) applies as one.
///
/// The records are kept in RocksDB's own serialized form, built here: a put costs a few copies
/// into one buffer and no call into the library. Later records win over earlier ones of the same
/// row.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    data: Vec<u8>,
    count: u32,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty batch with room for `bytes` of records.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let mut data = Vec::with_capacity(HEADER_BYTES + bytes);
        data.resize(HEADER_BYTES, 0);
        Self { data, count: 0 }
    }

    /// Sets the row `key` of `bucket`.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: &[u8]) {
        self.record(RECORD_PUT, bucket, key);
        self.slice(value);
    }

    /// Removes the row `key` of `bucket`, if there is one.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.record(RECORD_DELETE, bucket, key);
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the batch writes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the serialized batch.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.data.truncate(HEADER_BYTES);
        self.count = 0;
    }

    /// RocksDB's form of the batch.
    pub(crate) fn serialized(&mut self) -> &[u8] {
        self.data[8..HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        &self.data
    }

    fn record(&mut self, kind: u8, bucket: Bucket, key: &[u8]) {
        self.count = self.count.checked_add(1).expect("a batch has fewer than 2^32 records");
        self.data.extend_from_slice(&[kind, bucket.family_id()]);
        self.slice(key);
    }

    fn slice(&mut self, bytes: &[u8]) {
        let mut len = u32::try_from(bytes.len()).expect("rows are far below 4 GiB");
        while len >= 0x80 {
            self.data.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        self.data.push(len as u8);
        self.data.extend_from_slice(bytes);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("records", &self.count)
            .field("bytes", &self.data.len())
            .finish()
    }
}
