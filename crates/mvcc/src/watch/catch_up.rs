//! Feeding watchers that are behind, from history.
//!
//! A round takes some lagging watchers under the hub's lock, reads history for them without it,
//! and hands over the result under the lock again. Watchers that are near each other share one
//! sweep over the history.

use std::collections::BTreeMap;
use std::sync::Arc;

use etcdrs_types::KeyRange;
use etcdrs_types::limits::WATCH_BATCH_REVISIONS_MAX;

use super::History;
use super::events::{Part, Picks};
use super::index::Index;
use super::queue::{Item, Shape};
use super::state::State;
use super::watcher::{Phase, flag, wants};
use crate::RangeError;
use crate::event::EventBlock;

/// Watchers whose next revisions are this near share a sweep.
const SWEEP_SPAN: i64 = 1000;
/// Revisions that one sweep reads at most.
const SWEEP_REVISIONS_MAX: usize = 16 * 1024;
/// Bytes that one sweep reads at most, roughly.
const SWEEP_BYTES_MAX: usize = 8 << 20;
/// Revisions of the first read of a sweep; later reads adapt to the size of what came.
const STEP_FIRST: usize = 16;
/// Revisions of one read.
const STEP_MAX: usize = 1024;

/// Watchers of one stream that a round takes at least, as far as it takes so many.
const SHARE_MIN: usize = 4;
/// Watchers of one stream that a round takes at most.
pub(super) const SHARE_MAX: usize = 4096;

/// What a round does for one watcher.
struct Job {
    place: u32,
    generation: u32,
    stream: u32,
    watch_id: i64,
    from: i64,
    flags: u8,
    shape: Shape,
    range: KeyRange,
    parts: Vec<Part>,
    /// Memory of the blocks in `parts`. A block counts whole for the first job of a stream that
    /// holds it, and as much as is wanted of it for the others.
    bytes: usize,
    /// The first revision that was not looked at or did not fit.
    next: Option<i64>,
}

/// Some lagging watchers and what is needed to read for them.
pub(super) struct Round {
    jobs: Vec<Job>,
    history: Arc<dyn History>,
    epoch: u64,
    /// The hub's revision when the round began: it reads up to here and says so in its answers
    /// (WA-30).
    upto: i64,
    /// Most bytes of blocks in one answer of several revisions.
    batch_bytes_max: usize,
    compact_revision: i64,
    failed: Option<RangeError>,
}

impl State {
    /// Takes up to `watchers_max` lagging watchers, fairly among streams and watchers.
    pub(super) fn begin_round(&mut self, watchers_max: usize) -> Round {
        let (mut jobs, mut taken) = (Vec::new(), Vec::new());
        while jobs.len() < watchers_max
            && let Some(slot) = self.next_ready()
        {
            taken.push(slot);
            let left = watchers_max - jobs.len();
            let share = left.div_ceil(self.ready.len() + 1).min(self.stream(slot).share);
            let stop_at = jobs.len() + share;
            while jobs.len() < stop_at
                && let Some((place, generation)) = self.stream(slot).lagging.pop_front()
            {
                let watcher = &mut self.watchers[place as usize];
                if watcher.generation != generation || watcher.phase != Phase::Lagging {
                    continue;
                }
                watcher.phase = Phase::InFlight;
                let watcher = *watcher;
                jobs.push(Job {
                    place,
                    generation,
                    stream: slot,
                    watch_id: watcher.id,
                    from: watcher.from,
                    flags: watcher.flags,
                    shape: watcher.shape(),
                    range: self.range(place),
                    parts: Vec::new(),
                    bytes: 0,
                    next: None,
                });
            }
        }
        for slot in taken {
            self.mark_ready(slot);
        }
        Round {
            jobs,
            history: Arc::clone(&self.history),
            epoch: self.epoch,
            upto: self.published,
            batch_bytes_max: self.options.batch_bytes_max,
            compact_revision: self.compacted,
            failed: None,
        }
    }

    /// Hands over what a round found.
    pub(super) fn end_round(&mut self, round: Round) {
        if round.epoch != self.epoch {
            // The history was replaced, and its watchers were put aside again then.
            return;
        }
        self.compacted = self.compacted.max(round.compact_revision);
        let mut served: BTreeMap<u32, usize> = BTreeMap::new();
        let mut refused = Vec::new();
        for job in round.jobs {
            let watcher = &self.watchers[job.place as usize];
            if watcher.generation != job.generation || watcher.phase != Phase::InFlight {
                continue;
            }
            if job.from < round.compact_revision {
                self.pass_by(job.place, round.compact_revision);
                continue;
            }
            if !job.parts.is_empty() {
                let events = job.parts.iter().map(|(_, picks)| picks.len()).sum();
                let item = Item::batch(job.watch_id, round.upto, job.parts, job.bytes, job.shape);
                if !self.deliver_batch(job.place, item, events) {
                    refused.push(job.place);
                    continue;
                }
            }
            *served.entry(job.stream).or_default() += 1;
            self.watchers[job.place as usize].from = job.next.unwrap_or(job.from);
            self.resume(job.place, true);
        }
        // What was read for those without room was read in vain: they are the first of the next
        // round, and that takes no more than had room in this one.
        for (slot, served) in served {
            self.stream(slot).share = (2 * served).clamp(SHARE_MIN, SHARE_MAX);
        }
        for place in refused.into_iter().rev() {
            self.put_aside(place, true);
        }
    }
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Why reading failed, if it did; the watchers concerned try again in a later round.
    pub(super) fn failure(&self) -> Option<&RangeError> {
        self.failed.as_ref()
    }

