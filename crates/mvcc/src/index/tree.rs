//! The B+tree.

use std::cmp::Ordering;
use std::ops::Bound;

use etcdrs_types::{KeyRange, RangeEnd};

use super::cursor::Cursor;
use super::packed::{ITEMS_STEP, Packed};
use super::slot::{Change, Dropped, Slot};
use crate::StoredKv;

/// Most keys of a leaf.
pub(super) const LEAF_MAX: usize = 64;
/// Most children of an inner node.
pub(super) const INNER_MAX: usize = 64;
/// Deeper than any tree of 64-way nodes that fits in memory.
const HEIGHT_MAX: usize = 16;
/// Leaves without values that the eviction hand may pass for each that has some.
const COLD_LEAVES_FACTOR: usize = 8;
/// What a cached value costs besides its bytes: its handle is part of the slot, the shared count
/// and the allocator's share are not.
const VALUE_OVERHEAD: usize = 48;

/// All keys in order.
///
/// Invariant: the count beside a child is the number of live keys below it; all leaves have the
/// same depth; no node but an only leaf is empty.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) leaves: Vec<Leaf>,
    pub(super) free_leaves: Vec<u32>,
    pub(super) inners: Vec<Inner>,
    pub(super) free_inners: Vec<u32>,
    pub(super) root: u32,
    /// Levels of inner nodes.
    pub(super) height: usize,
    pub(super) live: i64,
    pub(super) entries: usize,
    pub(super) past_bytes: usize,
    pub(super) value_bytes: usize,
    /// The leaf that the eviction hand looks at next.
    pub(super) hand: usize,
}

#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub(super) keys: Packed,
    pub(super) slots: Vec<Slot>,
    pub(super) live: u32,
    /// No key of the leaf changed after this main revision.
    pub(super) newest: i64,
}

/// Invariant: `separators` has one string less than there are children; all keys below child i
/// are smaller than separator i, and those below child i + 1 are not.
#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) separators: Packed,
    pub(super) children: Vec<u32>,
    pub(super) live: Vec<u32>,
}

/// The way from the root to a leaf: inner nodes and the child taken in each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    pub(super) steps: [(u32, u32); HEIGHT_MAX],
    pub(super) leaf: u32,
}

/// A key in the parts it is stored in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyParts<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) suffix: &'a [u8],
}

impl KeyParts<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(self.suffix);
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }

    pub(crate) fn cmp_key(&self, key: &[u8]) -> Ordering {
        let shared = self.prefix.len().min(key.len());
        self.prefix.cmp(&key[..shared]).then_with(|| self.suffix.cmp(&key[shared..]))
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            leaves: vec![Leaf::default()],
            free_leaves: Vec::new(),
            inners: Vec::new(),
            free_inners: Vec::new(),
            root: 0,
            height: 0,
            live: 0,
            entries: 0,
            past_bytes: 0,
            value_bytes: 0,
            hand: 0,
        }
    }
}

impl Inner {
    /// The child below which `key` lies.
    fn child(&self, key: &[u8]) -> usize {
        self.separators.search(key).map_or_else(|position| position, |position| position + 1)
    }

    fn live_before(&self, child: usize) -> i64 {
        self.live[..child].iter().map(|&live| i64::from(live)).sum()
    }

    fn total(&self) -> u32 {
        self.live.iter().sum()
    }
}

