//! A spliced list is the list that a range gives, or nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Fixture;
use etcdrs_mvcc::{Options, RangeQuery, SortOrder, Splice};
use etcdrs_types::KeyRange;

#[derive(Default)]
struct List {
    announced: (usize, usize),
    pairs: Vec<Vec<u8>>,
}

impl Splice for List {
    fn begin(&mut self, pairs: usize, bytes: usize) {
        assert_eq!(self.announced, (0, 0), "begins once");
        self.announced = (pairs, bytes);
    }

    fn pair(&mut self, bytes: &[u8]) {
        self.pairs.push(bytes.to_vec());
    }
}

#[track_caller]
fn check(fixture: &Fixture, query: &RangeQuery, spliced: bool) {
    let mut list = List::default();
    let found = fixture.reader().splice(query, 100, &mut list);
    assert_eq!(found.is_some(), spliced, "{query:?}");
    let Some(found) = found else {
        assert!(list.pairs.is_empty() && list.announced == (0, 0));
        return;
    };
    let want = fixture.reader().range(query).unwrap();
    assert_eq!((found.revision, found.more, found.count), (want.revision, want.more, want.count));
    assert!(list.pairs.iter().eq(want.kvs.iter().map(|kv| kv.bytes())));
    let bytes = list.pairs.iter().map(Vec::len).sum();
    assert_eq!(list.announced, (list.pairs.len(), bytes));
}

#[test]
fn rg_04_rg_05_spliced_lists_equal_ranges() {
    let mut fixture = Fixture::new(Options::default());
    for i in 0..150 {
        fixture.put(&format!("k{i:03}"), &"v".repeat(i));
    }
    fixture.delete(&KeyRange::from_wire("k010".into(), "k060".into()));
    let range = |key: &'static str, end: &'static str| {
        RangeQuery::new(KeyRange::from_wire(key.into(), end.into()))
    };
    check(&fixture, &range("k", "l"), true);
    check(&fixture, &range("k005", "k065"), true);
    check(&fixture, &range("k020", "k050"), true);
    check(&fixture, &range("k140", "\0"), true);
    check(&fixture, &RangeQuery { limit: 7, ..range("k005", "l") }, true);
    check(&fixture, &RangeQuery { limit: 1000, ..range("k005", "l") }, true);
    fixture.put("one more", "");
    check(&fixture, &range("\0", "\0"), false);
    for other in [
        range("k001", ""),
        range("l", "k"),
        RangeQuery { revision: 20, ..range("k", "l") },
        RangeQuery { keys_only: true, ..range("k", "l") },
        RangeQuery { count_only: true, ..range("k", "l") },
        RangeQuery { order: SortOrder::Descend, ..range("k", "l") },
        RangeQuery { min_mod_revision: 3, ..range("k", "l") },
    ] {
        check(&fixture, &other, false);
    }
}

#[test]
fn a_cold_value_leaves_the_list_to_the_database() {
    let options = Options { value_cache_bytes: 0, ..Options::default() };
    let mut fixture = Fixture::new(options);
    fixture.put("a", "1");
    fixture.put("b", "2");
    check(&fixture, &RangeQuery::new(KeyRange::prefix(b"")), false);
}
