//! Removing what compactions made unreachable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use etcdrs_backend::{Backend, Batch, Bucket};
use etcdrs_types::Revision;

use crate::state::Shared;
use crate::{RangeError, schema};

/// How far a [`CompactionJob`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to remove.
    More,
    /// The job has nothing left to do: the compaction at this revision is finished, or the store
    /// went on with another database, whose compactions are another job.
    Finished {
        /// The revision.
        revision: i64,
    },
}

/// Removes what a compaction made unreachable, in slices that hold no lock for long.
///
/// The index forgets first, then the rows go. A crash in between is harmless: the restart
/// builds the index from the rows that are left, and runs the compaction again.
#[derive(Debug)]
pub struct CompactionJob {
    shared: Arc<Shared>,
    /// The database that the job began with.
    backend: Backend,
    /// [`State::generation`](crate::state::State) of that time.
    generation: u64,
    revision: i64,
    /// The first key that was not looked at; `None` at the end.
    next: Option<Vec<u8>>,
    removed: u64,
    finished: bool,
}

impl CompactionJob {
    pub(crate) fn start(shared: &Arc<Shared>) -> Option<Self> {
        let state = shared.state.read();
        let revision = state.compact_revision;
        if revision <= shared.finished_compact.load(Ordering::Acquire)
            || shared.job_alive.swap(true, Ordering::AcqRel)
        {
            return None;
        }
        let (backend, generation) = (state.backend.clone(), state.generation);
        drop(state);
        Some(Self {
            shared: Arc::clone(shared),
            backend,
            generation,
            revision,
            next: Some(Vec::new()),
            removed: 0,
            finished: false,
        })
    }

    /// The revision this job compacts at.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Revisions that were removed so far, tombstones included.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Looks at about `items_max` keys and removes what is dead.
    ///
    /// # Errors
    /// If the database cannot be written. The job stays where it was in the database; drop it and
    /// reopen the store.
    pub fn step(&mut self, items_max: usize) -> Result<Progress, RangeError> {
        let mut rows = Batch::new();
        let mut row = Vec::new();
        let (mut items, mut removed) = (0, 0);
        while let Some(from) = self.next.take_if(|_| items < items_max) {
            // One leaf per hold of the lock.
            let mut state = self.shared.state.write();
            if state.generation != self.generation {
                // The old database keeps what was not removed; nobody reads it any more.
                self.finished = true;
                return Ok(Progress::Finished { revision: self.revision });
            }
            let (next, visited) = state.tree.compact_leaf(&from, self.revision, |key, dropped| {
                removed += 1;
                schema::index_key(key, dropped.revision, &mut row);
                rows.delete(Bucket::Index, &row);
                if dropped.tombstone {
                    rows.delete(Bucket::Key, &dropped.revision.to_tombstone_key());
                } else {
                    rows.delete(Bucket::Key, &dropped.revision.to_key());
                }
            });
            self.next = next;
            items += visited.max(1);
        }
        if self.next.is_none() && !self.finished {
            let done = Revision::main(self.revision).to_key();
            rows.put(Bucket::Meta, schema::FINISHED_COMPACT_ROW, &done);
        }
        self.backend.write(rows)?;
        self.removed += removed;
        if self.next.is_some() {
            return Ok(Progress::More);
        }
        if !self.finished {
            self.finished = true;
            let state = self.shared.state.read();
            if state.generation == self.generation {
                self.shared.finished_compact.store(self.revision, Ordering::Release);
            }
        }
        Ok(Progress::Finished { revision: self.revision })
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// See [`Self::step`].
    pub fn run(mut self) -> Result<i64, RangeError> {
        loop {
            if let Progress::Finished { revision } = self.step(1000)? {
                return Ok(revision);
            }
        }
    }
}

impl Drop for CompactionJob {
    fn drop(&mut self) {
        self.shared.job_alive.store(false, Ordering::Release);
    }
}
