//! Reads whole logs, and says where and why one ends early.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use etcdrs_platform::{File, Fs, Open};
use etcdrs_types::LogIndex;

use crate::content::Content;
use crate::error::{Damage, OpenError};
use crate::evidence;
use crate::options::StartAt;
use crate::record::{Chain, Kind, LENGTH_BYTES, Record, has_zero_sector};
use crate::replay::{Place, Replay, Replayed};
use crate::scan::{Scanner, Step};
use crate::segment::{self, Name};
use crate::types::{Entry, HardState, Metadata};

/// How far a log could be read.
#[derive(Debug)]
pub(crate) struct End {
    /// Where the last good record ends in the last segment.
    pub(crate) offset: u64,
    /// The checksum up to there.
    pub(crate) chain: Chain,
    /// Set if a torn write lies behind it.
    pub(crate) is_torn: bool,
}

/// A log that was read, and how it ended.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) replay: Replay,
    pub(crate) end: End,
}

/// Reads the segments in `names`. A torn tail of the last one ends the log; any other damage is
/// an error.
pub(crate) fn read<F: Fs>(
    fs: &F,
    dir: &Path,
    names: &[Name],
    start: &StartAt,
) -> Result<Read, OpenError> {
    let read = Pass::new(fs, dir, names, start, None).run()?;
    // Entries of a term that no hard state reached were never acknowledged, but they may have
    // replaced others that count. So the log is read again up to them.
    let Some((place, damage)) = read.replay.unvouched() else { return Ok(read) };
    let name = names[place.segment];
    if place.segment + 1 < names.len() {
        return Err(OpenError::Corrupt { path: name.path(dir), offset: place.offset, damage });
    }
    tracing::warn!(path = %name.path(dir).display(), offset = place.offset, %damage, "cutting entries of an unknown term");
    Pass::new(fs, dir, names, start, Some(place.offset)).run()
}

/// One walk over the segments.
struct Pass<'a, F: Fs> {
    fs: &'a F,
    dir: &'a Path,
    names: &'a [Name],
    /// Where in the last segment to stop as if it were torn.
    stop_at: Option<u64>,
    replay: Replay,
    chain: Chain,
}

/// How one segment ended.
enum SegmentEnd {
    Clean(u64),
    Torn(u64),
}

impl<'a, F: Fs> Pass<'a, F> {
    fn new(
        fs: &'a F,
        dir: &'a Path,
        names: &'a [Name],
        start: &StartAt,
        stop_at: Option<u64>,
    ) -> Self {
        let first = names.first().map_or(LogIndex(0), |name| name.first);
        let replay = Replay::new(start.clone(), first);
        Self { fs, dir, names, stop_at, replay, chain: Chain::default() }
    }

    fn run(mut self) -> Result<Read, OpenError> {
        let mut end = SegmentEnd::Clean(0);
        for segment in 0..self.names.len() {
            end = self.segment(segment)?;
        }
        let (offset, is_torn) = match end {
            SegmentEnd::Clean(offset) => (offset, false),
            SegmentEnd::Torn(offset) => (offset, true),
        };
        Ok(Read { replay: self.replay, end: End { offset, chain: self.chain, is_torn } })
    }

    fn segment(&mut self, segment: usize) -> Result<SegmentEnd, OpenError> {
        let name = self.names[segment];
        let path = name.path(self.dir);
        let io = |source| OpenError::Io { path: path.clone(), source };
        let is_last = segment + 1 == self.names.len();
        let corrupt = |offset, damage| OpenError::Corrupt { path: path.clone(), offset, damage };
        let file = self.fs.open(&path, Open::Read).map_err(io)?;
        let mut scanner = Scanner::new(file).map_err(io)?;
        self.replay.begin_segment();
        loop {
            let offset = scanner.offset();
            if is_last && self.stop_at == Some(offset) {
                return Ok(SegmentEnd::Torn(offset));
            }
            let outcome = match scanner.step().map_err(io)? {
                Step::Record(record) => self.record(record, Place { segment, offset }),
                Step::Damaged(damage) => Err((damage, false)),
                Step::Short => Err((Damage::Torn, true)),
                Step::End => return self.end_of_segment(offset).map_err(|d| corrupt(offset, d)),
                Step::Zeros => {
                    if scanner.rest_is_zero().map_err(io)? {
                        return self.end_of_segment(offset).map_err(|d| corrupt(offset, d));
                    }
                    // Something lies behind a length field that never reached the disk.
                    Err((Damage::Torn, true))
                }
            };
            match outcome {
                Ok(()) => {}
                // Before a segment is followed by another it is synced, so that only the last
                // one can be torn; and not in its first records, which are synced before it gets
                // its name.
                Err((_, true)) if is_last && self.replay.has_head() => {
                    return Ok(SegmentEnd::Torn(offset));
                }
                Err((damage, _)) => return Err(corrupt(offset, damage)),
            }
        }
    }

