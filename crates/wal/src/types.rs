//! What the log stores, as values.

use bytes::Bytes;
use etcdrs_proto::raftpb::ConfState;
use etcdrs_types::{ClusterId, LogIndex, MemberId, Term};

/// What an entry carries (raftpb.EntryType).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A request, or nothing: the blank entry of a new leader.
    #[default]
    Normal,
    /// A raftpb.ConfChange.
    ConfChange,
    /// A raftpb.ConfChangeV2.
    ConfChangeV2,
}

impl EntryKind {
    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::ConfChange => 1,
            Self::ConfChangeV2 => 2,
        }
    }

    pub(crate) const fn from_wire(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            _ => None,
        }
    }
}

/// One entry of the raft log.
///
/// Invariant (checked before writing and after reading): `index` is not 0, and an entry of a
/// conf-change kind has data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What `data` is.
    pub kind: EntryKind,
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log; the first entry has index 1.
    pub index: LogIndex,
    /// The payload. `None` and empty are different on disk.
    pub data: Option<Bytes>,
}

/// A member's vote, which raft must never forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The newest term seen.
    pub term: Term,
    /// For whom this member voted in it; 0 means nobody.
    pub member: MemberId,
    /// Whether that member is known to have won (field 15 of the hard state, ours).
    pub committed: bool,
}

/// raftpb.HardState: the vote and the newest commit index known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Term, vote and our extra bit.
    pub vote: Vote,
    /// Entries up to this index were known to be committed when the record was written.
    pub commit: LogIndex,
}

/// walpb.Snapshot: the log up to `index` is covered by a snapshot, or purged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    /// Index of the last entry covered.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// The members at that index; absent at index 0 and in files older than etcd 3.5.
    pub conf_state: Option<ConfState>,
}

impl SnapshotMark {
    /// A mark without members.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { index, term, conf_state: None }
    }
}

/// walpb.Metadata: whose log this is. The same in every segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The member that writes the log.
    pub node_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// What is appended together. Goes to the log in the order of the fields.
///
/// The log keeps the whole hard state by itself, so that a vote and a commit can be saved apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// A new vote. Without one, entries of a newer term raise the term with no vote.
    pub vote: Option<Vote>,
    /// Entries without a gap. The first may have the index of an entry that is in the log: it and
    /// all behind it are replaced, which is how a truncation is written.
    pub entries: Vec<Entry>,
    /// A new commit index. Never forces a sync.
    pub commit: Option<LogIndex>,
    /// A snapshot that covers the log up to an index.
    pub mark: Option<SnapshotMark>,
}

impl Batch {
    /// A batch of entries alone.
    #[must_use]
    pub fn entries(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }

    /// A batch with a vote alone.
    #[must_use]
    pub fn vote(vote: Vote) -> Self {
        Self { vote: Some(vote), ..Self::default() }
    }

    /// A batch with a commit index alone.
    #[must_use]
    pub fn commit(commit: LogIndex) -> Self {
        Self { commit: Some(commit), ..Self::default() }
    }

    /// A batch with a snapshot mark alone.
    #[must_use]
    pub fn mark(mark: SnapshotMark) -> Self {
        Self { mark: Some(mark), ..Self::default() }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.vote.is_none()
            && self.commit.is_none()
            && self.mark.is_none()
    }

    /// Roughly the bytes it takes in the log; used to bound a group.
    #[must_use]
    pub fn approximate_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 48;
        let data: usize = self.entries.iter().map(|e| e.data.as_ref().map_or(0, Bytes::len)).sum();
        data + FRAME_BYTES * (self.entries.len() + 2)
    }
}
