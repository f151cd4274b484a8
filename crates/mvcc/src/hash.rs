//! Hashes that members compare (storage-and-raft.md §3.9).

use std::ops::Bound;

use etcdrs_backend::{Bucket, Scan};
use etcdrs_types::{KeyRange, Revision};

use crate::RangeError;
use crate::state::Shared;

/// Rows of bucket `meta` that may differ between members with the same data.
const OWN_META_ROWS: [&[u8]; 3] = [b"consistent_index", b"term", b"storageVersion"];
/// Leaves of the index looked at under one hold of the lock.
const SLICE_LEAVES: usize = 20;

/// A hash of the history up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The revision that was hashed; a negative one as it was asked for.
    pub revision: i64,
    /// The compacted revision at that moment; -1 if there was none.
    pub compact_revision: i64,
    /// The current revision at that moment.
    pub current_revision: i64,
}

pub(crate) fn hash_kv(shared: &Shared, revision: i64) -> Result<HashKv, RangeError> {
    loop {
        let state = shared.state.read();
        let (current, compacted) = (state.revision, state.compact_revision);
        let generation = state.generation;
        // Rows that compaction removes from now on stay in the snapshot, and so does a database
        // that the store goes on without.
        let snapshot = state.backend.snapshot();
        drop(state);
        if revision > current {
            return Err(RangeError::Future);
        }
        if revision > 0 && revision < compacted {
            return Err(RangeError::Compacted);
        }
        let at = if revision == 0 { current } else { revision };
        let answer = |hash| HashKv {
            hash,
            revision: at,
            compact_revision: compacted,
            current_revision: current,
        };
        let crc = crc32c::crc32c(b"key");
        if at < 0 {
            // No row is that old (MT-03).
            return Ok(answer(crc));
        }
        let Some(Kept { any, revisions }) = kept(shared, generation, compacted, at) else {
            continue;
        };
        let mut hash = Hasher { compacted, skips: any, keep: &revisions, crc };
        let before = Revision::main(at + 1).to_key();
        let scan = Scan { from: Bound::Unbounded, before: Some(&before), fill_cache: false };
        let mut rows = snapshot.rows(Bucket::Key, &scan);
        while let Some((key, value)) = rows.next()? {
            hash.row(key, value)?;
        }
        return Ok(answer(hash.crc));
    }
}

/// What a compaction at the hashed revision would keep of all up to it, tombstones aside.
#[derive(Default)]
struct Kept {
    /// Whether that is anything at all.
    any: bool,
    /// Those of the revisions that are not above the compacted one, sorted.
    revisions: Vec<Revision>,
}

/// What a compaction at `at` would keep. `None` if a compaction above `compacted` or another
/// database came in between.
fn kept(shared: &Shared, generation: u64, compacted: i64, at: i64) -> Option<Kept> {
    let mut kept = Kept::default();
    if compacted <= 0 {
        return Some(kept);
    }
    let mut from = Vec::new();
    loop {
        let state = shared.state.read();
        if state.compact_revision != compacted || state.generation != generation {
            return None;
        }
        let mut cursor = Some(state.tree.cursor(Bound::Included(&from)));
        for _ in 0..SLICE_LEAVES {
            cursor = cursor?.visit_leaf(&state.tree, &KeyRange::all(), |_, slot| {
                if let Some((version, _)) = slot.at(at) {
                    kept.any = true;
                    kept.revisions
                        .extend((version.revision.main <= compacted).then_some(version.revision));
                }
                true
            });
            if cursor.is_none() {
                kept.revisions.sort_unstable();
                return Some(kept);
            }
        }
        from = cursor?.first_key(&state.tree);
    }
}

struct Hasher<'a> {
    compacted: i64,
    /// Whether rows up to the compacted revision count only if they are in `keep`. They all count
    /// where a compaction at the hashed revision would keep nothing (storage-and-raft.md §3.9).
    skips: bool,
    /// The kept revisions that are still to come.
    keep: &'a [Revision],
    crc: u32,
}

impl Hasher<'_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), RangeError> {
        let corrupt = RangeError::Corrupt(Revision::default());
        let (revision, tombstone) = Revision::from_key(key).ok_or(corrupt)?;
        if self.skips && revision.main <= self.compacted {
            // Rows come in order, so the kept revisions are met in order too.
            while self.keep.first().is_some_and(|&first| first < revision) {
                self.keep = &self.keep[1..];
            }
            if self.keep.first() != Some(&revision) {
                return Ok(());
            }
        }
        if tombstone && revision.main == self.compacted {
            return Ok(());
        }
        self.crc = crc32c::crc32c_append(self.crc, key);
        self.crc = crc32c::crc32c_append(self.crc, value);
        Ok(())
    }
}

pub(crate) fn hash(shared: &Shared) -> Result<u32, RangeError> {
    let snapshot = shared.state.read().backend.snapshot();
    let mut buckets = Bucket::ALL.to_vec();
    buckets.retain(|bucket| bucket.is_etcds());
    buckets.sort_unstable_by_key(|bucket| bucket.name());
    let mut crc = 0;
    for bucket in buckets {
        crc = crc32c::crc32c_append(crc, bucket.name().as_bytes());
        let mut rows = snapshot.all_rows(bucket);
        while let Some((key, value)) = rows.next()? {
            if bucket == Bucket::Meta && OWN_META_ROWS.contains(&key) {
                continue;
            }
            crc = crc32c::crc32c_append(crc, key);
            crc = crc32c::crc32c_append(crc, value);
        }
    }
    Ok(crc)
}
