//! Walks over the rows of a bucket.

use std::ops::Bound;

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};

use crate::{Error, OnDamage};

/// A key and its value.
pub type Row<'a> = (&'a [u8], &'a [u8]);

/// Which rows to walk, and how.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    /// Where to begin.
    pub from: Bound<&'a [u8]>,
    /// The first row that is not part of the walk; `None` for all.
    pub before: Option<&'a [u8]>,
    /// Whether the rows may displace others in the block cache. Long walks say no.
    pub fill_cache: bool,
}

impl Scan<'_> {
    /// Every row.
    #[must_use]
    pub const fn all() -> Self {
        Self { from: Bound::Unbounded, before: None, fill_cache: false }
    }

    pub(crate) fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(before) = self.before {
            options.set_iterate_upper_bound(before);
        }
        options.fill_cache(self.fill_cache);
        options
    }
}

/// A walk in key order; it sees the database as it was when the walk began.
pub struct Rows<'a> {
    raw: DBRawIteratorWithThreadMode<'a, DB>,
    started: bool,
    listener: Option<&'a OnDamage>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        mut raw: DBRawIteratorWithThreadMode<'a, DB>,
        from: Bound<&[u8]>,
        listener: Option<&'a OnDamage>,
    ) -> Self {
        match from {
            Bound::Unbounded => raw.seek_to_first(),
            Bound::Included(key) => raw.seek(key),
            Bound::Excluded(key) => {
                raw.seek(key);
                if raw.key() == Some(key) {
                    raw.next();
                }
            }
        }
        Self { raw, started: false, listener }
    }

    /// The next row, or `None` at the end.
    ///
    /// # Errors
    /// If the database cannot be read.
    #[expect(clippy::should_implement_trait, reason = "the row borrows from the walk")]
    pub fn next(&mut self) -> Result<Option<Row<'_>>, Error> {
        if self.started && self.raw.valid() {
            self.raw.next();
        }
        self.started = true;
        if !self.raw.valid() {
            self.raw.status().map_err(Error::reading("walk", self.listener))?;
        }
        Ok(self.raw.item())
    }
}
