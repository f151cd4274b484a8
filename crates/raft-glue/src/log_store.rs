//! openraft's log on the write-ahead log: entries in memory first, then in the writer's queue.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::fp;
use etcdrs_types::LogIndex;
use etcdrs_wal as wal;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::types::{self, Entry, LogId, Payload, TypeConfig, Vote};

/// Bytes of entries that one message to a peer may carry.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// How much of the log is held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCacheStats {
    /// Entries.
    pub entries: usize,
    /// Bytes of their data.
    pub bytes: usize,
}

/// The log. Clones share it.
///
/// Invariant: `entries` follow one another without a gap, the first one directly after `purged`.
#[derive(Clone)]
pub(crate) struct LogStore {
    cache: Arc<Mutex<Cache>>,
    sink: Sink,
    durable: Arc<Durable>,
}

/// Where batches go.
#[derive(Clone)]
pub(crate) enum Sink {
    /// The log's writer thread.
    Log(wal::Writer),
    /// Nowhere, at once: openraft's suite writes logs with holes in front, which the log refuses.
    #[cfg(test)]
    Nowhere,
}

impl Sink {
    fn submit(
        &self,
        batch: wal::Batch,
        done: impl FnOnce(Result<(), wal::WriteError>) + Send + 'static,
    ) {
        match self {
            Self::Log(writer) => writer.submit(batch, done),
            #[cfg(test)]
            Self::Nowhere => done(Ok(())),
        }
    }

    fn submit_silent(&self, batch: wal::Batch) {
        match self {
            Self::Log(writer) => writer.submit_silent(batch),
            #[cfg(test)]
            Self::Nowhere => drop(batch),
        }
    }

    fn release_before(&self, index: LogIndex) {
        match self {
            Self::Log(writer) => writer.release_before(index),
            #[cfg(test)]
            Self::Nowhere => {}
        }
    }
}

struct Cache {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// `None` only before a first entry of index 0, which openraft's own tests use.
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The commit index that the writer was last given.
    committed_written: u64,
}

/// How far the log is synced.
///
/// Invariant: a completion of an append that was queued before a truncation never raises the mark,
/// because the slots it speaks of hold other entries now.
pub(crate) struct Durable {
    state: Mutex<(u64, u64)>,
    /// `None` once the log has failed: nothing more will ever be synced.
    index: watch::Sender<Option<u64>>,
}

impl Durable {
    fn new(index: u64) -> Self {
        Self { state: Mutex::new((0, index)), index: watch::Sender::new(Some(index)) }
    }

    fn generation(&self) -> u64 {
        self.state.lock().0
    }

    fn reached(&self, generation: u64, index: u64) {
        let mut state = self.state.lock();
        if state.0 == generation && state.1 < index {
            state.1 = index;
            self.tell(index);
        }
    }

    fn tell(&self, index: u64) {
        self.index.send_if_modified(|mark| {
            let lives = mark.is_some();
            *mark = mark.map(|_| index);
            lives
        });
    }

    fn failed(&self) {
        self.index.send_replace(None);
    }

    fn truncated(&self, last: u64) {
        let mut state = self.state.lock();
        state.0 += 1;
        if state.1 > last {
            state.1 = last;
            self.tell(last);
        }
    }

    /// Waits until entry `index` is on disk. Errs when the log failed.
    pub(crate) async fn wait(&self, index: u64) -> io::Result<()> {
        let reached = |mark: &Option<u64>| mark.is_none_or(|durable| durable >= index);
        let mut mark = *self.index.borrow();
        if !reached(&mark) {
            let mut marks = self.index.subscribe();
            mark = *marks.wait_for(reached).await.map_err(io::Error::other)?;
        }
        mark.map(drop).ok_or_else(|| io::Error::other("the log failed"))
    }
}

/// What was found in the log when it was opened.
pub(crate) struct Found {
    pub(crate) purged: LogId,
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) hard_state: wal::HardState,
}

impl LogStore {
    pub(crate) fn new(sink: Sink, found: Found) -> Self {
        let Found { purged, entries, hard_state } = found;
        let last = entries.back().map_or(purged.index, |entry| entry.log_id.index);
        let commit = hard_state.commit.0.min(last);
        let committed = if commit <= purged.index {
            purged
        } else {
            let slot = usize::try_from(commit - purged.index - 1).unwrap_or(usize::MAX);
            entries.get(slot).map_or(purged, |entry| entry.log_id)
        };
        let cache = Cache {
            bytes: entries.iter().map(data_bytes).sum(),
            entries,
            purged: Some(purged),
            vote: types::vote_from_wal(hard_state.vote),
            committed: Some(committed),
            committed_written: hard_state.commit.0,
        };
        Self { cache: Arc::new(Mutex::new(cache)), sink, durable: Arc::new(Durable::new(last)) }
    }

    pub(crate) fn durable(&self) -> Arc<Durable> {
        Arc::clone(&self.durable)
    }

    pub(crate) fn stats(&self) -> LogCacheStats {
        let cache = self.cache.lock();
        LogCacheStats { entries: cache.entries.len(), bytes: cache.bytes }
    }

    /// Writes the newest commit index, unsynced, if no append has carried it yet. Called now and
    /// then, so that a restart serves what was served before.
    pub(crate) fn write_commit(&self) {
        let mut cache = self.cache.lock();
        if let Some(commit) = cache.unwritten_commit() {
            self.sink.submit_silent(wal::Batch::commit(commit));
        }
    }

