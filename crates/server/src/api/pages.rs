//! A range read page by page, all of one revision, on the pool.

use etcdrs_mvcc::{RangeError, RangeQuery, Reader, StoredKv};
use etcdrs_types::{KeyRange, RangeEnd};
use tonic::Status;

use crate::api::status;

/// How large pages are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Keys of the first page.
    pub(crate) first_keys: usize,
    /// Bytes that a page should have: pages of less than half grow, pages of more than twice
    /// shrink (RS-04).
    pub(crate) page_bytes: usize,
}

/// Some pairs of the range, in order.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) kvs: Vec<StoredKv>,
    /// Set on the last page: whether the limit cut something, and how many keys there are.
    pub(crate) end: Option<(bool, i64)>,
}

/// Reads the pages of a query that wants keys in order without filters.
pub(crate) struct Pages {
    reader: Reader,
    query: RangeQuery,
    /// Most pairs altogether; 0 for all.
    limit: usize,
    read: usize,
    keys: usize,
    pace: Pace,
    ended: bool,
}

impl Pages {
    /// Pages of `query` at `pinned`, or at the revision that the query names.
    pub(crate) fn new(reader: Reader, mut query: RangeQuery, pinned: i64, pace: Pace) -> Self {
        let limit = std::mem::take(&mut query.limit);
        query.leave_cold = true;
        if query.revision <= 0 {
            query.revision = pinned;
        }
        Self { reader, query, limit, read: 0, keys: pace.first_keys, pace, ended: false }
    }

    /// The next page, read on the pool; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// The status for the client: compaction may pass the revision between two pages (RS-07).
    pub(crate) async fn next(self) -> Result<(Self, Option<Page>), Status> {
        let read = tokio::task::spawn_blocking(move || {
            let mut pages = self;
            let page = pages.read();
            (pages, page)
        });
        let (pages, page) = read.await.map_err(status::task_ended)?;
        Ok((pages, page.map_err(|error| status::range_error(&error))?))
    }

    /// [`Self::next`] on a thread that may block.
    pub(crate) fn read(&mut self) -> Result<Option<Page>, RangeError> {
        if self.ended {
            return Ok(None);
        }
        let left = self.limit.saturating_sub(self.read);
        self.query.limit = if self.limit == 0 { self.keys } else { self.keys.min(left) };
        let found = self.reader.range(&self.query)?;
        let count = found.count + i64::try_from(self.read).unwrap_or(i64::MAX);
        self.read += found.kvs.len();
        let full = self.limit > 0 && self.read >= self.limit;
        self.ended = self.query.count_only || !found.more || full;
        if let Some(last) = found.kvs.last() {
            self.query.range = after(last.key(), &self.query.range);
        }
        let bytes = found.kvs.iter().map(|kv| kv.bytes().len()).sum();
        self.keys = next_keys(self.keys, bytes, self.pace.page_bytes);
        Ok(Some(Page { kvs: found.kvs, end: self.ended.then_some((found.more, count)) }))
    }
}

/// RS-04: doubles while pages are small, halves when they are large.
fn next_keys(keys: usize, page_bytes: usize, target_bytes: usize) -> usize {
    if page_bytes < target_bytes / 2 {
        keys.saturating_mul(2)
    } else if page_bytes > target_bytes.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// What is left of `range` behind `key`.
fn after(key: &[u8], range: &KeyRange) -> KeyRange {
    let mut start = Vec::with_capacity(key.len() + 1);
    start.extend_from_slice(key);
    start.push(0);
    // A single key has no rest; an empty interval says so.
    let end = match &range.end {
        RangeEnd::Single => RangeEnd::Before(range.start.clone()),
        end => end.clone(),
    };
    KeyRange { start: start.into(), end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rs_04_chunks_grow_and_shrink() {
        assert_eq!(next_keys(10, 100, 1000), 20);
        assert_eq!(next_keys(10, 700, 1000), 10);
        assert_eq!(next_keys(10, 2001, 1000), 5);
        assert_eq!(next_keys(1, 2001, 1000), 1);
    }

    #[test]
    fn the_rest_of_a_range_excludes_the_key() {
        let rest = after(b"b", &KeyRange::prefix(b""));
        assert!(!rest.contains(b"b") && rest.contains(b"b\0"));
        assert!(after(b"b", &KeyRange::single("b")).is_empty());
    }
}
