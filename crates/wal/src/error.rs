//! What can go wrong, one enum per operation.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use etcdrs_types::{LogIndex, Term};

/// Why a log could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// There is a log already.
    #[error("file already exists")]
    Exists,
    /// The file system refused.
    #[error("create {}", path.display())]
    Io {
        /// What was being made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a log could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory holds no segment.
    #[error("wal: file not found")]
    NotFound,
    /// No segment can hold the wanted mark.
    #[error("wal: file not found which matches the snapshot index '{index}'")]
    NoSegmentFor {
        /// Index of the wanted mark.
        index: LogIndex,
    },
    /// A segment is missing in the middle.
    #[error("wal: file sequence numbers (starting from {first}) do not increase continuously")]
    SequenceGap {
        /// Sequence number of the first segment read.
        first: u64,
    },
    /// Another process or handle writes this log.
    #[error("wal: {}: file already locked", path.display())]
    Locked {
        /// The segment that is locked.
        path: PathBuf,
    },
    /// The wanted mark is not in the log.
    #[error("wal: snapshot not found")]
    MarkNotFound,
    /// The log has the wanted mark's index with another term.
    #[error("wal: snapshot mismatch")]
    MarkMismatch,
    /// The content contradicts itself.
    #[error("{damage} in {} at byte {offset}", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the record begins that could not be accepted.
        offset: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The tail is torn, but cutting it would drop what the log itself calls committed.
    #[error(
        "wal: cutting the torn tail of {} at byte {offset} would leave index {last}, but the log records index {recorded} as committed",
        path.display()
    )]
    CutBelowCommit {
        /// The segment.
        path: PathBuf,
        /// Where the tail is torn.
        offset: u64,
        /// Last index that would be left.
        last: LogIndex,
        /// Newest commit or snapshot index found.
        recorded: LogIndex,
    },
    /// The file system refused.
    #[error("read {}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends or turns to zeros inside a record: a write that a power loss cut short.
    #[error("unexpected EOF")]
    Torn,
    /// The data does not match its checksum.
    #[error("walpb: crc mismatch: expected: {expected:x} computed: {computed:x}")]
    Crc {
        /// The checksum in the record.
        expected: u32,
        /// The checksum of the data.
        computed: u32,
    },
    /// A segment does not continue the checksum of the one before it.
    #[error("wal: crc mismatch")]
    CrcChain,
    /// The length field is not one that a writer makes.
    #[error("wal: malformed length field {0:016x}")]
    Length(u64),
    /// Padding that is not zero.
    #[error("wal: padding is not zero")]
    Padding,
    /// The record is not in the one form that a writer makes.
    #[error("wal: malformed record")]
    Record,
    /// The record's data is not in the one form that a writer makes.
    #[error("wal: malformed {0} record")]
    Content(&'static str),
    /// A type that no version writes.
    #[error("unexpected block type {0}")]
    UnknownType(u64),
    /// A segment that does not begin with checksum and metadata.
    #[error("wal: segment does not begin with crc and metadata")]
    Head,
    /// Two metadata records differ.
    #[error("wal: conflicting metadata found")]
    MetadataConflict,
    /// An entry leaves a gap behind its predecessor.
    #[error("wal: slice bounds out of range: entry {index} follows {last}")]
    Gap {
        /// The last index before.
        last: LogIndex,
        /// The index found.
        index: LogIndex,
    },
    /// A term is lower than one before it.
    #[error("wal: term {found} follows term {seen}")]
    TermFell {
        /// The highest term before.
        seen: Term,
        /// The term found.
        found: Term,
    },
    /// An entry's term is above that of the hard state behind it.
    #[error("wal: entry of term {entry} before a hard state of term {hard_state}")]
    TermAhead {
        /// Term of the entry.
        entry: Term,
        /// Term of the hard state.
        hard_state: Term,
    },
    /// The commit index is above the last entry.
    #[error("wal: commit {commit} is above the last index {last}")]
    CommitAhead {
        /// The commit index.
        commit: LogIndex,
        /// The last index.
        last: LogIndex,
    },
    /// An entry would replace one that is committed.
    #[error("wal: entry {index} replaces an entry at or below the commit {commit}")]
    ReplacesCommitted {
        /// Index of the entry.
        index: LogIndex,
        /// The commit index.
        commit: LogIndex,
    },
}

/// Why a batch could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The batch breaks a rule of the log; nothing of it was written and the log is unharmed.
    #[error("batch refused: {0}")]
    Refused(Damage),
    /// The log failed, now or earlier. Final: the state on disk is unknown until it is reopened.
    #[error(transparent)]
    Failed(#[from] WriteFailed),
}

/// The log failed and takes nothing more. Cloned into every answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("write-ahead log failed: {operation}")]
pub struct WriteFailed {
    /// What was tried.
    pub operation: &'static str,
    /// What the system said.
    #[source]
    pub source: Arc<io::Error>,
}