impl Tree {
    fn descend(&self, key: &[u8]) -> Path {
        let mut path = Path::default();
        let mut node = self.root;
        for step in &mut path.steps[..self.height] {
            let inner = &self.inners[node as usize];
            let child = inner.child(key);
            *step = (node, child as u32);
            node = inner.children[child];
        }
        path.leaf = node;
        path
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Slot> {
        let mut node = self.root;
        for _ in 0..self.height {
            let inner = &self.inners[node as usize];
            node = inner.children[inner.child(key)];
        }
        let leaf = &self.leaves[node as usize];
        leaf.keys.search(key).ok().map(|position| &leaf.slots[position])
    }

    /// Live keys before `key`.
    fn rank(&self, key: &[u8]) -> i64 {
        let mut node = self.root;
        let mut rank = 0;
        for _ in 0..self.height {
            let inner = &self.inners[node as usize];
            let child = inner.child(key);
            rank += inner.live_before(child);
            node = inner.children[child];
        }
        let leaf = &self.leaves[node as usize];
        let position = leaf.keys.search(key).unwrap_or_else(|position| position);
        rank + leaf.live_before(position)
    }

    /// Live keys in `range`.
    pub(crate) fn count(&self, range: &KeyRange) -> i64 {
        match &range.end {
            RangeEnd::Single => i64::from(self.get(&range.start).is_some_and(Slot::is_live)),
            RangeEnd::Before(end) if range.is_empty() => {
                debug_assert!(end <= &range.start);
                0
            }
            RangeEnd::Before(end) => self.rank(end) - self.rank(&range.start),
            RangeEnd::Unbounded => self.live - self.rank(&range.start),
        }
    }

    /// Live keys.
    pub(crate) fn live(&self) -> i64 {
        self.live
    }

    /// Keys, dead ones included.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// Applies `change` to `key`.
    pub(crate) fn apply(&mut self, key: &[u8], change: Change) {
        let path = self.descend(key);
        let leaf = &mut self.leaves[path.leaf as usize];
        leaf.newest = leaf.newest.max(change.revision.main);
        let (was, is) = match leaf.keys.search(key) {
            Ok(position) => {
                let slot = &mut leaf.slots[position];
                let was = slot.is_live();
                let (value, past) = (cost(slot), slot.heap_bytes());
                slot.apply(change);
                self.value_bytes = self.value_bytes + cost(slot) - value;
                self.past_bytes = self.past_bytes + slot.heap_bytes() - past;
                (was, slot.is_live())
            }
            Err(position) => {
                let slot = Slot::new(change);
                let is = slot.is_live();
                self.value_bytes += cost(&slot);
                self.entries += 1;
                leaf.insert(position, key, slot);
                (false, is)
            }
        };
        let delta = i32::from(is) - i32::from(was);
        if delta != 0 {
            self.adjust(&path, delta);
        }
        if self.leaves[path.leaf as usize].slots.len() > LEAF_MAX {
            self.split_leaf(&path);
        }
    }

    /// Adds `delta` to the live counts along `path`.
    fn adjust(&mut self, path: &Path, delta: i32) {
        self.live += i64::from(delta);
        for &(node, child) in &path.steps[..self.height] {
            let live = &mut self.inners[node as usize].live[child as usize];
            *live = live.checked_add_signed(delta).expect("counts equal what is below");
        }
        let live = &mut self.leaves[path.leaf as usize].live;
        *live = live.checked_add_signed(delta).expect("counts equal what is below");
    }

    fn split_leaf(&mut self, path: &Path) {
        let leaf = &mut self.leaves[path.leaf as usize];
        let is_last = path.steps[..self.height]
            .iter()
            .all(|&(node, child)| self.inners[node as usize].children.len() == child as usize + 1);
        // Keys that arrive in order fill the leaves they leave behind.
        let at = if is_last { LEAF_MAX - 4 } else { leaf.slots.len() / 2 };
        let right = leaf.split_off(at);
        let separator = separator(&leaf.keys, &right.keys);
        let live = right.live;
        let right = place(&mut self.leaves, &mut self.free_leaves, right);
        self.insert_child(path, self.height, &separator, right, live);
    }

    /// Puts `child`, split off the node that `path` reaches at `level`, beside it.
    fn insert_child(&mut self, path: &Path, level: usize, key: &[u8], child: u32, live: u32) {
        let Some(level) = level.checked_sub(1) else {
            let left = u32::try_from(self.live).expect("counts fit") - live;
            let mut separators = Packed::default();
            separators.push(key);
            let root =
                Inner { separators, children: vec![self.root, child], live: vec![left, live] };
            self.root = place(&mut self.inners, &mut self.free_inners, root);
            self.height += 1;
            assert!(self.height <= HEIGHT_MAX, "64-way nodes never get this deep");
            return;
        };
        let (node, position) = path.steps[level];
        let position = position as usize;
        let inner = &mut self.inners[node as usize];
        inner.live[position] -= live;
        for list in [&mut inner.children, &mut inner.live] {
            if list.len() == list.capacity() {
                list.reserve_exact(ITEMS_STEP);
            }
        }
        inner.separators.insert(position, key);
        inner.children.insert(position + 1, child);
        inner.live.insert(position + 1, live);
        if inner.children.len() > INNER_MAX {
            let is_last = position + 2 == inner.children.len();
            let at = if is_last { INNER_MAX - 4 } else { inner.children.len() / 2 };
            let (separator, right) = inner.split_off(at);
            let live = right.total();
            let right = place(&mut self.inners, &mut self.free_inners, right);
            self.insert_child(path, level, &separator, right, live);
        }
    }

    /// Removes `key` with its slot, which must be dead.
    fn remove(&mut self, key: &[u8]) {
        let path = self.descend(key);
        let leaf = &mut self.leaves[path.leaf as usize];
        let Ok(position) = leaf.keys.search(key) else { return };
        let slot = leaf.slots.remove(position);
        leaf.keys.remove(position);
        debug_assert!(!slot.is_live());
        self.past_bytes -= slot.heap_bytes();
        self.entries -= 1;
        if leaf.slots.is_empty() {
            if self.height > 0 {
                *leaf = Leaf::default();
                self.free_leaves.push(path.leaf);
                self.remove_child(&path, self.height - 1);
            }
        } else if leaf.slots.len() < LEAF_MAX / 4 && self.height > 0 {
            self.merge_leaf(&path);
        }
    }

    /// Takes the child away that `path` takes at `level`; nothing is left below it.
    fn remove_child(&mut self, path: &Path, level: usize) {
        let (node, position) = path.steps[level];
        let position = position as usize;
        let inner = &mut self.inners[node as usize];
        inner.children.remove(position);
        inner.live.remove(position);
        if inner.separators.len() > 0 {
            inner.separators.remove(position.saturating_sub(1));
        }
        if inner.children.is_empty() {
            *inner = Inner::default();
            if level == 0 {
                // The last leaf of all is gone too.
                (self.inners, self.free_inners, self.height) = (Vec::new(), Vec::new(), 0);
                (self.leaves, self.free_leaves) = (vec![Leaf::default()], Vec::new());
                self.root = 0;
            } else {
                self.free_inners.push(node);
                self.remove_child(path, level - 1);
            }
        } else if level == 0 {
            self.shrink_root();
        }
    }

    fn shrink_root(&mut self) {
        while self.height > 0 && self.inners[self.root as usize].children.len() == 1 {
            let old = self.root;
            self.root = self.inners[old as usize].children[0];
            self.inners[old as usize] = Inner::default();
            self.free_inners.push(old);
            self.height -= 1;
        }
    }

    /// Moves a small leaf into its right or left neighbour under the same parent, if both fit.
    fn merge_leaf(&mut self, path: &Path) {
        let level = self.height - 1;
        let (node, position) = path.steps[level];
        let inner = &self.inners[node as usize];
        let position = position as usize;
        let Some(left) = inner.children.len().checked_sub(2).map(|last| position.min(last)) else {
            return;
        };
        let (keep, gone) = (inner.children[left], inner.children[left + 1]);
        let sum = self.leaves[keep as usize].slots.len() + self.leaves[gone as usize].slots.len();
        if sum > LEAF_MAX * 3 / 4 {
            return;
        }
        let other = std::mem::take(&mut self.leaves[gone as usize]);
        let leaf = &mut self.leaves[keep as usize];
        leaf.keys.append(&other.keys);
        leaf.slots.reserve_exact(other.slots.len());
        leaf.slots.extend(other.slots);
        leaf.live += other.live;
        leaf.newest = leaf.newest.max(other.newest);
        let live = leaf.live;
        self.free_leaves.push(gone);
        let inner = &mut self.inners[node as usize];
        inner.live[left] = live;
        inner.live.remove(left + 1);
        inner.children.remove(left + 1);
        inner.separators.remove(left);
        if level == 0 {
            self.shrink_root();
        }
    }

    /// Compacts the keys from `from` on to the end of its leaf; `each` gets every dropped
    /// revision. Returns the first key that was not looked at, and the number that were.
    pub(crate) fn compact_leaf(
        &mut self,
        from: &[u8],
        at: i64,
        mut each: impl FnMut(&[u8], Dropped),
    ) -> (Option<Vec<u8>>, usize) {
        let cursor = self.cursor(Bound::Included(from));
        let Some(begin) = cursor.position(self) else { return (None, 0) };
        let next = cursor.next_leaf(self).map(|next| next.key(self).to_vec());
        let leaf = &mut self.leaves[cursor.path.leaf as usize];
        let (mut dropped, mut gone) = (Vec::new(), Vec::new());
        let visited = leaf.slots.len() - begin;
        for position in begin..leaf.slots.len() {
            let slot = &mut leaf.slots[position];
            if !slot.is_compactable() {
                continue;
            }
            let past = slot.heap_bytes();
            let is_gone = slot.compact(at, &mut dropped);
            self.past_bytes = self.past_bytes + slot.heap_bytes() - past;
            if dropped.is_empty() {
                continue;
            }
            let key = leaf.keys.get(position);
            dropped.drain(..).for_each(|dropped| each(&key, dropped));
            if is_gone {
                gone.push(key);
            }
        }
        gone.iter().for_each(|key| self.remove(key));
        (next, visited)
    }

    /// Caches the pair that lies at `revision` under `key`, if it is still the newest.
    pub(crate) fn fill(&mut self, key: &[u8], revision: etcdrs_types::Revision, kv: StoredKv) {
        let path = self.descend(key);
        let leaf = &mut self.leaves[path.leaf as usize];
        if let Ok(position) = leaf.keys.search(key) {
            let slot = &mut leaf.slots[position];
            if slot.fill(revision, kv) {
                self.value_bytes += cost(slot);
            }
        }
    }

    /// Bytes of cached values.
    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Drops values that were not read lately until at most `budget` bytes are cached, looking at
    /// no more than `leaves_max` leaves that hold some.
    pub(crate) fn evict(&mut self, budget: usize, leaves_max: usize) {
        let mut left = leaves_max;
        // Leaves without values cost little, but there may be very many in a row.
        for _ in 0..leaves_max * COLD_LEAVES_FACTOR {
            if self.value_bytes <= budget || left == 0 {
                return;
            }
            self.hand = if self.hand + 1 < self.leaves.len() { self.hand + 1 } else { 0 };
            left -= usize::from(self.leaves[self.hand].slots.iter().any(|slot| cost(slot) > 0));
            for slot in &mut self.leaves[self.hand].slots {
                let before = cost(slot);
                if slot.sweep().is_some() {
                    self.value_bytes -= before;
                }
            }
        }
    }

    /// Heap bytes of the structure without keys and values, and of the keys.
    pub(crate) fn memory(&self) -> (usize, usize) {
        let (mut index, mut keys) = (self.past_bytes, 0);
        for leaf in &self.leaves {
            let stored = leaf.keys.key_bytes();
            keys += stored;
            index += size_of::<Leaf>() + leaf.keys.heap_bytes() - stored;
            index += leaf.slots.capacity() * size_of::<Slot>();
        }
        for inner in &self.inners {
            index += size_of::<Inner>() + inner.separators.heap_bytes();
            index += (inner.children.capacity() + inner.live.capacity()) * size_of::<u32>();
        }
        (index, keys)
    }

    /// A cursor before the first key at or after `from`.
    pub(crate) fn cursor(&self, from: Bound<&[u8]>) -> Cursor {
        let (Bound::Included(key) | Bound::Excluded(key)) = from else {
            return Cursor { path: self.descend(&[]), position: 0 };
        };
        let path = self.descend(key);
        let position = match self.leaves[path.leaf as usize].keys.search(key) {
            Ok(position) if matches!(from, Bound::Excluded(_)) => position + 1,
            Ok(position) | Err(position) => position,
        };
        let cursor = Cursor { path, position };
        if cursor.position(self).is_some() {
            cursor
        } else {
            cursor.next_leaf(self).unwrap_or(cursor)
        }
    }
}

impl Leaf {
    fn insert(&mut self, position: usize, key: &[u8], slot: Slot) {
        self.keys.insert(position, key);
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(ITEMS_STEP);
        }
        self.slots.insert(position, slot);
    }

