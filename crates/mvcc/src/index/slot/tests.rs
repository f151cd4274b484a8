//! One key through its lives.

use super::*;

fn put(main: i64, create: i64, version: i64) -> Change {
    let kind = ChangeKind::Put { create, version, lease: LeaseId::NONE, kv: None };
    Change { revision: Revision::main(main), kind }
}

fn delete(main: i64) -> Change {
    Change { revision: Revision::main(main), kind: ChangeKind::Delete }
}

/// The example of storage-and-raft.md §3.3: put 1, put 2, delete 3, put 4, delete 5.
fn example() -> Slot {
    let mut slot = Slot::new(put(1, 1, 1));
    for change in [put(2, 1, 2), delete(3), put(4, 4, 1), delete(5)] {
        slot.apply(change);
    }
    slot
}

fn revisions(slot: &Slot) -> Vec<i64> {
    let past = slot.past.iter().flat_map(|past| past.revisions.iter().map(|old| old.main));
    past.chain([slot.main]).collect()
}

#[test]
fn a_key_is_seen_as_it_was() {
    let slot = example();
    let at = |rev| slot.at(rev).map(|(v, _)| (v.create, v.revision.main, v.version));
    assert_eq!(at(0), None);
    assert_eq!(at(1), Some((1, 1, 1)));
    assert_eq!(at(2), Some((1, 2, 2)));
    assert_eq!(at(3), None);
    assert_eq!(at(4), Some((4, 4, 1)));
    assert_eq!(at(5), None);
}

#[test]
fn cp_02_the_reference_example() {
    for (at, left) in [
        (1, vec![1, 2, 3, 4, 5]),
        (2, vec![2, 3, 4, 5]),
        (3, vec![3, 4, 5]),
        (4, vec![4, 5]),
        (5, vec![5]),
    ] {
        let mut slot = example();
        let mut dropped = Vec::new();
        assert!(!slot.compact(at, &mut dropped), "{at}");
        assert_eq!(revisions(&slot), left, "{at}");
        assert_eq!(dropped.len() + left.len(), 5);
        let seen = slot.at(at).map(|(v, _)| (v.create, v.revision.main, v.version));
        assert_eq!(
            seen,
            [None, Some((1, 1, 1)), Some((1, 2, 2)), None, Some((4, 4, 1)), None][at as usize]
        );
    }
    let mut slot = example();
    assert!(slot.compact(6, &mut Vec::new()));
}

#[test]
fn trimmed_lives_keep_their_numbers() {
    let mut slot = Slot::new(put(1, 1, 1));
    for (main, version) in [(3, 2), (5, 3), (7, 4)] {
        slot.apply(put(main, 1, version));
    }
    slot.compact(6, &mut Vec::new());
    assert_eq!(revisions(&slot), [5, 7]);
    slot.apply(delete(8));
    slot.apply(put(9, 9, 1));
    slot.apply(put(10, 9, 2));
    let at = |slot: &Slot, rev| slot.at(rev).map(|(v, _)| (v.create, v.revision.main, v.version));
    assert_eq!(at(&slot, 6), Some((1, 5, 3)));
    assert_eq!(at(&slot, 7), Some((1, 7, 4)));
    assert_eq!(at(&slot, 8), None);
    assert_eq!(at(&slot, 9), Some((9, 9, 1)));
    assert_eq!(at(&slot, 10), Some((9, 10, 2)));
    slot.compact(7, &mut Vec::new());
    assert_eq!(at(&slot, 7), Some((1, 7, 4)));
    slot.compact(9, &mut Vec::new());
    assert_eq!(revisions(&slot), [9, 10]);
    assert_eq!(at(&slot, 9), Some((9, 9, 1)));
}
