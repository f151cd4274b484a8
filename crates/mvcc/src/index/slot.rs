//! One key of the index: its newest version and the older ones that are not compacted.

use std::sync::atomic::{AtomicBool, Ordering};

use etcdrs_types::{LeaseId, Revision};

use crate::{KeyMeta, StoredKv};

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) kind: ChangeKind,
}

/// What a [`Change`] did.
#[derive(Clone, Debug)]
pub(crate) enum ChangeKind {
    Put { create: i64, version: i64, lease: LeaseId, kv: Option<StoredKv> },
    Delete,
}

impl Change {
    /// The pair that a put wrote, if it is at hand.
    pub(crate) fn kv(&self) -> Option<&StoredKv> {
        match &self.kind {
            ChangeKind::Put { kv, .. } => kv.as_ref(),
            ChangeKind::Delete => None,
        }
    }

    /// The state of the key after the change, if it then exists.
    pub(crate) fn meta(&self) -> Option<KeyMeta> {
        match self.kind {
            ChangeKind::Put { create, version, lease, .. } => Some(KeyMeta {
                create_revision: create,
                mod_revision: self.revision,
                version,
                lease,
            }),
            ChangeKind::Delete => None,
        }
    }
}

/// A version of a key, as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) create: i64,
    pub(crate) revision: Revision,
    pub(crate) version: i64,
}

/// A revision that compaction drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) revision: Revision,
    pub(crate) tombstone: bool,
}

/// The newest version of a key, or its tombstone, and what came before.
#[derive(Debug)]
pub(crate) struct Slot {
    /// 0 for a tombstone, like `version` and `lease`.
    create: i64,
    version: i64,
    lease: i64,
    main: i64,
    sub: u32,
    dead: bool,
    /// The value was read since the eviction hand last came by.
    touched: AtomicBool,
    value: Option<StoredKv>,
    past: Option<Box<Past>>,
}

/// Versions before the newest, oldest first.
///
/// Within one life of a key versions count up by one with each revision, so only the first of a
/// life needs its number; and lives that begin after a tombstone in the list begin with version 1.
/// Invariant: `newest_start` is where the life of the slot's newest version begins in `revisions`
/// (their number, if it has no older version or the slot is dead).
#[derive(Debug, Default)]
struct Past {
    revisions: Vec<Old>,
    first_create: i64,
    first_version: i64,
    newest_start: usize,
}

#[derive(Clone, Copy, Debug)]
struct Old {
    main: i64,
    /// The sub-revision; the top bit marks a tombstone.
    sub: u32,
}

const TOMBSTONE: u32 = 1 << 31;

impl Old {
    fn new(revision: Revision, tombstone: bool) -> Self {
        let sub = narrow(revision.sub);
        Self { main: revision.main, sub: if tombstone { sub | TOMBSTONE } else { sub } }
    }

    fn tombstone(self) -> bool {
        self.sub & TOMBSTONE != 0
    }

    fn revision(self) -> Revision {
        Revision { main: self.main, sub: i64::from(self.sub & !TOMBSTONE) }
    }
}

fn narrow(sub: i64) -> u32 {
    let narrow = u32::try_from(sub).ok().filter(|sub| sub & TOMBSTONE == 0);
    narrow.expect("a transaction changes fewer than 2^31 keys")
}

impl Slot {
    /// A key whose first known change is `change`.
    pub(crate) fn new(change: Change) -> Self {
        let mut slot = Self {
            create: 0,
            version: 0,
            lease: 0,
            main: 0,
            sub: 0,
            dead: true,
            touched: AtomicBool::new(true),
            value: None,
            past: None,
        };
        slot.set(change);
        slot
    }

    fn set(&mut self, change: Change) {
        self.main = change.revision.main;
        self.sub = narrow(change.revision.sub);
        match change.kind {
            ChangeKind::Put { create, version, lease, kv } => {
                (self.create, self.version, self.lease) = (create, version, lease.0);
                (self.dead, self.value) = (false, kv);
            }
            ChangeKind::Delete => {
                (self.create, self.version, self.lease) = (0, 0, 0);
                (self.dead, self.value) = (true, None);
            }
        }
        *self.touched.get_mut() = true;
    }

    /// Makes `change` the newest version.
    pub(crate) fn apply(&mut self, change: Change) {
        debug_assert!(change.revision > self.revision(), "revisions of a key only grow");
        let old = Old::new(self.revision(), self.dead);
        let past = self.past.get_or_insert_default();
        if past.revisions.is_empty() {
            (past.first_create, past.first_version) = (self.create, self.version);
        }
        let len = past.revisions.len();
        if len == past.revisions.capacity() {
            past.revisions.reserve_exact(if len == 0 { 1 } else { len.clamp(2, 64) });
        }
        past.revisions.push(old);
        if self.dead || matches!(change.kind, ChangeKind::Delete) {
            past.newest_start = past.revisions.len();
        }
        self.set(change);
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision { main: self.main, sub: i64::from(self.sub) }
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.dead
    }

