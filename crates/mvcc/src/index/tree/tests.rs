//! The tree against a `BTreeMap`.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcdrs_types::{LeaseId, Revision};

use super::*;
use crate::index::{Builder, ChangeKind};

/// A small generator; the numbers only have to be spread.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn put(main: i64) -> Change {
    let kind = ChangeKind::Put { create: main, version: 1, lease: LeaseId::NONE, kv: None };
    Change { revision: Revision::main(main), kind }
}

fn delete(main: i64) -> Change {
    Change { revision: Revision::main(main), kind: ChangeKind::Delete }
}

fn check_node(tree: &Tree, node: u32, depth: usize, low: &[u8], high: Option<&[u8]>) -> u32 {
    let inside = |key: &[u8]| assert!(key >= low && high.is_none_or(|high| key < high));
    if depth == tree.height {
        let leaf = &tree.leaves[node as usize];
        assert!(depth == 0 || !leaf.slots.is_empty());
        assert!(leaf.slots.len() <= LEAF_MAX);
        assert_eq!(leaf.slots.len(), leaf.keys.len());
        (0..leaf.keys.len()).for_each(|position| inside(&leaf.keys.get(position)));
        assert_eq!(count_live(&leaf.slots), leaf.live);
        return leaf.live;
    }
    let inner = &tree.inners[node as usize];
    assert_eq!(inner.separators.len() + 1, inner.children.len());
    assert!(inner.children.len() <= INNER_MAX);
    for (position, &child) in inner.children.iter().enumerate() {
        let from = if position == 0 { low.to_vec() } else { inner.separators.get(position - 1) };
        let to = (position < inner.separators.len()).then(|| inner.separators.get(position));
        let live = check_node(tree, child, depth + 1, &from, to.as_deref().or(high));
        assert_eq!(live, inner.live[position]);
    }
    inner.total()
}

fn check(tree: &Tree, model: &BTreeMap<Vec<u8>, bool>, random: &mut Random) {
    let live = check_node(tree, tree.root, 0, b"", None);
    assert_eq!(i64::from(live), tree.live);
    assert_eq!(tree.entries, model.len());
    for _ in 0..20 {
        let (a, b) = (key(random.below(4000)), key(random.below(4000)));
        let range = KeyRange { start: a.clone().into(), end: RangeEnd::Before(b.clone().into()) };
        let want: Vec<_> = if a < b { model.range(a..b).collect() } else { Vec::new() };
        let count = want.iter().filter(|(_, live)| **live).count();
        assert_eq!(tree.count(&range), count as i64);
        let mut got = Vec::new();
        let mut cursor = Some(tree.cursor(Bound::Included(&range.start)));
        while let Some(at) = cursor.filter(|_| !range.is_empty()) {
            cursor = at.visit_leaf(tree, &range, |key, slot| {
                got.push((key.to_vec(), slot.is_live()));
                true
            });
        }
        assert!(got.iter().map(|(key, live)| (key, live)).eq(want));
    }
    assert_eq!(tree.count(&KeyRange::all()), model.values().filter(|live| **live).count() as i64);
}

fn key(number: u64) -> Vec<u8> {
    // Lengths and shared prefixes of many kinds.
    match number % 4 {
        0 => format!("/registry/pods/default/{number}").into_bytes(),
        1 => format!("/registry/events/{number:012}").into_bytes(),
        2 => vec![0; (number % 37) as usize + 1].into_iter().chain(number.to_be_bytes()).collect(),
        _ => number.to_le_bytes().to_vec(),
    }
}

#[test]
fn agrees_with_a_map() {
    let mut random = Random(7);
    let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
    for round in 0..30 {
        for step in 0..1000 {
            let main = round * 1000 + step + 2;
            let key = key(random.below(4000));
            let live = model.get(&key).copied().unwrap_or(false);
            // Rounds that mostly fill and rounds that mostly empty take turns.
            if live && random.below(4) < if round % 6 < 3 { 1 } else { 3 } {
                tree.apply(&key, delete(main));
                model.insert(key, false);
            } else if round % 6 < 3 || live {
                tree.apply(&key, put(main));
                model.insert(key, true);
            }
        }
        check(&tree, &model, &mut random);
        if round % 3 == 2 {
            let at = round * 1000 + 1002;
            let mut from = Some(Vec::new());
            while let Some(key) = from {
                (from, _) = tree.compact_leaf(&key, at, |_, _| {});
            }
            model.retain(|_, live| *live);
            check(&tree, &model, &mut random);
        }
    }
}

#[test]
fn empties_and_fills_again() {
    let mut tree = Tree::default();
    for round in 0..3i64 {
        for n in 0..5000 {
            tree.apply(format!("k{n:05}").as_bytes(), put(round * 10_000 + n + 1));
        }
        assert!(tree.height > 1);
        for n in 0..5000 {
            tree.apply(format!("k{n:05}").as_bytes(), delete(round * 10_000 + n + 5001));
        }
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            (from, _) = tree.compact_leaf(&key, i64::MAX, |_, _| {});
        }
        assert_eq!((tree.entries, tree.height, tree.live), (0, 0, 0));
    }
}

#[test]
fn built_at_once_equals_built_by_hand() {
    for n in [0, 1, 59, 60, 61, 3600, 3601, 20_000u64] {
        let (mut builder, mut model) = (Builder::default(), BTreeMap::new());
        for n in 0..n {
            model.insert(key(n), true);
        }
        for (main, key) in model.keys().enumerate() {
            builder.push(key, Slot::new(put(main as i64 + 2)));
        }
        let mut tree = builder.finish();
        let mut random = Random(n);
        check(&tree, &model, &mut random);
        for _ in 0..2000 {
            let key = key(random.below(30_000));
            if model.insert(key.clone(), true).is_none() {
                tree.apply(&key, put(100_000));
            }
        }
        check(&tree, &model, &mut random);
    }
}

#[test]
fn values_stay_within_the_budget() {
    let mut tree = Tree::default();
    for n in 0..1000i64 {
        let kv = StoredKv::from_encoded(Bytes::from(vec![1; 100]));
        let kind = ChangeKind::Put { create: n, version: 1, lease: LeaseId::NONE, kv: Some(kv) };
        tree.apply(format!("{n}").as_bytes(), Change { revision: Revision::main(n + 1), kind });
    }
    let full = tree.value_bytes();
    // The first sweep only clears the marks of fresh values.
    tree.evict(full / 2, 10_000);
    assert!(tree.value_bytes() <= full / 2 && tree.value_bytes() > full / 4);
    let cached =
        (0..1000).filter(|n| tree.get(format!("{n}").as_bytes()).unwrap().value().is_some());
    let (count, hidden) = (cached.count(), full / 1000);
    assert_eq!(count * hidden, tree.value_bytes());
}

#[test]
fn values_are_charged_what_the_allocator_takes() {
    for (len, class) in [(1, 16), (128, 128), (129, 160), (320, 320), (321, 384), (1025, 1280)] {
        assert_eq!(size_class(len), class, "{len}");
    }
}
