//! What members say to each other (FORMAT.md): calls with an answer, and calls without one.

use bytes::Bytes;
use etcdrs_types::{LogIndex, Term};
use etcdrs_wal as wal;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use prost::Message as _;

use crate::types::{self, LogId, TypeConfig, Vote, log_id, term_of};

/// One message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Envelope {
    /// Names the call; an answer carries the number of its call.
    #[prost(uint64, tag = "1")]
    pub(crate) call: u64,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Body {
    /// Leader to follower: entries, or none as a heartbeat.
    #[prost(message, tag = "2")]
    Append(Append),
    #[prost(message, tag = "3")]
    Appended(Appended),
    #[prost(message, tag = "4")]
    Vote(Ballot),
    #[prost(message, tag = "5")]
    PreVote(Ballot),
    #[prost(message, tag = "6")]
    Voted(Voted),
    /// Leader to the member that shall lead.
    #[prost(message, tag = "7")]
    Transfer(Transfer),
    #[prost(message, tag = "8")]
    Transferred(Transferred),
    /// Follower to leader: from which index on is a read linearizable?
    #[prost(message, tag = "9")]
    ReadIndex(Nothing),
    #[prost(message, tag = "10")]
    ReadAt(ReadAt),
    /// Follower to leader: append this request. Answered only when it is refused; the follower
    /// learns what it did from its own log.
    #[prost(bytes = "bytes", tag = "11")]
    Propose(Bytes),
    /// The call was not carried out, and nothing of it will be.
    #[prost(message, tag = "12")]
    Refused(Nothing),
    /// Anything that the leader's server answers itself.
    #[prost(bytes = "bytes", tag = "13")]
    Ask(Bytes),
    #[prost(bytes = "bytes", tag = "14")]
    Told(Bytes),
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Nothing {}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Position {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct VoteRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    member: u64,
    #[prost(bool, tag = "3")]
    committed: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntryRecord {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    /// 0 a request or nothing, 2 a membership, as in the log.
    #[prost(uint32, tag = "3")]
    kind: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    data: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Append {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    previous: Option<Position>,
    #[prost(message, optional, tag = "3")]
    commit: Option<Position>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<EntryRecord>,
}

/// At most one of `conflict` and `higher` is set; without them it is a success up to `matched`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Appended {
    #[prost(message, optional, tag = "1")]
    matched: Option<Position>,
    #[prost(message, optional, tag = "2")]
    conflict: Option<Position>,
    #[prost(message, optional, tag = "3")]
    higher: Option<VoteRecord>,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Ballot {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    last: Option<Position>,
    #[prost(bool, tag = "3")]
    transfer: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Voted {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
    #[prost(message, optional, tag = "2")]
    last: Option<Position>,
    #[prost(bool, tag = "3")]
    granted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Transfer {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    last: Option<Position>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Transferred {
    /// Why not; empty when the target stands for election.
    #[prost(string, tag = "1")]
    pub(crate) refusal: String,
}

#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct ReadAt {
    #[prost(uint64, tag = "1")]
    pub(crate) index: u64,
}

/// What stands before a snapshot's database.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SnapshotHead {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
    #[prost(message, required, tag = "2")]
    last: Position,
    /// An encoded `MembershipRecord` with index and term.
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) membership: Bytes,
}

/// The answer to a snapshot: the receiver's vote.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct SnapshotTaken {
    #[prost(message, required, tag = "1")]
    vote: VoteRecord,
}

impl Body {
    /// Whether it is what a leader says when it has nothing to say.
    pub(crate) fn is_heartbeat(&self) -> bool {
        matches!(self, Self::Append(append) if append.entries.is_empty())
    }
}

impl Envelope {
    pub(crate) fn encoded(call: u64, body: Body) -> Bytes {
        Self { call, body: Some(body) }.encode_to_vec().into()
    }
}

fn position(id: LogId) -> Position {
    Position { term: term_of(&id), index: id.index }
}

fn id(position: Position) -> LogId {
    log_id(position.term, position.index)
}

fn vote_record(vote: &Vote) -> VoteRecord {
    let vote = types::vote_to_wal(vote);
    VoteRecord { term: vote.term.0, member: vote.member.0, committed: vote.committed }
}

/// A vote as it is, term 0 included: unlike in the log it is never "none".
fn vote(record: VoteRecord) -> Vote {
    let leader_id = types::LeaderId { term: record.term, voted_for: record.member };
    Vote { leader_id, committed: record.committed }
}

impl Append {
    pub(crate) fn of(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        let entry = |entry| {
            let wal::Entry { kind, term, index, data } = types::to_wal(entry);
            EntryRecord { term: term.0, index: index.0, kind: kind_number(kind), data }
        };
        Self {
            vote: vote_record(&request.vote),
            previous: request.prev_log_id.map(position),
            commit: request.leader_commit.map(position),
            entries: request.entries.iter().map(entry).collect(),
        }
    }

    /// # Errors
    ///
    /// A text that names the entry that makes no sense.
    pub(crate) fn request(self) -> Result<AppendEntriesRequest<TypeConfig>, String> {
        let entry = |entry: EntryRecord| {
            let kind = match entry.kind {
                0 => wal::EntryKind::Normal,
                2 => wal::EntryKind::ConfChangeV2,
                kind => return Err(format!("entry {} has kind {kind}", entry.index)),
            };
            let (term, index) = (Term(entry.term), LogIndex(entry.index));
            types::from_wal(wal::Entry { kind, term, index, data: entry.data })
        };
        Ok(AppendEntriesRequest {
            vote: vote(self.vote),
            prev_log_id: self.previous.map(id),
            leader_commit: self.commit.map(id),
            entries: self.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        })
    }
}

impl Appended {
    pub(crate) fn of(result: StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(matched) => Self { matched: matched.map(position), ..Self::default() },
            Err(StreamAppendError::Conflict(at)) => {
                Self { conflict: Some(position(at)), ..Self::default() }
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                Self { higher: Some(vote_record(&vote)), ..Self::default() }
            }
        }
    }

    pub(crate) fn result(self) -> StreamAppendResult<TypeConfig> {
        match (self.higher, self.conflict) {
            (Some(higher), _) => Err(StreamAppendError::HigherVote(vote(higher))),
            (None, Some(conflict)) => Err(StreamAppendError::Conflict(id(conflict))),
            (None, None) => Ok(self.matched.map(id)),
        }
    }
}

impl Ballot {
    pub(crate) fn of(request: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: vote_record(&request.vote),
            last: request.last_log_id.map(position),
            transfer: request.leadership_transfer,
        }
    }

    pub(crate) fn request(self) -> VoteRequest<TypeConfig> {
        let mut request = VoteRequest::new(vote(self.vote), self.last.map(id));
        request.leadership_transfer = self.transfer;
        request
    }
}

