//! Which watched ranges contain a key.
//!
//! Equal ranges share one *group*. Single keys are found through a hash map, the others through a
//! treap ordered by start whose nodes know the farthest end below them, so that a look-up costs
//! O(log n + hits). Nothing iterates over the hash map.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use etcdrs_types::{KeyRange, RangeEnd};

/// Stands for "no group" and "no watcher".
pub(super) const NIL: u32 = u32::MAX;

/// Names a group.
pub(super) type GroupId = u32;

struct Group {
    start: Arc<[u8]>,
    /// `None` is unbounded. Of no meaning for a single key.
    end: Option<Arc<[u8]>>,
    single: bool,
    members: u32,
    /// First of the group's synced watchers; the list runs through the watchers.
    head: u32,
    left: GroupId,
    right: GroupId,
    /// The group with the farthest end in the subtree below this one, itself included.
    farthest: GroupId,
}

/// The groups. Invariant: a group exists while it has members.
pub(super) struct Index {
    groups: Vec<Group>,
    free: Vec<GroupId>,
    singles: HashMap<Arc<[u8]>, GroupId>,
    root: GroupId,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), free: Vec::new(), singles: HashMap::new(), root: NIL }
    }

    /// Adds a member to the group of `range`, which is made if need be.
    pub(super) fn join(&mut self, range: &KeyRange) -> GroupId {
        // The empty key stands for the smallest key there is, `\0`.
        let start: &[u8] = if range.start.is_empty() { b"\0" } else { &range.start };
        let (single, end) = match &range.end {
            RangeEnd::Single => (true, None),
            RangeEnd::Before(end) => (false, Some(&end[..])),
            RangeEnd::Unbounded => (false, None),
        };
        let found = if single { self.singles.get(start).copied() } else { self.find(start, end) };
        if let Some(group) = found {
            self.groups[group as usize].members += 1;
            return group;
        }
        let group = self.allocate(Group {
            start: start.into(),
            end: end.map(Into::into),
            single,
            members: 1,
            head: NIL,
            left: NIL,
            right: NIL,
            farthest: NIL,
        });
        if single {
            self.singles.insert(Arc::clone(&self.groups[group as usize].start), group);
        } else {
            self.groups[group as usize].farthest = group;
            self.root = self.insert(self.root, group);
        }
        group
    }

    /// Takes a member out of a group, which goes with its last one.
    pub(super) fn leave(&mut self, group: GroupId) {
        let node = &mut self.groups[group as usize];
        node.members -= 1;
        if node.members > 0 {
            return;
        }
        debug_assert_eq!(node.head, NIL, "a synced watcher is a member");
        if node.single {
            let start = Arc::clone(&node.start);
            self.singles.remove(&start);
        } else {
            self.root = self.remove(self.root, group);
        }
        let node = &mut self.groups[group as usize];
        node.start = Arc::default();
        node.end = None;
        self.free.push(group);
    }

    /// First synced watcher of a group, [`NIL`] for none.
    pub(super) fn head(&self, group: GroupId) -> u32 {
        self.groups[group as usize].head
    }

    pub(super) fn set_head(&mut self, group: GroupId, watcher: u32) {
        self.groups[group as usize].head = watcher;
    }

    /// Appends the groups whose range contains `key` to `out`.
    pub(super) fn matching(&self, key: &[u8], out: &mut Vec<GroupId>) {
        if let Some(&group) = self.singles.get(key) {
            out.push(group);
        }
        self.stab(self.root, key, out);
    }

    /// Whether `key` lies in the range of `group`.
    pub(super) fn contains(&self, group: GroupId, key: &[u8]) -> bool {
        let node = &self.groups[group as usize];
        if node.single {
            *node.start == *key
        } else {
            *node.start <= *key && self.ends_after(group, key)
        }
    }

    /// The range of a group.
    pub(super) fn range(&self, group: GroupId) -> KeyRange {
        let node = &self.groups[group as usize];
        let end = match &node.end {
            _ if node.single => RangeEnd::Single,
            Some(end) => RangeEnd::Before(end.to_vec().into()),
            None => RangeEnd::Unbounded,
        };
        KeyRange { start: node.start.to_vec().into(), end }
    }

    fn allocate(&mut self, group: Group) -> GroupId {
        if let Some(id) = self.free.pop() {
            self.groups[id as usize] = group;
            return id;
        }
        self.groups.push(group);
        u32::try_from(self.groups.len() - 1)
            .expect("four billion watched ranges do not fit in memory")
    }

    fn stab(&self, at: GroupId, key: &[u8], out: &mut Vec<GroupId>) {
        if at == NIL {
            return;
        }
        let node = &self.groups[at as usize];
        if !self.ends_after(node.farthest, key) {
            return;
        }
        self.stab(node.left, key, out);
        if *node.start <= *key {
            if self.ends_after(at, key) {
                out.push(at);
            }
            self.stab(node.right, key, out);
        }
    }

    fn ends_after(&self, group: GroupId, key: &[u8]) -> bool {
        self.groups[group as usize].end.as_deref().is_none_or(|end| end > key)
    }

    /// Heap order of the treap: a number that looks random but is a function of the group's place.
    fn priority(group: GroupId) -> u32 {
        let mut mixed = group.wrapping_add(1).wrapping_mul(0x9e37_79b1);
        mixed ^= mixed >> 15;
        mixed = mixed.wrapping_mul(0x85eb_ca77);
        mixed ^ (mixed >> 13)
    }

    fn order(&self, group: GroupId, start: &[u8], end: Option<&[u8]>) -> Ordering {
        let node = &self.groups[group as usize];
        (*node.start).cmp(start).then_with(|| compare_ends(node.end.as_deref(), end))
    }

    fn order_groups(&self, one: GroupId, other: GroupId) -> Ordering {
        let other = &self.groups[other as usize];
        self.order(one, &other.start, other.end.as_deref())
    }

    fn find(&self, start: &[u8], end: Option<&[u8]>) -> Option<GroupId> {
        let mut at = self.root;
        while at != NIL {
            at = match self.order(at, start, end) {
                Ordering::Equal => return Some(at),
                Ordering::Less => self.groups[at as usize].right,
                Ordering::Greater => self.groups[at as usize].left,
            };
        }
        None
    }

    fn insert(&mut self, at: GroupId, new: GroupId) -> GroupId {
        if at == NIL {
            return new;
        }
        if Self::priority(new) > Self::priority(at) {
            let (left, right) = self.split(at, new);
            self.groups[new as usize].left = left;
            self.groups[new as usize].right = right;
            return self.updated(new);
        }
        if self.order_groups(new, at) == Ordering::Less {
            self.groups[at as usize].left = self.insert(self.groups[at as usize].left, new);
        } else {
            self.groups[at as usize].right = self.insert(self.groups[at as usize].right, new);
        }
        self.updated(at)
    }

    /// Splits the subtree `at` into what is before `pivot` and what is after it.
    fn split(&mut self, at: GroupId, pivot: GroupId) -> (GroupId, GroupId) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.order_groups(at, pivot) == Ordering::Less {
            let (left, right) = self.split(self.groups[at as usize].right, pivot);
            self.groups[at as usize].right = left;
            (self.updated(at), right)
        } else {
            let (left, right) = self.split(self.groups[at as usize].left, pivot);
            self.groups[at as usize].left = right;
            (left, self.updated(at))
        }
    }

    fn merge(&mut self, left: GroupId, right: GroupId) -> GroupId {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if Self::priority(left) > Self::priority(right) {
            self.groups[left as usize].right = self.merge(self.groups[left as usize].right, right);
            self.updated(left)
        } else {
            self.groups[right as usize].left = self.merge(left, self.groups[right as usize].left);
            self.updated(right)
        }
    }

    fn remove(&mut self, at: GroupId, old: GroupId) -> GroupId {
        assert_ne!(at, NIL, "a group with a range is in the tree");
        let (left, right) = (self.groups[at as usize].left, self.groups[at as usize].right);
        if at == old {
            return self.merge(left, right);
        }
        if self.order_groups(old, at) == Ordering::Less {
            self.groups[at as usize].left = self.remove(left, old);
        } else {
            self.groups[at as usize].right = self.remove(right, old);
        }
        self.updated(at)
    }

    /// Recomputes what a node knows of its subtree; returns the node.
    fn updated(&mut self, at: GroupId) -> GroupId {
        let node = &self.groups[at as usize];
        let mut farthest = at;
        for child in [node.left, node.right] {
            if child != NIL {
                let candidate = self.groups[child as usize].farthest;
                let (best, other) =
                    (&self.groups[farthest as usize], &self.groups[candidate as usize]);
                if compare_ends(other.end.as_deref(), best.end.as_deref()) == Ordering::Greater {
                    farthest = candidate;
                }
            }
        }
        self.groups[at as usize].farthest = farthest;
        at
    }
}

