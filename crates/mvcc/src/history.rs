//! Events of the past, for watchers that have to catch up.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use etcdrs_backend::{Backend, Bucket, Scan};
use etcdrs_types::Revision;

use crate::state::Shared;
use crate::{Event, EventBlock, PrevKv, RangeError, StoredKv, deleted_kv};

pub(crate) fn read(
    shared: &Shared,
    from: i64,
    to: i64,
    revisions_max: usize,
) -> Result<Vec<Arc<EventBlock>>, RangeError> {
    let state = shared.state.read();
    if from < state.compact_revision {
        return Err(RangeError::Compacted);
    }
    let to = to.min(state.revision);
    if let Some(blocks) = state.ring.blocks(from, to, revisions_max) {
        return Ok(blocks);
    }
    let backend = state.backend.clone();
    drop(state);
    let blocks = from_rows(&backend, from, to, revisions_max)?;
    // A compaction may have removed rows under the walk; then what was read has gaps.
    if from < shared.state.read().compact_revision {
        return Err(RangeError::Compacted);
    }
    Ok(blocks)
}

fn from_rows(
    backend: &Backend,
    from: i64,
    to: i64,
    revisions_max: usize,
) -> Result<Vec<Arc<EventBlock>>, RangeError> {
    let mut blocks = Vec::new();
    if from > to || revisions_max == 0 {
        return Ok(blocks);
    }
    let (begin, end) = (Revision::main(from).to_key(), Revision::main(to + 1).to_key());
    let scan = Scan { from: Bound::Included(&begin), before: Some(&end), fill_cache: true };
    let mut rows = backend.rows(Bucket::Key, &scan);
    let mut events: Vec<Event> = Vec::new();
    let mut main = 0;
    while let Some((key, row)) = rows.next()? {
        let (revision, tombstone) =
            Revision::from_key(key).ok_or(RangeError::Corrupt(Revision::default()))?;
        if revision.main != main && !events.is_empty() {
            blocks.push(EventBlock::new(main, std::mem::take(&mut events)));
            if blocks.len() == revisions_max {
                return Ok(blocks);
            }
        }
        main = revision.main;
        events.push(event(revision, tombstone, row)?);
    }
    if !events.is_empty() {
        blocks.push(EventBlock::new(main, events));
    }
    Ok(blocks)
}

fn event(revision: Revision, tombstone: bool, row: &[u8]) -> Result<Event, RangeError> {
    let pair = StoredKv::from_encoded(Bytes::copy_from_slice(row));
    let fields = pair.fields().ok_or(RangeError::Corrupt(revision))?;
    if tombstone {
        let pair = deleted_kv(fields.key, revision.main);
        return Ok(Event::delete(pair.key_bytes(), revision, pair, PrevKv::Lookup));
    }
    let created = fields.create_revision == fields.mod_revision;
    let prev = if created { PrevKv::None } else { PrevKv::Lookup };
    let key = pair.key_bytes();
    Ok(Event::put(key, revision, created, pair, prev))
}