    fn end_of_segment(&self, offset: u64) -> Result<SegmentEnd, Damage> {
        if self.replay.has_head() { Ok(SegmentEnd::Clean(offset)) } else { Err(Damage::Head) }
    }

    /// Takes one record; an error says whether a power loss can be its cause.
    fn record(&mut self, bytes: &[u8], place: Place) -> Result<(), (Damage, bool)> {
        let data_offset = place.offset + LENGTH_BYTES as u64;
        let maybe_torn = |damage| (damage, has_zero_sector(bytes, data_offset));
        let record = Record::decode(bytes).map_err(maybe_torn)?;
        let data = record.data.unwrap_or_default();
        let chain = if record.kind == Kind::Crc {
            // Reading may begin in any segment, whose checksum is then taken as it is; but the
            // first one of all begins at 0.
            let is_known = place.segment > 0 || self.names[0].sequence == 0;
            if is_known && self.chain.0 != record.crc {
                return Err((Damage::CrcChain, false));
            }
            Chain(record.crc)
        } else {
            let chain = self.chain.extended(data);
            if chain.0 != record.crc {
                let (expected, computed) = (record.crc, chain.0);
                return Err(maybe_torn(Damage::Crc { expected, computed }));
            }
            chain
        };
        let content = Content::decode(record.kind, data).map_err(|damage| (damage, false))?;
        self.replay.apply(content, place).map_err(|damage| (damage, false))?;
        self.chain = chain;
        Ok(())
    }
}

/// Whether a torn tail may be cut: not if the log would then end at or before something that the
/// log itself, before or behind the tear, calls committed.
pub(crate) fn check_cut<F: Fs>(fs: &F, path: &Path, read: &Read) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let file = fs.open(path, Open::Read).map_err(io)?;
    let len = file.len().map_err(io)?.saturating_sub(read.end.offset);
    let mut tail = vec![0; usize::try_from(len).map_err(|err| io(io::Error::other(err)))?];
    file.read_exact_at(&mut tail, read.end.offset).map_err(io)?;
    let recorded = evidence::newest_recorded(&tail, read.end.chain);
    let last = read.replay.last();
    if recorded > last {
        let (path, offset) = (path.to_owned(), read.end.offset);
        return Err(OpenError::CutBelowCommit { path, offset, last, recorded });
    }
    Ok(())
}

/// Checks that the log does not end before what it calls committed.
pub(crate) fn check_end(read: &Read, path: &Path) -> Result<(), OpenError> {
    let corrupt =
        |damage| OpenError::Corrupt { path: path.to_owned(), offset: read.end.offset, damage };
    read.replay.check_end().map_err(corrupt)
}

/// The segments to read for `start`.
pub(crate) fn names_for<F: Fs>(
    fs: &F,
    dir: &Path,
    start: &StartAt,
) -> Result<Vec<Name>, OpenError> {
    let names = segment::list(fs, dir)?;
    let needed = match start {
        StartAt::Mark(mark) => segment::from_index(&names, mark.index)?,
        StartAt::NewestAtOrBelow(limit) => {
            let first = first_needed(fs, dir, &names, *limit)?;
            segment::continuous(&names[first..])?
        }
    };
    Ok(needed.to_vec())
}

/// The first segment that the newest mark at or below `limit` needs: the one with the mark or the
/// one with the entry behind it, whichever is older. A start need not read all that a purge has
/// left. Only a look: the segments are checked when they are read.
fn first_needed<F: Fs>(
    fs: &F,
    dir: &Path,
    names: &[Name],
    limit: LogIndex,
) -> Result<usize, OpenError> {
    for (at, name) in names.iter().enumerate().rev() {
        let path = name.path(dir);
        let newest =
            newest_mark(fs, &path, limit).map_err(|source| OpenError::Io { path, source })?;
        if let Some(mark) = newest {
            let holds_next = |name: &Name| name.first.0 <= mark.0.saturating_add(1);
            return Ok(names.iter().rposition(holds_next).unwrap_or(0).min(at));
        }
    }
    Ok(0)
}

