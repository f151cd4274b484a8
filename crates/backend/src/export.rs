//! The whole database as one stream of bytes.

use std::ops::Bound;

use crate::{Bucket, Error, Scan, Snapshot};

/// First bytes of an exported image.
const MAGIC: &[u8; 16] = b"etcd-rs export 1";
/// Follows the last row.
const END: u8 = 0xff;
/// Images are padded to whole sectors, because tools tell a trailing digest by the size
/// (v3-api.md MT-05).
const SECTOR_BYTES: u64 = 512;

/// An image of all of etcd's buckets at one moment, handed out in pieces.
///
/// Layout: the magic; per row the bucket's number, key length and value length (4 bytes each,
/// big-endian), key and value; `0xff`; zeros up to a multiple of 512 bytes.
pub struct Export {
    snapshot: Snapshot,
    total_bytes: u64,
    written: u64,
    bucket: usize,
    /// The last row written of the current bucket.
    last: Option<Vec<u8>>,
    done: bool,
}

impl Export {
    /// Starts an export of `snapshot`. Walks it once to learn the size.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn new(snapshot: Snapshot) -> Result<Self, Error> {
        let mut total_bytes = (MAGIC.len() + 1) as u64;
        for bucket in Bucket::ALL.into_iter().filter(|bucket| bucket.is_etcds()) {
            let mut rows = snapshot.all_rows(bucket);
            while let Some((key, value)) = rows.next()? {
                total_bytes += (9 + key.len() + value.len()) as u64;
            }
        }
        let total_bytes = total_bytes.next_multiple_of(SECTOR_BYTES);
        Ok(Self { snapshot, total_bytes, written: 0, bucket: 0, last: None, done: false })
    }

    /// Bytes of the whole image.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Appends the next piece to `out`: at least `bytes`, unless it is the last. Returns whether
    /// there is more.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn next(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<bool, Error> {
        let begin = out.len();
        if self.written == 0 {
            out.extend_from_slice(MAGIC);
        }
        while !self.done && out.len() - begin < bytes {
            self.fill(begin + bytes, out)?;
        }
        self.written += (out.len() - begin) as u64;
        if self.done && self.written < self.total_bytes {
            out.resize(out.len() + (self.total_bytes - self.written) as usize, 0);
            self.written = self.total_bytes;
        }
        Ok(!self.done)
    }

    /// Writes rows of the current bucket until `out` has `until` bytes or the bucket ends.
    fn fill(&mut self, until: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some(&bucket) = Bucket::ALL.get(self.bucket) else {
            out.push(END);
            self.done = true;
            return Ok(());
        };
        if bucket.is_etcds() {
            let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let scan = Scan { from, before: None, fill_cache: false };
            let mut rows = self.snapshot.rows(bucket, &scan);
            while let Some((key, value)) = rows.next()? {
                out.push(bucket as u8);
                for part in [key, value] {
                    let len = u32::try_from(part.len()).expect("rows are far below 4 GiB");
                    out.extend_from_slice(&len.to_be_bytes());
                }
                out.extend_from_slice(key);
                out.extend_from_slice(value);
                if out.len() >= until {
                    let key = key.to_vec();
                    drop(rows);
                    self.last = Some(key);
                    return Ok(());
                }
            }
        }
        self.bucket += 1;
        self.last = None;
        Ok(())
    }
}
