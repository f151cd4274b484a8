//! What the records of a log add up to. Pure: records in, content out.

use etcdrs_types::{LogIndex, Term};

use crate::content::Content;
use crate::error::{Damage, OpenError};
use crate::options::StartAt;
use crate::types::{Entry, HardState, Metadata, SnapshotMark};

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Place of the segment among those read.
    pub(crate) segment: usize,
    /// Byte in the segment.
    pub(crate) offset: u64,
}

/// The records of a segment so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    WantsCrc,
    WantsMetadata,
    Done,
}

/// Collects the content of a log, record by record.
///
/// Invariants: `entries` have no gap and begin behind `base` once that is known; their terms never
/// fall; no entry at or below `recorded` is ever replaced.
#[derive(Debug)]
pub(crate) struct Replay {
    start: StartAt,
    /// The first index that the segments read were begun for.
    begins: LogIndex,
    head: Head,
    metadata: Option<Metadata>,
    hard_state: HardState,
    /// The newest commit or mark: what must not be replaced or lost.
    recorded: LogIndex,
    /// Where the entries begin; `None` until a mark decides it.
    base: Option<SnapshotMark>,
    /// Term of the entry at the index of `base`, as long as it has been seen.
    term_at_base: Option<Term>,
    /// Whether the mark asked for was met.
    found: Found,
    entries: Vec<Entry>,
    marks: Vec<SnapshotMark>,
    /// The first entry whose term no hard state has reached yet.
    ahead: Option<(Place, Term)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    No,
    Yes,
    OtherTerm,
}

impl Replay {
    pub(crate) fn new(start: StartAt, begins: LogIndex) -> Self {
        let base = match &start {
            StartAt::Mark(mark) => Some(mark.clone()),
            StartAt::NewestAtOrBelow(_) => None,
        };
        Self {
            start,
            begins,
            head: Head::WantsCrc,
            metadata: None,
            hard_state: HardState::default(),
            recorded: LogIndex(0),
            base,
            term_at_base: None,
            found: Found::No,
            entries: Vec::new(),
            marks: Vec::new(),
            ahead: None,
        }
    }

    /// A segment begins: its first records must be checksum and metadata.
    pub(crate) fn begin_segment(&mut self) {
        self.head = Head::WantsCrc;
    }

    /// Whether the segment has begun as it must.
    pub(crate) fn has_head(&self) -> bool {
        self.head == Head::Done
    }

    /// Takes the next record, or says why it cannot be one.
    pub(crate) fn apply(&mut self, content: Content, place: Place) -> Result<(), Damage> {
        self.head = match (self.head, &content) {
            (Head::WantsCrc, Content::Crc) => Head::WantsMetadata,
            (Head::WantsMetadata, Content::Metadata(_)) => Head::Done,
            (Head::Done, Content::Crc) | (Head::WantsCrc | Head::WantsMetadata, _) => {
                return Err(Damage::Head);
            }
            (Head::Done, _) => Head::Done,
        };
        match content {
            Content::Crc => Ok(()),
            Content::Metadata(metadata) => self.metadata(metadata),
            Content::Entry(entry) => self.entry(entry, place),
            Content::HardState(hard_state) => self.hard_state(hard_state),
            Content::Mark(mark) => {
                self.mark(mark);
                Ok(())
            }
        }
    }

