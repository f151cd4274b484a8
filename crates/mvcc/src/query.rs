//! What can be asked of the store, and what it answers.

use etcdrs_types::KeyRange;

use crate::StoredKv;

/// The direction of a sorted answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By key; or ascending by another target, with a quirk (RG-10).
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What an answer is sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision that made the key.
    Create,
    /// The revision of the newest put.
    Mod,
    /// The value, bytewise.
    Value,
}

/// A read of a range of keys (v3-api.md §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    /// The keys.
    pub range: KeyRange,
    /// The main revision to read at; 0 or less for the newest.
    pub revision: i64,
    /// Most pairs in the answer; 0 for all.
    pub limit: usize,
    /// Direction of sorting.
    pub order: SortOrder,
    /// What to sort by.
    pub target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer with the count alone.
    pub count_only: bool,
    /// Drop pairs modified before this revision; 0 for off. So for the next three.
    pub min_mod_revision: i64,
    /// Drop pairs modified after this revision.
    pub max_mod_revision: i64,
    /// Drop pairs created before this revision.
    pub min_create_revision: i64,
    /// Drop pairs created after this revision.
    pub max_create_revision: i64,
    /// Let values that are not in memory stay out of it when it is full: a walk over everything
    /// must not drive out what others read again and again.
    pub leave_cold: bool,
}

impl RangeQuery {
    /// Everything in `range` at the newest revision, by key.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: 0,
            limit: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            leave_cold: false,
        }
    }

    pub(crate) fn has_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    /// Whether the pair passes the filters (RG-08).
    pub(crate) fn admits(&self, create_revision: i64, mod_revision: i64) -> bool {
        let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
        within(mod_revision, self.min_mod_revision, self.max_mod_revision)
            && within(create_revision, self.min_create_revision, self.max_create_revision)
    }

    /// Whether the answer is the first pairs in key order, so that nothing needs sorting.
    pub(crate) fn is_plain(&self) -> bool {
        let key_order = self.target == SortTarget::Key && self.order != SortOrder::Descend;
        key_order && !self.has_filters()
    }

    /// Whether only the first `limit` + 1 pairs in key order are looked at and then sorted: etcd's
    /// quirk RG-10.
    pub(crate) fn sorts_first_page(&self) -> bool {
        self.order == SortOrder::None
            && self.target != SortTarget::Key
            && self.limit > 0
            && !self.has_filters()
    }

    /// Whether the pairs are made from the index alone (RG-07).
    pub(crate) fn index_answers(&self) -> bool {
        self.keys_only && self.target != SortTarget::Value
    }
}

/// The answer to a [`RangeQuery`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResult {
    /// The current revision when the read ran, whatever revision was asked for (RG-11).
    pub revision: i64,
    /// The pairs.
    pub kvs: Vec<StoredKv>,
    /// Whether the limit cut something.
    pub more: bool,
    /// Keys in the range at the revision asked for, whatever limit and filters say (RG-05).
    pub count: i64,
}
