//! The log as its one writer sees it.
//!
//! Rules that the reader relies on:
//! - A commit index or a mark is written only when everything it covers is durable, never in the
//!   same unsynced stretch ([`crate::evidence`] needs that). A newer commit waits for the sync.
//! - The term of an entry is never above that of the hard state written with it.
//! - A segment is synced before the next one gets its name.

mod open;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::{File, Fs, fp};
use etcdrs_types::{LogIndex, Term};

use crate::content::{Encoder, is_well_formed};
use crate::error::{Damage, WriteError, WriteFailed};
use crate::options::Options;
use crate::segment::Name;
use crate::spare::Spares;
use crate::types::{Batch, HardState, Metadata, Vote};

pub use crate::wal::open::{Opened, Repaired};

/// A sync that takes longer is warned about, as in etcd.
const SLOW_SYNC_NS: u64 = 1_000_000_000;
/// A buffer that grew beyond this is given back after the write.
const BUFFER_BYTES_KEPT: usize = 8 << 20;
/// The next segment is made ready when this part of the current one is full (1/n).
const PREPARE_AT_PART: u64 = 8;

/// A log open for appending. Holds the locks of its segments.
#[derive(Debug)]
pub struct Wal<F: Fs> {
    fs: F,
    dir: PathBuf,
    options: Options,
    metadata: Metadata,
    /// Never empty; the last one is written to.
    segments: VecDeque<Segment<F>>,
    /// Where the next write goes in the last segment.
    offset: u64,
    /// Records that are not written yet, and the checksum up to them.
    encoder: Encoder,
    tail: Tail,
    spares: Spares<F>,
    failed: Option<WriteFailed>,
}

#[derive(Debug)]
struct Segment<F: Fs> {
    name: Name,
    file: F::File,
}

/// What the log would say if it were read now, as far as a writer needs it.
///
/// Invariants: `durable <= last` unless a truncation is under way; `hard_state.commit <= durable`;
/// `last_term <= hard_state.vote.term`.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    /// The last index appended.
    last: LogIndex,
    /// Its term.
    last_term: Term,
    /// Everything up to here is durable.
    durable: LogIndex,
    /// The last hard state appended.
    hard_state: HardState,
    /// The newest commit index known; appended once it is durable.
    commit: LogIndex,
    /// Whether something was appended since the last sync that must be durable.
    must_sync: bool,
}