    fn split_off(&mut self, at: usize) -> Self {
        let keys = self.keys.split_off(at);
        let mut slots = Vec::with_capacity(self.slots.len() - at);
        slots.extend(self.slots.drain(at..));
        self.slots.shrink_to_fit();
        let live = count_live(&slots);
        self.live -= live;
        Self { keys, slots, live, newest: self.newest }
    }

    fn live_before(&self, position: usize) -> i64 {
        if self.live as usize == self.slots.len() {
            return position as i64;
        }
        i64::from(count_live(&self.slots[..position]))
    }
}

impl Inner {
    /// Splits before child `at`; the separator between the halves moves up.
    fn split_off(&mut self, at: usize) -> (Vec<u8>, Self) {
        let separators = self.separators.split_off(at);
        let up = self.separators.get(at - 1);
        self.separators.remove(at - 1);
        let right = Self {
            separators,
            children: self.children.split_off(at),
            live: self.live.split_off(at),
        };
        (up, right)
    }
}

fn count_live(slots: &[Slot]) -> u32 {
    slots.iter().map(|slot| u32::from(slot.is_live())).sum()
}

fn cost(slot: &Slot) -> usize {
    match slot.cached_len() {
        0 => 0,
        len => size_class(len) + VALUE_OVERHEAD,
    }
}

/// What an allocator with four size classes to each doubling, such as jemalloc, takes for `len`
/// bytes. Pairs of a little over 1 KiB take a quarter more than they have.
fn size_class(len: usize) -> usize {
    if len <= 128 {
        return len.next_multiple_of(16);
    }
    len.next_multiple_of(1 << ((len - 1).ilog2() - 2))
}

/// A short string that is above all of `left` and not above any of `right`.
pub(super) fn separator(left: &Packed, right: &Packed) -> Vec<u8> {
    let low = left.get(left.len() - 1);
    let mut high = right.get(0);
    let shared = super::packed::shared_len(&low, &high);
    high.truncate(shared + 1);
    high
}

fn place<T>(list: &mut Vec<T>, free: &mut Vec<u32>, item: T) -> u32 {
    if let Some(number) = free.pop() {
        list[number as usize] = item;
        return number;
    }
    list.push(item);
    u32::try_from(list.len() - 1).expect("fewer than 2^32 nodes fit in memory")
}

#[cfg(test)]
mod tests;
