//! Reading ranges: what to collect, how to sort it, where values come from.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::atomic;

use etcdrs_backend::Backend;
use etcdrs_types::{KeyRange, Revision};

use crate::index::{KeyParts, Slot, Tree, Version};
use crate::kv;
use crate::overlay::{Changes, Overlay};
use crate::state::{Shared, State, fetch};
use crate::{KeyMeta, RangeError, RangeQuery, RangeResult, SortOrder, SortTarget, StoredKv};

/// Leaves that a walk looks at under one hold of the lock: about a thousand keys.
const SLICE_LEAVES: usize = 20;
/// A read of the newest state starts over this often when compactions overtake it.
const RETRIES_MAX: usize = 8;
/// An answer with at most this many cold values caches them even if others must go for it.
const FILL_MAX: usize = 1024;

/// One key that a walk found and that has still to be sorted.
#[derive(Debug)]
struct Hit {
    create: i64,
    version: i64,
    revision: Revision,
    kv: Option<StoredKv>,
}

/// Gathers what a query wants while a walk hands it live keys in key order.
#[derive(Debug)]
pub(crate) struct Collector<'q> {
    query: &'q RangeQuery,
    /// Pairs wanted from the walk.
    max: usize,
    /// Whether pairs go to `hits` to be sorted, instead of straight to `kvs`.
    sorts: bool,
    /// Keys in the range, if that is known without walking it.
    known_count: Option<i64>,
    seen: i64,
    hits: Vec<Hit>,
    /// Whether a pair of `hits` may have to be read from the database.
    cold_hits: bool,
    kvs: Vec<StoredKv>,
    /// Pairs of `kvs` that have to be read from the database.
    cold: Vec<(usize, Revision)>,
    key: Vec<u8>,
}

impl<'q> Collector<'q> {
    pub(crate) fn new(query: &'q RangeQuery, known_count: Option<i64>) -> Self {
        let unlimited = query.limit == 0;
        let max = match () {
            () if query.count_only => 0,
            () if query.is_plain() && !unlimited => query.limit,
            () if query.sorts_first_page() => query.limit + 1,
            () => usize::MAX,
        };
        let expected = known_count.map_or(0, |count| usize::try_from(count).unwrap_or(0).min(max));
        let sorts = !query.is_plain();
        let kvs = Vec::with_capacity(if sorts { 0 } else { expected });
        Self {
            query,
            max,
            sorts,
            known_count,
            seen: 0,
            hits: Vec::new(),
            cold_hits: false,
            kvs,
            cold: Vec::new(),
            key: Vec::new(),
        }
    }

    /// Whether no more pairs are wanted.
    fn is_full(&self) -> bool {
        self.kvs.len() + self.hits.len() >= self.max
    }

    /// Whether nothing more is wanted, not even to be counted.
    pub(crate) fn is_done(&self) -> bool {
        self.known_count.is_some() && self.is_full()
    }

    /// Takes a live key. Returns whether to go on.
    pub(crate) fn add(&mut self, key: KeyParts<'_>, found: Version, kv: Option<&StoredKv>) -> bool {
        self.seen += 1;
        if !self.is_full() {
            let admitted = self.query.admits(found.create, found.revision.main);
            if admitted && self.sorts {
                let kv = self.pair(key, found, kv);
                self.cold_hits |= kv.is_none();
                let Version { create, revision, version } = found;
                self.hits.push(Hit { create, version, revision, kv });
            } else if admitted {
                let position = self.kvs.len();
                let kv = self.pair(key, found, kv).unwrap_or_else(|| {
                    self.cold.push((position, found.revision));
                    StoredKv::from_encoded(bytes::Bytes::new())
                });
                self.kvs.push(kv);
            }
        }
        !self.is_done()
    }

    fn pair(
        &mut self,
        key: KeyParts<'_>,
        found: Version,
        kv: Option<&StoredKv>,
    ) -> Option<StoredKv> {
        if !self.query.index_answers() {
            return kv.cloned();
        }
        key.write(&mut self.key);
        let meta = KeyMeta {
            create_revision: found.create,
            mod_revision: found.revision,
            version: found.version,
            lease: etcdrs_types::LeaseId::NONE,
        };
        Some(kv::encode(&self.key, &[], &meta))
    }

    /// A handle on the walked database if rows of it have to be read, which is taken before the
    /// walk lets go of the lock.
    fn rows_of(&self, state: &State) -> Option<Backend> {
        (self.cold_hits || !self.cold.is_empty()).then(|| state.backend.clone())
    }