/// Orders range ends; no end is the greatest.
fn compare_ends(one: Option<&[u8]>, other: Option<&[u8]>) -> Ordering {
    match (one, other) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(seed: &mut u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    fn random_range(seed: &mut u64) -> KeyRange {
        let mut key = || vec![b'a' + (next(seed) % 6) as u8; 1 + (next(seed) % 3) as usize];
        let (start, end) = (key(), key());
        let end = match next(seed) % 4 {
            0 => RangeEnd::Single,
            1 => RangeEnd::Unbounded,
            _ => RangeEnd::Before(end.into()),
        };
        KeyRange { start: start.into(), end }
    }

    #[test]
    fn agrees_with_a_list_of_ranges() {
        let mut seed = 7;
        let mut index = Index::new();
        let mut model: Vec<(KeyRange, GroupId)> = Vec::new();
        for _ in 0..3000 {
            if next(&mut seed).is_multiple_of(3) && !model.is_empty() {
                let at = (next(&mut seed) as usize) % model.len();
                index.leave(model.swap_remove(at).1);
            } else {
                let range = random_range(&mut seed);
                if !range.is_empty() {
                    let group = index.join(&range);
                    assert_eq!(index.range(group), range);
                    model.push((range, group));
                }
            }
            let probe = random_range(&mut seed).start;
            let mut found = Vec::new();
            index.matching(&probe, &mut found);
            found.sort_unstable();
            let mut wanted: Vec<GroupId> = model
                .iter()
                .filter(|(range, _)| range.contains(&probe))
                .map(|&(_, group)| group)
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            assert_eq!(found, wanted);
            assert!(model.iter().all(|(r, g)| r.contains(&probe) == index.contains(*g, &probe)));
        }
    }

    #[test]
    fn the_empty_key_is_the_zero_byte() {
        let mut index = Index::new();
        let group = index.join(&KeyRange::single(""));
        let mut found = Vec::new();
        index.matching(b"\0", &mut found);
        assert_eq!(found, [group]);
    }
}
