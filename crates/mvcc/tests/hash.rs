//! HashKV at bounds and behind compactions. Names give the rule of the reference.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Fixture;
use etcdrs_mvcc::{Options, Progress, RangeError};
use etcdrs_types::{KeyRange, Revision};

/// CRC-32C of the three bytes `key`, as etcd 3.5.1 answers.
const HASH_OF_THE_BUCKET_NAME: u32 = 1_084_519_789;

/// What the hash runs over, put together by hand.
struct Rows(Vec<u8>);

impl Rows {
    fn new() -> Self {
        Self(b"key".to_vec())
    }

    /// Adds the put of `key` at `revision`, which must not be compacted yet.
    fn put(mut self, fixture: &Fixture, key: &str, revision: i64) -> Self {
        self.0.extend_from_slice(&Revision::main(revision).to_key());
        let pair = fixture.reader().get_at(key.as_bytes(), revision).unwrap().unwrap();
        self.0.extend_from_slice(pair.bytes());
        self
    }

    fn tombstone(mut self, key: &str, revision: i64) -> Self {
        self.0.extend_from_slice(&Revision::main(revision).to_tombstone_key());
        self.0.extend_from_slice(&[0x0a, key.len() as u8]);
        self.0.extend_from_slice(key.as_bytes());
        self
    }

    fn hash(&self) -> u32 {
        crc32c::crc32c(&self.0)
    }
}

/// Compacts at `at` and checks the hashes of some revisions before, during and after the removal.
fn check_compacted(fixture: &mut Fixture, at: i64, want: &[(i64, u32)]) {
    let mut batch = fixture.store.begin();
    batch.compact(at).unwrap();
    batch.commit().unwrap();
    let reader = fixture.reader();
    let check = |stage: &str| {
        for &(revision, want) in want {
            let hashed = reader.hash_kv(revision).unwrap();
            assert_eq!(hashed.hash, want, "at {revision}, {stage} the removal up to {at}");
            assert_eq!((hashed.revision, hashed.compact_revision), (revision, at));
        }
    };
    check("before");
    let mut job = reader.compaction_job().unwrap();
    while job.step(1).unwrap() == Progress::More {
        check("during");
    }
    check("after");
}

#[test]
fn mt_04_behind_a_compaction_counts_what_one_at_the_hashed_revision_would_keep() {
    let mut fixture = Fixture::new(Options::default());
    fixture.put("a", "1");
    fixture.put("b", "2");
    fixture.put("c", "3");
    fixture.put("a", "4");
    fixture.delete(&KeyRange::single("b"));
    fixture.put("d", "5");
    // Of the revisions 2, 3 and 4 each hash has those that are newest and alive at its own one.
    let rows = Rows::new;
    let at_4 = rows().put(&fixture, "a", 2).put(&fixture, "b", 3).put(&fixture, "c", 4);
    let at_5 = rows().put(&fixture, "b", 3).put(&fixture, "c", 4).put(&fixture, "a", 5);
    let at_6 = rows().put(&fixture, "c", 4).put(&fixture, "a", 5).tombstone("b", 6);
    let at_7 = rows().put(&fixture, "c", 4).put(&fixture, "a", 5).tombstone("b", 6);
    let at_7 = at_7.put(&fixture, "d", 7);
    let want = [(4, at_4.hash()), (5, at_5.hash()), (6, at_6.hash()), (7, at_7.hash())];
    check_compacted(&mut fixture, 4, &want);
    assert!(matches!(fixture.reader().hash_kv(3), Err(RangeError::Compacted)));
}

#[test]
fn mt_04_no_tombstone_up_to_the_compaction_counts() {
    let mut fixture = Fixture::new(Options::default());
    fixture.put("a", "1");
    for value in ["1", "2", "3"] {
        fixture.put("b", value);
    }
    fixture.delete(&KeyRange::single("b"));
    fixture.put("c", "1");
    fixture.delete(&KeyRange::single("c"));
    // The last kept revision lies well before the compacted one: what follows it is skipped too.
    let at_6 = Rows::new().put(&fixture, "a", 2);
    let at_7 = Rows::new().put(&fixture, "a", 2).put(&fixture, "c", 7);
    let at_8 = Rows::new().put(&fixture, "a", 2).put(&fixture, "c", 7).tombstone("c", 8);
    let want = [(6, at_6.hash()), (7, at_7.hash()), (8, at_8.hash())];
    check_compacted(&mut fixture, 6, &want);
}

#[test]
fn mt_04_without_anything_to_keep_nothing_but_the_tombstone_is_skipped() {
    let mut fixture = Fixture::new(Options::default());
    fixture.put("a", "1");
    fixture.delete(&KeyRange::single("a"));
    fixture.put("b", "1");
    fixture.delete(&KeyRange::single("b"));
    let whole = Rows::new().put(&fixture, "a", 2).put(&fixture, "b", 4).tombstone("b", 5).hash();
    let removed = Rows::new().put(&fixture, "b", 4).tombstone("b", 5).hash();
    let at_4 = Rows::new().put(&fixture, "b", 4).hash();
    let mut batch = fixture.store.begin();
    batch.compact(3).unwrap();
    batch.commit().unwrap();
    let reader = fixture.reader();
    // As in etcd, such a hash tells whether the removal is finished.
    let hash = |revision| reader.hash_kv(revision).unwrap().hash;
    assert_eq!((hash(5), hash(4)), (whole, at_4));
    reader.compaction_job().unwrap().run().unwrap();
    assert_eq!((hash(5), hash(4)), (removed, at_4));
}

#[test]
fn mt_03_a_negative_revision_hashes_no_entry() {
    let mut fixture = Fixture::new(Options::default());
    fixture.put("a", "1");
    fixture.put("a", "2");
    let newest = fixture.reader().hash_kv(0).unwrap();
    for compacted in [-1, 2] {
        if compacted > 0 {
            fixture.compact(compacted);
        }
        for revision in [-1, -2, -10, i64::MIN] {
            let hashed = fixture.reader().hash_kv(revision).unwrap();
            assert_eq!((hashed.hash, hashed.revision), (HASH_OF_THE_BUCKET_NAME, revision));
            assert_eq!((hashed.compact_revision, hashed.current_revision), (compacted, 3));
        }
    }
    assert_eq!((newest.revision, newest.hash == HASH_OF_THE_BUCKET_NAME), (3, false));
}