    /// Reads what is cold from `backend`, sorts, cuts. `current` is the current revision for the
    /// answer.
    fn finish(
        mut self,
        shared: &Shared,
        backend: Option<&Backend>,
        current: i64,
    ) -> Result<RangeResult, RangeError> {
        let count = self.known_count.unwrap_or(self.seen);
        if self.query.count_only {
            return Ok(RangeResult { revision: current, kvs: Vec::new(), more: false, count });
        }
        let limit = if self.query.limit == 0 { usize::MAX } else { self.query.limit };
        let more = if self.sorts {
            if self.query.target == SortTarget::Value {
                self.load_hits(backend)?;
            }
            sort(&mut self.hits, self.query);
            let more = self.hits.len() > limit;
            self.hits.truncate(limit);
            self.load_hits(backend)?;
            self.kvs = self.hits.into_iter().filter_map(|hit| hit.kv).collect();
            more
        } else {
            let fill_max = if self.query.leave_cold { 0 } else { FILL_MAX };
            if let Some(backend) = backend {
                load(shared, backend, self.cold, &mut self.kvs, fill_max)?;
            }
            count > self.kvs.len() as i64
        };
        if self.query.keys_only && !self.query.index_answers() {
            self.kvs.iter_mut().for_each(|kv| *kv = kv.without_value());
        }
        Ok(RangeResult { revision: current, kvs: self.kvs, more, count })
    }

    /// [`Self::finish`] for a walk at revision `at` that let go of the lock.
    fn finish_at(
        self,
        shared: &Shared,
        backend: Option<&Backend>,
        current: i64,
        at: i64,
    ) -> Result<RangeResult, RangeError> {
        let result = self.finish(shared, backend, current);
        // Rows may have been removed between the walk and the reading of values.
        let compacted = shared.compact_revision.load(atomic::Ordering::Acquire);
        if at < compacted { Err(RangeError::Compacted) } else { result }
    }

    fn load_hits(&mut self, backend: Option<&Backend>) -> Result<(), RangeError> {
        let Some(backend) = backend else { return Ok(()) };
        let missing: Vec<_> = (self.hits.iter().enumerate())
            .filter(|(_, hit)| hit.kv.is_none())
            .map(|(position, hit)| (position, hit.revision))
            .collect();
        fetch(backend, missing, |position, kv| self.hits[position].kv = Some(kv))
    }
}

/// Reads the pairs at the positions `cold` and caches them where that makes sense.
fn load(
    shared: &Shared,
    backend: &Backend,
    cold: Vec<(usize, Revision)>,
    kvs: &mut [StoredKv],
    fill_max: usize,
) -> Result<(), RangeError> {
    if cold.is_empty() {
        return Ok(());
    }
    let wanted = cold.clone();
    let mut bytes = 0;
    fetch(backend, cold, |position, kv| {
        bytes += kv.bytes().len();
        kvs[position] = kv;
    })?;
    let room = shared.state.read().tree.value_bytes() + bytes <= shared.options.value_cache_bytes;
    if !room && wanted.len() > fill_max {
        return Ok(());
    }
    for chunk in wanted.chunks(crate::state::FETCH_ROWS) {
        let mut state = shared.state.write();
        for &(position, revision) in chunk {
            let kv = &kvs[position];
            state.tree.fill(kv.key(), revision, kv.clone());
        }
        shared.evict(&mut state);
    }
    Ok(())
}

/// Sorts as RG-09 says; ties stay in key order.
fn sort(hits: &mut [Hit], query: &RangeQuery) {
    let by = |a: &Hit, b: &Hit| match query.target {
        SortTarget::Key => Ordering::Equal,
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create.cmp(&b.create),
        SortTarget::Mod => a.revision.main.cmp(&b.revision.main),
        SortTarget::Value => {
            let value = |hit: &Hit| hit.kv.as_ref().map(|kv| kv.value_bytes());
            value(a).cmp(&value(b))
        }
    };
    match (query.target, query.order) {
        (SortTarget::Key, SortOrder::Descend) => hits.reverse(),
        (SortTarget::Key, _) => {}
        (_, SortOrder::Descend) => hits.sort_by(|a, b| by(b, a)),
        (_, SortOrder::None | SortOrder::Ascend) => hits.sort_by(by),
    }
}

/// Reads a range of what is published (RG-03 to RG-11).
pub(crate) fn published(shared: &Shared, query: &RangeQuery) -> Result<RangeResult, RangeError> {
    for _ in 0..RETRIES_MAX {
        match attempt(shared, query) {
            // The newest state is never compacted; a compaction above the revision that was
            // current at the start only overtook the walk.
            Err(RangeError::Compacted) if query.revision <= 0 => {}
            result => return result,
        }
    }
    Err(RangeError::Compacted)
}