    /// Records durably that the database holds everything up to `mark`.
    pub(crate) async fn mark_snapshot(&self, mark: wal::SnapshotMark) -> io::Result<()> {
        self.submit_and_wait(wal::Batch::mark(mark)).await
    }

    /// Records durably that the database holds everything up to `mark`, which lies beyond this log:
    /// what is not in it any more is known to be committed.
    pub(crate) async fn mark_received(&self, mark: wal::SnapshotMark) -> io::Result<()> {
        let batch = wal::Batch { commit: Some(mark.index), ..wal::Batch::mark(mark) };
        self.submit_and_wait(batch).await
    }

    /// The index up to which entries can go so that at most `keep_bytes` are left, without going
    /// above `snapshot`. `None` if none can.
    pub(crate) fn superfluous(&self, snapshot: u64, keep_bytes: usize) -> Option<u64> {
        let cache = self.cache.lock();
        let mut left = cache.bytes;
        let mut upto = None;
        for entry in &cache.entries {
            if left <= keep_bytes || entry.log_id.index > snapshot {
                break;
            }
            left -= data_bytes(entry);
            upto = Some(entry.log_id.index);
        }
        upto
    }

    async fn submit_and_wait(&self, batch: wal::Batch) -> io::Result<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        self.sink.submit(batch, move |result| {
            // The waiter may be gone; the log is none the worse.
            let _ = tx.send(result);
        });
        rx.await.map_err(io::Error::other)?.map_err(io::Error::other)
    }

    fn slice(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> Vec<Entry> {
        let cache = self.cache.lock();
        let first = cache.first();
        let from = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index + 1,
            Bound::Unbounded => first,
        }
        .max(first);
        let end = match range.end_bound() {
            Bound::Included(&index) => index + 1,
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        let slot = |index: u64| {
            usize::try_from(index.saturating_sub(first))
                .unwrap_or(usize::MAX)
                .min(cache.entries.len())
        };
        let (from, end) = (slot(from), slot(end));
        if from >= end {
            return Vec::new();
        }
        let mut bytes = 0;
        let mut entries = Vec::with_capacity((end - from).min(1024));
        for entry in cache.entries.range(from..end) {
            bytes += data_bytes(entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }
}

impl Cache {
    /// Index of the first entry there can be.
    fn first(&self) -> u64 {
        match (self.purged, self.entries.front()) {
            (Some(purged), _) => purged.index + 1,
            (None, Some(entry)) => entry.log_id.index,
            (None, None) => 0,
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }

    /// Whether an entry of this index may come next.
    fn admits(&self, index: u64) -> bool {
        self.last().is_none_or(|last| last.index + 1 == index)
    }

    fn unwritten_commit(&mut self) -> Option<LogIndex> {
        let committed = self.committed?.index;
        if committed <= self.committed_written {
            return None;
        }
        self.committed_written = committed;
        Some(LogIndex(committed))
    }
}

pub(crate) fn data_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        Payload::Request(proposal) => proposal.0.len(),
        _ => 0,
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.slice(range, usize::MAX))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.slice(start..end, MESSAGE_BYTES_MAX))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.cache.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let cache = self.cache.lock();
        Ok(LogState { last_purged_log_id: cache.purged, last_log_id: cache.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let batch = wal::Batch::vote(types::vote_to_wal(vote));
        fp!("raft-before-save-vote");
        self.submit_and_wait(batch).await?;
        fp!("raft-after-save-vote");
        self.cache.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.cache.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.cache.lock().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        fp!("raft-before-save");
        let durable = Arc::clone(&self.durable);
        let generation = durable.generation();
        let mut cache = self.cache.lock();
        let mut batch = wal::Batch::default();
        for entry in entries {
            assert!(cache.admits(entry.log_id.index), "openraft appends without gaps");
            batch.entries.push(types::to_wal(&entry));
            cache.bytes += data_bytes(&entry);
            cache.entries.push_back(entry);
        }
        batch.commit = cache.unwritten_commit();
        let Some(last) = cache.last().map(|id| id.index) else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        if strikes("planted-early-ack", 0) {
            durable.reached(generation, last);
            callback.io_completed(Ok(()));
            self.sink.submit_silent(batch);
            return Ok(());
        }
        // Queued under the lock, so that the file has the entries in the order of the cache.
        self.sink.submit(batch, move |result| match result {
            Ok(()) => {
                fp!("raft-after-save");
                durable.reached(generation, last);
                callback.io_completed(Ok(()));
            }
            Err(error) => {
                durable.failed();
                callback.io_completed(Err(io::Error::other(error)));
            }
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        fp!("raft-before-truncate");
        let mut cache = self.cache.lock();
        let keep_before = last.map_or(0, |id| id.index + 1).max(cache.first());
        while cache.entries.back().is_some_and(|entry| entry.log_id.index >= keep_before) {
            if let Some(entry) = cache.entries.pop_back() {
                cache.bytes -= data_bytes(&entry);
            }
        }
        // Nothing is written: the next append has a lower index than the file's tail, which is
        // how a truncation reads (FORMAT.md). Until then the tail was never committed, and a
        // restart truncates again.
        self.durable.truncated(keep_before.saturating_sub(1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        fp!("raft-before-purge");
        let mut cache = self.cache.lock();
        while cache.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            if let Some(entry) = cache.entries.pop_front() {
                cache.bytes -= data_bytes(&entry);
            }
        }
        cache.purged = cache.purged.max(Some(upto));
        self.sink.release_before(LogIndex(upto.index));
        fp!("raft-after-purge");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