    /// Reads history for every watcher of the round.
    pub(super) fn read(&mut self) {
        self.compact_revision = self.compact_revision.max(self.history.compact_revision());
        self.jobs.sort_by_key(|job| job.from);
        let mut jobs = std::mem::take(&mut self.jobs);
        let passed = jobs.partition_point(|job| job.from < self.compact_revision);
        let mut rest = &mut jobs[passed..];
        while let Some(first) = rest.first() {
            let span = first.from + SWEEP_SPAN;
            let near = rest.partition_point(|job| job.from <= span);
            let (sweep, others) = rest.split_at_mut(near);
            match self.sweep(sweep) {
                // Compaction went on meanwhile: end_round() tells whom it passed.
                Ok(()) | Err(RangeError::Compacted) => {}
                Err(error) => self.failed = Some(error),
            }
            rest = others;
        }
        for job in &jobs {
            self.resolve(job);
        }
        self.jobs = jobs;
        // What was read may have been removed meanwhile. Only a start at or above the compacted
        // revision is sure to have seen everything.
        self.compact_revision = self.compact_revision.max(self.history.compact_revision());
    }

    /// One walk over the history for watchers near each other.
    fn sweep(&self, jobs: &mut [Job]) -> Result<(), RangeError> {
        let mut index = Index::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (at, job) in jobs.iter().enumerate() {
            let group = index.join(&job.range) as usize;
            if group == members.len() {
                members.push(Vec::new());
            }
            members[group].push(at);
        }
        let mut cursor = jobs[0].from;
        let result = self.walk(jobs, &index, &members, &mut cursor);
        // Everything before the cursor was shown to every job that had room for it.
        for job in jobs {
            job.next.get_or_insert(cursor.max(job.from));
        }
        result
    }

    /// Shows history from `cursor` on to the jobs until nobody has room or the sweep is long
    /// enough.
    fn walk(
        &self,
        jobs: &mut [Job],
        index: &Index,
        members: &[Vec<usize>],
        cursor: &mut i64,
    ) -> Result<(), RangeError> {
        let mut open = jobs.len();
        // The newest block that a job of each stream holds.
        let mut holds: BTreeMap<u32, i64> = BTreeMap::new();
        let (mut revisions, mut bytes, mut step) = (0, 0, STEP_FIRST);
        let mut groups = Vec::new();
        while *cursor <= self.upto
            && open > 0
            && revisions < SWEEP_REVISIONS_MAX
            && bytes < SWEEP_BYTES_MAX
        {
            let blocks = self.history.history(*cursor, self.upto, step)?;
            for block in &blocks {
                let block_bytes = block.heap_bytes();
                for (at, event) in (0..).zip(&block.events) {
                    groups.clear();
                    index.matching(&event.key, &mut groups);
                    for &member in groups.iter().flat_map(|&group| &members[group as usize]) {
                        let job = &mut jobs[member];
                        if job.next.is_none()
                            && job.from <= block.revision
                            && wants(job.flags, event)
                        {
                            let bytes = match holds.insert(job.stream, block.revision) {
                                Some(held) if held == block.revision => {
                                    event.wire_len(job.shape.prev_kv)
                                }
                                _ => block_bytes,
                            };
                            if !job.add(block, bytes, at, self.batch_bytes_max) {
                                open -= 1;
                            }
                        }
                    }
                }
                bytes += block_bytes;
            }
            *cursor = match blocks.last() {
                Some(last) if blocks.len() >= step => last.revision + 1,
                _ => self.upto + 1,
            };
            revisions += blocks.len();
            let average = bytes / revisions.max(1) + 1;
            step = ((1 << 20) / average).clamp(STEP_FIRST, STEP_MAX);
        }
        Ok(())
    }

    /// Looks up previous pairs here, off the threads that serve requests.
    fn resolve(&self, job: &Job) {
        if job.flags & flag::PREV_KV == 0 {
            return;
        }
        for event in job.parts.iter().flat_map(|(block, picks)| picks.of(block)) {
            event.resolve_prev(|key, revision| self.history.get_at(key, revision));
        }
    }
}

impl Job {
    /// Adds an event, unless it opens a revision that no longer fits into this answer (WA-20).
    fn add(&mut self, block: &Arc<EventBlock>, bytes: usize, at: u32, bytes_max: usize) -> bool {
        if let Some((last, picks)) = self.parts.last_mut()
            && last.revision == block.revision
        {
            picks.push(at);
        } else if self.parts.len() >= WATCH_BATCH_REVISIONS_MAX
            || (self.bytes >= bytes_max && !self.parts.is_empty())
        {
            self.next = Some(block.revision);
            return false;
        } else {
            self.parts.push((Arc::clone(block), Picks::one(at)));
        }
        self.bytes += bytes;
        true
    }
}