/// The last mark of a segment that is not above `limit`, by the look of the frames.
fn newest_mark<F: Fs>(fs: &F, path: &Path, limit: LogIndex) -> io::Result<Option<LogIndex>> {
    let mut scanner = Scanner::new(fs.open(path, Open::Read)?)?;
    let mut newest = None;
    while let Step::Record(bytes) = scanner.step()? {
        let Ok(Record { kind: Kind::Mark, data: Some(data), .. }) = Record::decode(bytes) else {
            continue;
        };
        if let Ok(Content::Mark(mark)) = Content::decode(Kind::Mark, data)
            && mark.index <= limit
        {
            newest = Some(mark.index);
        }
    }
    Ok(newest)
}

/// Reads the log in `dir` without changing or locking anything; the log may be in use. A torn
/// tail, which may be a write in progress, ends it.
pub fn read_only<F: Fs>(fs: &F, dir: &Path, start: &StartAt) -> Result<Replayed, OpenError> {
    let names = names_for(fs, dir, start)?;
    let read = read(fs, dir, &names, start)?;
    if !read.end.is_torn {
        check_end(&read, &names[names.len() - 1].path(dir))?;
    }
    read.replay.finish()
}

/// Whose log it is, by the head of the newest segment in `dir`. Changes and locks nothing, and
/// checks nothing else.
///
/// # Errors
///
/// If there is no segment, or its head cannot be read.
pub fn metadata<F: Fs>(fs: &F, dir: &Path) -> Result<Metadata, OpenError> {
    let names = segment::list(fs, dir)?;
    let Some(name) = names.last() else { return Err(OpenError::NotFound) };
    let path = name.path(dir);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let mut scanner = Scanner::new(fs.open(&path, Open::Read).map_err(io)?).map_err(io)?;
    loop {
        let offset = scanner.offset();
        let corrupt = |damage| OpenError::Corrupt { path: path.clone(), offset, damage };
        let Step::Record(bytes) = scanner.step().map_err(io)? else {
            return Err(corrupt(Damage::Head));
        };
        let record = Record::decode(bytes).map_err(corrupt)?;
        let content = Content::decode(record.kind, record.data.unwrap_or_default());
        if let Content::Metadata(metadata) = content.map_err(corrupt)? {
            return Ok(metadata);
        }
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state.
    pub hard_state: HardState,
    /// Index of the last entry.
    pub last_index: LogIndex,
    /// How many segments were read.
    pub segments: usize,
}

/// Checks the log in `dir` from `start` on: metadata, checksums, order, the mark. Changes nothing.
/// A torn tail is an error.
pub fn verify<F: Fs>(fs: &F, dir: &Path, start: &StartAt) -> Result<Summary, OpenError> {
    let names = names_for(fs, dir, start)?;
    let path: PathBuf = names[names.len() - 1].path(dir);
    let read = read(fs, dir, &names, start)?;
    if read.end.is_torn {
        let offset = read.end.offset;
        return Err(OpenError::Corrupt { path, offset, damage: Damage::Torn });
    }
    check_end(&read, &path)?;
    let replayed = read.replay.finish()?;
    Ok(Summary {
        metadata: replayed.metadata,
        hard_state: replayed.hard_state,
        last_index: replayed.last_index(),
        segments: names.len(),
    })
}

/// The entries from `first` up to and without `end` of a log that may be in use; for a peer that
/// needs entries older than those in memory. Fewer than asked for if the log begins later or ends
/// earlier. Reads whole segments, so it is for long stretches.
pub fn read_entries<F: Fs>(
    fs: &F,
    dir: &Path,
    first: LogIndex,
    end: LogIndex,
) -> Result<Vec<Entry>, OpenError> {
    let names = segment::list(fs, dir)?;
    let names = segment::from_index(&names, first)?;
    let start = StartAt::NewestAtOrBelow(LogIndex(first.0.saturating_sub(1)));
    let read = read(fs, dir, names, &start)?;
    let mut entries = read.replay.into_entries();
    entries.retain(|entry| entry.index >= first && entry.index < end);
    // The data was copied out of a large buffer for each entry, so nothing else is kept alive.
    debug_assert!(entries.iter().all(|entry| entry.data.as_ref().is_none_or(Bytes::is_unique)));
    Ok(entries)
}