    fn metadata(&mut self, metadata: Metadata) -> Result<(), Damage> {
        match self.metadata {
            Some(known) if known != metadata => Err(Damage::MetadataConflict),
            _ => {
                self.metadata = Some(metadata);
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: Entry, place: Place) -> Result<(), Damage> {
        if self.ahead.is_none() && entry.term > self.hard_state.vote.term {
            self.ahead = Some((place, entry.term));
        }
        if let Some(base) = &self.base
            && entry.index <= base.index
        {
            if entry.index == base.index {
                self.term_at_base = Some(entry.term);
            }
            return Ok(());
        }
        if let Some(first) = self.first()
            && entry.index >= first
        {
            let last = self.last();
            if entry.index.0 > last.0 + 1 {
                return Err(Damage::Gap { last, index: entry.index });
            }
            if entry.index <= last && entry.index <= self.recorded {
                let (index, commit) = (entry.index, self.recorded);
                return Err(Damage::ReplacesCommitted { index, commit });
            }
            let n_kept = usize::try_from(entry.index.0 - first.0).unwrap_or(usize::MAX);
            self.entries.truncate(n_kept);
        } else {
            // Without a base the log may begin anywhere, but only once.
            if !self.entries.is_empty() {
                return Err(Damage::Gap { last: self.last(), index: entry.index });
            }
        }
        let seen = self.last_term();
        if entry.term < seen {
            return Err(Damage::TermFell { seen, found: entry.term });
        }
        self.entries.push(entry);
        Ok(())
    }

    fn hard_state(&mut self, hard_state: HardState) -> Result<(), Damage> {
        let (seen, found) = (self.hard_state.vote.term, hard_state.vote.term);
        if found < seen {
            return Err(Damage::TermFell { seen, found });
        }
        let entry = self.last_term();
        if entry > found {
            return Err(Damage::TermAhead { entry, hard_state: found });
        }
        self.ahead = None;
        self.recorded = self.recorded.max(hard_state.commit);
        self.hard_state = hard_state;
        Ok(())
    }

    fn mark(&mut self, mark: SnapshotMark) {
        self.marks.push(mark.clone());
        self.recorded = self.recorded.max(mark.index);
        if let StartAt::Mark(wanted) = &self.start
            && wanted.index == mark.index
        {
            self.found = if wanted.term == mark.term { Found::Yes } else { Found::OtherTerm };
        }
        if self.base.as_ref().is_some_and(|base| mark.index < base.index) {
            return;
        }
        if self.base.as_ref().is_some_and(|base| mark.index == base.index) {
            // Entries behind an entry that the snapshot contradicts belong to another history.
            if self.term_at_base.is_some_and(|term| term != mark.term) {
                self.entries.clear();
                self.term_at_base = None;
            }
            self.take_base(mark);
            return;
        }
        match self.term_of(mark.index) {
            Some(term) if term == mark.term => self.advance_base(mark),
            // Right before the first entry read: nothing is missing behind it.
            None if self.is_next(mark.index) => self.advance_base(mark),
            // Older than that: the entries behind it are not all here.
            None if self.base.is_none() && self.is_older_than_entries(mark.index) => {}
            // The snapshot's slot is absent or contradicts it: what is here leads nowhere.
            _ => {
                self.entries.clear();
                // What was known was of the base before.
                self.term_at_base = Some(mark.term);
                self.take_base(mark);
            }
        }
    }

    fn take_base(&mut self, mark: SnapshotMark) {
        if let Some(base) = &mut self.base
            && base.index == mark.index
            && mark.conf_state.is_none()
        {
            return;
        }
        self.base = Some(mark);
    }

    /// Drops the entries that a mark covers, if it is one that the caller asked for.
    fn advance_base(&mut self, mark: SnapshotMark) {
        let StartAt::NewestAtOrBelow(limit) = self.start else { return };
        if mark.index > limit {
            return;
        }
        let covered = |entry: &Entry| entry.index <= mark.index;
        let n_covered = self.entries.partition_point(covered);
        self.entries.drain(..n_covered);
        self.term_at_base = Some(mark.term);
        self.base = Some(mark);
    }

    /// The index of `entries[0]`, whether there is one yet or not.
    fn first(&self) -> Option<LogIndex> {
        match &self.base {
            Some(base) => Some(LogIndex(base.index.0 + 1)),
            None => self.entries.first().map(|entry| entry.index),
        }
    }

    /// Whether the entries begin right behind `index`, before any base is known.
    fn is_next(&self, index: LogIndex) -> bool {
        let is_next = |entry: &Entry| index.0.checked_add(1) == Some(entry.index.0);
        self.base.is_none() && self.entries.first().is_some_and(is_next)
    }

    /// Before the first entry the name of the first segment tells: a snapshot that was under way
    /// during a cut is marked behind it, and some entries that follow the mark lie before it.
    fn is_older_than_entries(&self, index: LogIndex) -> bool {
        match self.entries.first() {
            Some(entry) => index < entry.index,
            None => index.0.saturating_add(1) < self.begins.0,
        }
    }

    fn term_of(&self, index: LogIndex) -> Option<Term> {
        let first = self.entries.first()?.index;
        let at = usize::try_from(index.0.checked_sub(first.0)?).ok()?;
        self.entries.get(at).map(|entry| entry.term)
    }

    /// The term that the next entry and hard state must reach. A mark counts only from its own
    /// record on: what lies before it is older than the mark.
    fn last_term(&self) -> Term {
        let is_met = self.found == Found::Yes || matches!(self.start, StartAt::NewestAtOrBelow(_));
        let base_term = || self.base.as_ref().filter(|_| is_met).map_or(Term(0), |base| base.term);
        self.entries.last().map_or_else(base_term, |entry| entry.term)
    }

    /// The last index: of the last entry, or of the base.
    pub(crate) fn last(&self) -> LogIndex {
        let base_index = || self.base.as_ref().map_or(LogIndex(0), |base| base.index);
        self.entries.last().map_or_else(base_index, |entry| entry.index)
    }

    /// Where a tail begins whose entries no hard state vouches for.
    pub(crate) fn unvouched(&self) -> Option<(Place, Damage)> {
        let (place, entry) = self.ahead?;
        Some((place, Damage::TermAhead { entry, hard_state: self.hard_state.vote.term }))
    }

    /// The result is not allowed to end before what the log itself calls committed.
    pub(crate) fn check_end(&self) -> Result<(), Damage> {
        let last = self.last();
        if self.recorded > last {
            return Err(Damage::CommitAhead { commit: self.recorded, last });
        }
        Ok(())
    }

    /// The entries alone, whether or not a mark was met.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    pub(crate) fn finish(self) -> Result<Replayed, OpenError> {
        match (&self.start, self.found) {
            (StartAt::Mark(_), Found::No) => return Err(OpenError::MarkNotFound),
            (StartAt::Mark(_), Found::OtherTerm) => return Err(OpenError::MarkMismatch),
            (StartAt::Mark(_), Found::Yes) | (StartAt::NewestAtOrBelow(_), _) => {}
        }
        Ok(Replayed {
            metadata: self.metadata.unwrap_or_default(),
            hard_state: self.hard_state,
            base: self.base.ok_or(OpenError::MarkNotFound)?,
            entries: self.entries,
            marks: self.marks,
        })
    }
}

/// What a log holds from a mark on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state.
    pub hard_state: HardState,
    /// The mark behind which the entries begin: the one asked for, or a later one that the log
    /// below does not reach.
    pub base: SnapshotMark,
    /// The entries behind `base`, without a gap.
    pub entries: Vec<Entry>,
    /// Every mark in the segments read, in the order of writing.
    pub marks: Vec<SnapshotMark>,
}

impl Replayed {
    /// Index of the last entry, or of the base.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.entries.last().map_or(self.base.index, |entry| entry.index)
    }

    /// Term of the last entry, or of the base.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.entries.last().map_or(self.base.term, |entry| entry.term)
    }

    /// The marks that the hard state confirms: index at or below the commit
    /// (storage-and-raft.md §1.12). A `.snap` file is trusted only with one of these.
    pub fn confirmed_marks(&self) -> impl Iterator<Item = &SnapshotMark> {
        self.marks.iter().filter(|mark| mark.index <= self.hard_state.commit)
    }
}