fn attempt(shared: &Shared, query: &RangeQuery) -> Result<RangeResult, RangeError> {
    let mut state = shared.state.read();
    let current = state.revision;
    let at = if query.revision <= 0 { current } else { query.revision };
    if at > current {
        return Err(RangeError::Future);
    }
    if at < state.compact_revision {
        return Err(RangeError::Compacted);
    }
    if query.range.is_single() {
        let mut collector = Collector::new(query, None);
        if let Some(slot) = state.tree.get(&query.range.start) {
            let key = KeyParts { prefix: &[], suffix: &query.range.start };
            visit(&mut collector, key, slot, at);
        }
        let backend = collector.rows_of(&state);
        drop(state);
        return collector.finish_at(shared, backend.as_ref(), current, at);
    }
    let growth = if at == current { Some(0) } else { state.ring.growth_since(at, &query.range) };
    let count = growth.map(|growth| state.tree.count(&query.range) - growth);
    let mut collector = Collector::new(query, count);
    if !query.range.is_empty() && !collector.is_done() {
        let mut cursor = Some(state.tree.cursor(Bound::Included(&query.range.start)));
        let mut leaves = 0;
        while let Some(place) = cursor {
            let unchanged = || place.unchanged_leaf(&state.tree, &query.range, at);
            cursor = match collector.is_full().then(unchanged).flatten() {
                Some((live, next)) => {
                    collector.seen += i64::from(live);
                    next
                }
                None => place.visit_leaf(&state.tree, &query.range, |key, slot| {
                    visit(&mut collector, key, slot, at)
                }),
            };
            leaves += 1;
            if let Some(place) = cursor.filter(|_| leaves % SLICE_LEAVES == 0) {
                let next = place.first_key(&state.tree);
                drop(state);
                state = shared.state.read();
                if at < state.compact_revision {
                    return Err(RangeError::Compacted);
                }
                cursor = Some(state.tree.cursor(Bound::Included(&next)));
            }
        }
    }
    let backend = collector.rows_of(&state);
    drop(state);
    collector.finish_at(shared, backend.as_ref(), current, at)
}

fn visit(collector: &mut Collector<'_>, key: KeyParts<'_>, slot: &Slot, at: i64) -> bool {
    let Some((version, newest)) = slot.at(at) else { return true };
    collector.add(key, version, if newest { slot.value() } else { None })
}

/// A live key as a batch sees it.
pub(crate) struct Live<'a> {
    pub(crate) meta: KeyMeta,
    pub(crate) kv: Option<&'a StoredKv>,
}

/// Hands the keys of `range` that are live at `at` to `each`, in key order: those of `tree`, which
/// is not newer than `at`, with the changes of `overlay` up to `at`. `each` says whether to go on.
pub(crate) fn merged(
    tree: &Tree,
    overlay: &Overlay,
    range: &KeyRange,
    at: i64,
    mut each: impl FnMut(KeyParts<'_>, Live<'_>) -> bool,
) {
    if range.is_empty() {
        return;
    }
    let mut changed = overlay.range(range).peekable();
    let mut cursor = Some(tree.cursor(Bound::Included(&range.start)));
    let mut go_on = true;
    while let Some(place) = cursor {
        cursor = place.visit_leaf(tree, range, |key, slot| {
            while let Some((new, changes)) =
                changed.next_if(|(new, _)| key.cmp_key(new) == Ordering::Greater)
            {
                go_on = go_on && visit_changes(new, changes, at, &mut each);
            }
            let changes = changed.next_if(|(same, _)| key.cmp_key(same) == Ordering::Equal);
            if go_on {
                go_on = match changes.filter(|(_, changes)| changes.at(at).is_some()) {
                    Some((key, changes)) => visit_changes(key, changes, at, &mut each),
                    None => {
                        slot.meta().is_none_or(|meta| each(key, Live { meta, kv: slot.value() }))
                    }
                };
            }
            go_on
        });
    }
    for (key, changes) in changed {
        go_on = go_on && visit_changes(key, changes, at, &mut each);
    }
}

fn visit_changes(
    key: &[u8],
    changes: &Changes,
    at: i64,
    each: &mut impl FnMut(KeyParts<'_>, Live<'_>) -> bool,
) -> bool {
    let Some((meta, change)) = changes.at(at).and_then(|change| Some((change.meta()?, change)))
    else {
        return true;
    };
    each(KeyParts { prefix: &[], suffix: key }, Live { meta, kv: change.kv() })
}

/// Reads a range of what is published and of `overlay`, at a revision `at` that is not below the
/// published one.
pub(crate) fn overlaid(
    shared: &Shared,
    backend: &Backend,
    overlay: &Overlay,
    query: &RangeQuery,
    at: i64,
    current: i64,
) -> Result<RangeResult, RangeError> {
    let state = shared.state.read();
    let mut count = state.tree.count(&query.range);
    for (key, changes) in overlay.range(&query.range) {
        if let Some(change) = changes.at(at) {
            let was = state.tree.get(key).is_some_and(Slot::is_live);
            count += i64::from(change.meta().is_some()) - i64::from(was);
        }
    }
    let mut collector = Collector::new(query, Some(count));
    if !collector.is_done() {
        merged(&state.tree, overlay, &query.range, at, |key, live| {
            let KeyMeta { create_revision: create, mod_revision: revision, version, .. } =
                live.meta;
            collector.add(key, Version { create, revision, version }, live.kv)
        });
    }
    drop(state);
    collector.finish(shared, Some(backend), current)
}