impl Voted {
    pub(crate) fn of(response: &VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: vote_record(&response.vote),
            last: response.last_log_id.map(position),
            granted: response.vote_granted,
        }
    }

    pub(crate) fn response(self) -> VoteResponse<TypeConfig> {
        VoteResponse::new(vote(self.vote), self.last.map(id), self.granted)
    }
}

impl Transfer {
    pub(crate) fn of(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            vote: vote_record(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(position),
        }
    }

    pub(crate) fn request(self) -> TransferLeaderRequest<TypeConfig> {
        TransferLeaderRequest::new(vote(self.vote), self.to, self.last.map(id))
    }
}

impl SnapshotHead {
    pub(crate) fn new(from: &Vote, last: LogId, membership: Bytes) -> Self {
        Self { vote: vote_record(from), last: position(last), membership }
    }

    pub(crate) fn vote(&self) -> Vote {
        vote(self.vote)
    }

    pub(crate) fn last(&self) -> LogId {
        id(self.last)
    }
}

impl SnapshotTaken {
    pub(crate) fn new(own: &Vote) -> Self {
        Self { vote: vote_record(own) }
    }

    pub(crate) fn vote(&self) -> Vote {
        vote(self.vote)
    }
}

/// As in the log.
fn kind_number(kind: wal::EntryKind) -> u32 {
    match kind {
        wal::EntryKind::Normal => 0,
        wal::EntryKind::ConfChange => 1,
        wal::EntryKind::ConfChangeV2 => 2,
    }
}
