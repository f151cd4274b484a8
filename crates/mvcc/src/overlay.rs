//! Changes of a batch that are not published yet.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use etcdrs_types::{KeyRange, RangeEnd};

use crate::index::Change;

/// Changes by key, in key order; those of one key by revision.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    keys: BTreeMap<Bytes, Changes>,
}

/// The changes of one key; nearly always one.
#[derive(Debug)]
pub(crate) struct Changes {
    first: Change,
    later: Vec<Change>,
}

impl Changes {
    pub(crate) fn last(&self) -> &Change {
        self.later.last().unwrap_or(&self.first)
    }

    /// The last change up to main revision `at`.
    pub(crate) fn at(&self, at: i64) -> Option<&Change> {
        let all = std::iter::once(&self.first).chain(&self.later);
        all.take_while(|change| change.revision.main <= at).last()
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Change> {
        std::iter::once(self.first).chain(self.later)
    }
}

impl Overlay {
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Changes> {
        self.keys.get(key)
    }

    pub(crate) fn push(&mut self, key: Bytes, change: Change) {
        use std::collections::btree_map::Entry;
        match self.keys.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Changes { first: change, later: Vec::new() });
            }
            Entry::Occupied(mut entry) => entry.get_mut().later.push(change),
        }
    }

    /// Keys of `range` with changes.
    pub(crate) fn range<'o>(
        &'o self,
        range: &'o KeyRange,
    ) -> impl Iterator<Item = (&'o Bytes, &'o Changes)> {
        // An inverted range has no keys, but `BTreeMap` insists on order.
        let start: &[u8] = &range.start;
        let end: Bound<&[u8]> = match &range.end {
            RangeEnd::Single => Bound::Included(start),
            RangeEnd::Before(end) if range.is_empty() => {
                debug_assert!(end <= &range.start);
                Bound::Included(start)
            }
            RangeEnd::Before(end) => Bound::Excluded(end),
            RangeEnd::Unbounded => Bound::Unbounded,
        };
        let keys = self.keys.range::<[u8], _>((Bound::Included(start), end));
        keys.filter(|(key, _)| range.contains(key))
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (Bytes, Changes)> {
        self.keys.into_iter()
    }
}