impl<F: Fs> Wal<F> {
    /// Whether `dir` holds a log: a name that ends in `.wal`.
    pub fn exists(fs: &F, dir: &Path) -> io::Result<bool> {
        match fs.list(dir) {
            Ok(entries) => Ok(entries.iter().any(|e| e.name.to_string_lossy().ends_with(".wal"))),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Appends to the buffer; nothing reaches the file before [`Self::sync`] (with the exception
    /// that a mark first syncs the entries it covers). A batch that is refused leaves no trace.
    pub fn append(&mut self, batch: &Batch) -> Result<(), WriteError> {
        self.check_alive()?;
        self.tail.check(batch).map_err(WriteError::Refused)?;
        let Batch { vote, entries, commit, mark } = batch;
        // Entries of a term that no hard state has reached would be cut at the next start.
        let mut vote = vote.unwrap_or(self.tail.hard_state.vote);
        if let Some(last) = entries.last()
            && vote.term < last.term
        {
            // An entry of a newer term says that this member has seen that term.
            vote = Vote { term: last.term, ..Vote::default() };
        }
        self.put_hard_state(vote);
        for entry in entries {
            self.encoder.entry(entry);
        }
        if let Some(last) = entries.last() {
            let tail = &mut self.tail;
            (tail.last, tail.last_term) = (last.index, last.term);
            // A replaced entry is not durable any more.
            tail.durable = tail.durable.min(LogIndex(entries[0].index.0 - 1));
            tail.must_sync = true;
        }
        self.tail.commit = self.tail.commit.max(commit.unwrap_or_default());
        self.put_hard_state(vote);
        if let Some(mark) = mark {
            if mark.index > self.tail.durable && self.tail.must_sync {
                self.flush_and_sync()?;
            }
            self.put_hard_state(self.vote_of_term(mark.term));
            self.encoder.mark(mark);
            self.tail.must_sync = true;
            if mark.index > self.tail.last {
                (self.tail.last, self.tail.last_term) = (mark.index, mark.term);
                self.tail.commit = self.tail.commit.max(mark.index);
            }
        }
        Ok(())
    }

    /// The vote in force, raised to `term` if it is older.
    fn vote_of_term(&self, term: Term) -> Vote {
        let vote = self.tail.hard_state.vote;
        if vote.term < term { Vote { term, ..Vote::default() } } else { vote }
    }

    /// Appends a hard state if it says something new.
    fn put_hard_state(&mut self, vote: Vote) {
        let tail = &mut self.tail;
        let commit = tail.commit.min(tail.durable).max(tail.hard_state.commit);
        let hard_state = HardState { vote, commit };
        if hard_state == tail.hard_state {
            return;
        }
        // The must-sync rule (storage-and-raft.md §1.7): a commit alone rides along.
        tail.must_sync |= vote != tail.hard_state.vote;
        tail.hard_state = hard_state;
        self.encoder.hard_state(&hard_state);
    }

    /// Writes the buffer, and makes it durable if anything since the last sync must be: entries,
    /// a vote, a mark. Then begins a new segment if this one is full. Gives the last index that is
    /// durable. Any error is final.
    pub fn sync(&mut self) -> Result<LogIndex, WriteError> {
        self.check_alive()?;
        self.flush_and_sync()?;
        let cut_early = strikes("wal-cut-early", self.tail.last.0);
        if self.offset >= self.options.segment_bytes || cut_early {
            self.cut().map_err(|err| self.fail("cut segment", err))?;
        }
        // The commit that waited for this sync goes with the next write.
        self.put_hard_state(self.tail.hard_state.vote);
        Ok(self.tail.durable)
    }

    /// Appends and syncs one batch.
    pub fn save(&mut self, batch: &Batch) -> Result<LogIndex, WriteError> {
        self.append(batch)?;
        self.sync()
    }

    fn flush_and_sync(&mut self) -> Result<(), WriteError> {
        if !self.encoder.buffer.is_empty() {
            self.flush().map_err(|err| self.fail("write", err))?;
        }
        if self.tail.must_sync {
            if self.options.sync {
                match self.sync_file() {
                    Err(_) if strikes("planted-ignored-sync", 0) => {}
                    synced => synced.map_err(|err| self.fail("sync", err))?,
                }
            }
            self.tail.must_sync = false;
            self.tail.durable = self.tail.last;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let started_ns = self.options.clock.now_ns();
        fp!("wal-before-write", |_| Err(io::Error::other("failpoint")));
        let buffer = &mut self.encoder.buffer;
        tail_file(&self.segments).write_at(buffer, self.offset)?;
        fp!("wal-after-write");
        let n_written = buffer.len() as u64;
        self.offset += n_written;
        buffer.clear();
        buffer.shrink_to(BUFFER_BYTES_KEPT);
        let took_ns = self.options.clock.now_ns().saturating_sub(started_ns);
        self.options.observer.wrote(n_written, took_ns);
        if self.offset >= self.options.segment_bytes / PREPARE_AT_PART {
            self.spares.prepare();
        }
        Ok(())
    }

    fn sync_file(&mut self) -> io::Result<()> {
        let started_ns = self.options.clock.now_ns();
        fp!("wal-before-sync", |_| Err(io::Error::other("failpoint")));
        tail_file(&self.segments).sync_data()?;
        fp!("wal-after-sync");
        let took_ns = self.options.clock.now_ns().saturating_sub(started_ns);
        self.options.observer.synced(took_ns);
        if took_ns > SLOW_SYNC_NS {
            let took_ms = took_ns / 1_000_000;
            tracing::warn!(took_ms, "expected-duration" = "1s", "slow fdatasync");
        }
        Ok(())
    }

    /// Begins a new segment (storage-and-raft.md §1.6). The buffer is empty.
    fn cut(&mut self) -> io::Result<()> {
        let old = tail_file(&self.segments);
        old.set_len(self.offset)?;
        old.sync_all()?;
        fp!("wal-cut-after-truncate");
        let spare = self.spares.take()?;
        self.encoder.crc();
        self.encoder.metadata(&self.metadata);
        if self.tail.hard_state != HardState::default() {
            self.encoder.hard_state(&self.tail.hard_state);
        }
        spare.file.write_at(&self.encoder.buffer, 0)?;
        spare.file.sync_all()?;
        fp!("wal-cut-before-rename");
        let newest = self.segments.back().expect("there is always a segment").name;
        let first = LogIndex(self.tail.last.0 + 1);
        let name = Name { sequence: newest.sequence + 1, first };
        self.fs.rename_durable(&spare.path, &name.path(&self.dir))?;
        fp!("wal-cut-after-rename");
        self.offset = self.encoder.buffer.len() as u64;
        self.encoder.buffer.clear();
        self.segments.push_back(Segment { name, file: spare.file });
        self.options.observer.cut();
        tracing::info!(path = %name.path(&self.dir).display(), "created a new WAL segment");
        Ok(())
    }

    /// Lets go of the segments that nobody needs to read from `index` on: all before the newest
    /// one that begins below it. [`crate::purge`] may delete them then. At least one stays.
    pub fn release_before(&mut self, index: LogIndex) {
        let needed = self.segments.iter().rposition(|segment| segment.name.first < index);
        self.segments.drain(..needed.unwrap_or(0));
    }

    /// Writes and syncs what is left, and lets go of the log.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.sync()?;
        // The commit that had to wait for the sync.
        self.flush_and_sync()
    }

    /// Whose log this is.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The hard state as last appended; its commit may lag behind the newest one given.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.tail.hard_state
    }

    /// Index of the last entry appended, or of the mark that lies beyond all entries.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.tail.last
    }

    /// Everything up to this index is durable.
    #[must_use]
    pub fn durable_index(&self) -> LogIndex {
        self.tail.durable
    }

    /// The directory of the log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    fn check_alive(&self) -> Result<(), WriteFailed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Remembers the failure: what the file holds now is unknown, and dirty pages may be gone.
    fn fail(&mut self, operation: &'static str, source: io::Error) -> WriteFailed {
        tracing::error!(operation, error = %source, "the write-ahead log failed");
        self.options.observer.failed();
        let failed = WriteFailed { operation, source: Arc::new(source) };
        self.failed.get_or_insert(failed).clone()
    }
}

fn tail_file<F: Fs>(segments: &VecDeque<Segment<F>>) -> &F::File {
    &segments.back().expect("there is always a segment").file
}

impl Tail {
    /// The same rules that the reader checks, before anything is written.
    fn check(&self, batch: &Batch) -> Result<(), Damage> {
        let (mut last, mut last_term) = (self.last, self.last_term);
        for (at, entry) in batch.entries.iter().enumerate() {
            if !is_well_formed(entry) {
                return Err(Damage::Content("entry"));
            }
            let is_replacing = at == 0 && entry.index <= last;
            if is_replacing && entry.index <= self.hard_state.commit {
                let (index, commit) = (entry.index, self.hard_state.commit);
                return Err(Damage::ReplacesCommitted { index, commit });
            }
            if !is_replacing && entry.index.0 != last.0 + 1 {
                return Err(Damage::Gap { last, index: entry.index });
            }
            // The term before a replaced entry is not known here.
            if !is_replacing && entry.term < last_term {
                return Err(Damage::TermFell { seen: last_term, found: entry.term });
            }
            (last, last_term) = (entry.index, entry.term);
        }
        let seen = self.hard_state.vote.term;
        match batch.vote {
            Some(vote) if vote.term < seen => Err(Damage::TermFell { seen, found: vote.term }),
            Some(vote) if vote.term < last_term => {
                Err(Damage::TermAhead { entry: last_term, hard_state: vote.term })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