    /// The newest state, if the key exists.
    pub(crate) fn meta(&self) -> Option<KeyMeta> {
        self.is_live().then(|| KeyMeta {
            create_revision: self.create,
            mod_revision: self.revision(),
            version: self.version,
            lease: LeaseId(self.lease),
        })
    }

    /// The newest pair, if the key exists and it is cached.
    pub(crate) fn value(&self) -> Option<&StoredKv> {
        // A plain load first: the line stays shared while many read it.
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        self.value.as_ref()
    }

    /// Caches the pair of `revision`, if that is still the newest and not cached. Says whether.
    pub(crate) fn fill(&mut self, revision: Revision, kv: StoredKv) -> bool {
        let wanted = !self.dead && self.revision() == revision && self.value.is_none();
        if wanted {
            self.value = Some(kv);
        }
        wanted
    }

    /// For the eviction hand: takes the value away if nobody read it since the last visit.
    pub(crate) fn sweep(&mut self) -> Option<StoredKv> {
        if std::mem::take(self.touched.get_mut()) { None } else { self.value.take() }
    }

    pub(crate) fn cached_len(&self) -> usize {
        self.value.as_ref().map_or(0, |kv| kv.bytes().len())
    }

    /// The version at main revision `at`, if the key existed then; and whether it is the newest.
    pub(crate) fn at(&self, at: i64) -> Option<(Version, bool)> {
        if self.main <= at {
            let newest =
                Version { create: self.create, revision: self.revision(), version: self.version };
            return self.is_live().then_some((newest, true));
        }
        let past = self.past.as_deref()?;
        let position = past.revisions.partition_point(|old| old.main <= at).checked_sub(1)?;
        let old = past.revisions[position];
        if old.tombstone() {
            return None;
        }
        let (create, version) = if position >= past.newest_start {
            let distance = past.revisions.len() - position;
            (self.create, self.version - distance as i64)
        } else {
            past.origin(position)
        };
        Some((Version { create, revision: old.revision(), version }, false))
    }

    /// Whether a compaction at `at` may have something to drop.
    pub(crate) fn is_compactable(&self) -> bool {
        self.dead || self.past.is_some()
    }

    /// Drops what a compaction at main revision `at` makes unreachable: of the revisions up to
    /// `at` all but the last, and that too if it is a tombstone from before `at` (CP-02).
    /// Tombstones at `at` itself stay, for watchers that start there. Returns whether the key is
    /// gone altogether.
    pub(crate) fn compact(&mut self, at: i64, dropped: &mut Vec<Dropped>) -> bool {
        if let Some(past) = self.past.as_deref_mut() {
            past.compact(at, self.main <= at, dropped);
            if past.revisions.is_empty() {
                self.past = None;
            }
        }
        let gone = self.dead && self.main < at;
        if gone {
            debug_assert!(self.past.is_none(), "everything before the tombstone was dropped");
            dropped.push(Dropped { revision: self.revision(), tombstone: true });
        }
        gone
    }

    /// Heap memory besides the value, bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.past
            .as_ref()
            .map_or(0, |past| size_of::<Past>() + past.revisions.capacity() * size_of::<Old>())
    }
}

impl Past {
    /// Create revision and version of the put at `position`.
    fn origin(&self, position: usize) -> (i64, i64) {
        let before = self.revisions[..position].iter().rposition(|old| old.tombstone());
        match before {
            Some(tombstone) => {
                let start = tombstone + 1;
                (self.revisions[start].main, (position - start) as i64 + 1)
            }
            None => (self.first_create, self.first_version + position as i64),
        }
    }

    fn compact(&mut self, at: i64, newest_is_older: bool, dropped: &mut Vec<Dropped>) {
        let older = self.revisions.partition_point(|old| old.main <= at);
        // The last revision up to `at` is the slot's own if that is not above `at`.
        let last = (!newest_is_older).then(|| older.checked_sub(1)).flatten();
        let keep = |position: usize, old: Old| {
            let last_put = Some(position) == last && !old.tombstone();
            position >= older || last_put || (old.tombstone() && old.main == at)
        };
        let first_kept =
            (0..self.revisions.len()).find(|&position| keep(position, self.revisions[position]));
        if let Some(first) = first_kept.filter(|&first| first > 0)
            && !self.revisions[first].tombstone()
        {
            (self.first_create, self.first_version) = self.origin(first);
        }
        let (mut position, mut start) = (0, self.newest_start);
        let newest_start = self.newest_start;
        self.revisions.retain(|&old| {
            let kept = keep(position, old);
            if !kept {
                dropped.push(Dropped { revision: old.revision(), tombstone: old.tombstone() });
                start -= usize::from(position < newest_start);
            }
            position += 1;
            kept
        });
        self.newest_start = start;
        self.revisions.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
