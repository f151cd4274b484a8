//! Opening: the key index is rebuilt from the bucket `index`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};

use bytes::Bytes;
use etcdrs_backend::{Backend, Batch, Bucket, Scan};
use etcdrs_types::{LeaseId, Revision};
use parking_lot::RwLock;

use crate::index::{Builder, Change, Slot, Tree};
use crate::ring::Ring;
use crate::state::{Shared, State};
use crate::{OpenError, Opened, Options, Store, schema};

/// The revision of a store that nothing was written to (RV-01).
const FIRST_REVISION: i64 = 1;
/// The compacted revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;

pub(crate) fn open(backend: Backend, options: &Options) -> Result<Opened, OpenError> {
    let finished = compaction_mark(&backend, schema::FINISHED_COMPACT_ROW)?;
    let scheduled = compaction_mark(&backend, schema::SCHEDULED_COMPACT_ROW)?;
    let compact_revision = finished.max(scheduled);
    let newest = newest_revision(&backend)?;
    let restored = Restorer::new().run(&backend)?;
    if restored.newest != newest {
        return Err(OpenError::Disagree { index: restored.newest, key: newest });
    }
    restored.sample.check(&backend)?;
    // RV-07: a compaction may have removed the rows of the newest revisions.
    let revision = newest.main.max(compact_revision).max(FIRST_REVISION);
    let ring = Ring::new(options.event_ring_bytes, revision);
    let state = State { tree: restored.tree, ring, revision, compact_revision };
    let shared = Shared {
        backend,
        state: RwLock::new(state),
        options: options.clone(),
        revision: AtomicI64::new(revision),
        compact_revision: AtomicI64::new(compact_revision),
        finished_compact: AtomicI64::new(finished),
        job_alive: AtomicBool::new(false),
    };
    let store = Store { shared: Arc::new(shared), spare_rows: Batch::new() };
    Ok(Opened { store, leased_keys: restored.leased_keys })
}

fn compaction_mark(backend: &Backend, row: &'static [u8]) -> Result<i64, OpenError> {
    let Some(mark) = backend.get(Bucket::Meta, row)? else { return Ok(NEVER_COMPACTED) };
    let (revision, _) = Revision::from_key(&mark).ok_or_else(|| malformed(Bucket::Meta, row))?;
    Ok(revision.main)
}

fn newest_revision(backend: &Backend) -> Result<Revision, OpenError> {
    let Some((key, _)) = backend.last(Bucket::Key)? else { return Ok(Revision::default()) };
    let (revision, _) = Revision::from_key(&key).ok_or_else(|| malformed(Bucket::Key, &key))?;
    Ok(revision)
}

fn malformed(bucket: Bucket, row: &[u8]) -> OpenError {
    OpenError::Malformed { bucket: bucket.name(), row: row.to_vec() }
}

struct Restored {
    tree: Tree,
    newest: Revision,
    sample: Sample,
    leased_keys: Vec<(LeaseId, Bytes)>,
}

/// Groups the rows of one key and hands them to the builder.
struct Restorer {
    builder: Builder,
    /// The key whose rows are being read; empty before the first.
    key: Vec<u8>,
    slot: Option<Slot>,
    newest: Revision,
    sample: Sample,
    leased_keys: Vec<(LeaseId, Bytes)>,
}

/// A few revisions of the index, evenly spread, that are looked up in bucket `key`.
struct Sample {
    revisions: Vec<Revision>,
    seen: usize,
    /// Every so many revisions one is taken.
    stride: usize,
}

/// Revisions that are looked up at most.
const SAMPLE_MAX: usize = 128;

impl Sample {
    fn add(&mut self, revision: Revision) {
        if self.seen.is_multiple_of(self.stride) {
            if self.revisions.len() == SAMPLE_MAX {
                let mut position = 0;
                self.revisions.retain(|_| {
                    position += 1;
                    position % 2 == 1
                });
                self.stride *= 2;
            }
            self.revisions.push(revision);
        }
        self.seen += 1;
    }

    fn check(mut self, backend: &Backend) -> Result<(), OpenError> {
        self.revisions.sort_unstable();
        let keys: Vec<_> = self.revisions.iter().map(|revision| revision.to_key()).collect();
        let mut missing = None;
        backend.multi_get(Bucket::Key, &keys, |position, row| {
            if row.is_none() {
                missing = Some(self.revisions[position]);
            }
        })?;
        missing.map_or(Ok(()), |revision| Err(OpenError::MissingRow(revision)))
    }
}

impl Restorer {
    fn new() -> Self {
        Self {
            builder: Builder::default(),
            key: Vec::new(),
            slot: None,
            newest: Revision::default(),
            sample: Sample { revisions: Vec::new(), seen: 0, stride: 1 },
            leased_keys: Vec::new(),
        }
    }

    fn run(mut self, backend: &Backend) -> Result<Restored, OpenError> {
        let mut rows = backend.rows(Bucket::Index, &Scan::all());
        let mut key = Vec::new();
        while let Some((row, value)) = rows.next()? {
            let change = schema::parse_index_key(row, &mut key)
                .and_then(|revision| schema::parse_index_value(value, revision))
                .ok_or_else(|| malformed(Bucket::Index, row))?;
            self.add(&key, change);
        }
        self.close();
        let Self { builder, newest, sample, leased_keys, .. } = self;
        Ok(Restored { tree: builder.finish(), newest, sample, leased_keys })
    }

    fn add(&mut self, key: &[u8], change: Change) {
        self.newest = self.newest.max(change.revision);
        match &mut self.slot {
            Some(slot) if self.key == key => slot.apply(change),
            _ => {
                self.close();
                self.key.clear();
                self.key.extend_from_slice(key);
                self.slot = Some(Slot::new(change));
            }
        }
    }

    fn close(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        if slot.is_live() {
            self.sample.add(slot.revision());
        }
        if let Some(meta) = slot.meta().filter(|meta| meta.lease.is_some()) {
            self.leased_keys.push((meta.lease, Bytes::copy_from_slice(&self.key)));
        }
        self.builder.push(&self.key, slot);
    }
}
