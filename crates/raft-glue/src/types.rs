//! openraft's type configuration, and entries on their way between openraft and the log.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use etcdrs_apply::Outcome;
use etcdrs_types::{LogIndex, MemberId, Term};
use etcdrs_wal as wal;
use openraft::EmptyNode;
use openraft::entry::{RaftEntry as _, RaftPayload};
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use prost::Message as _;

use crate::propose::Waiter;

/// An encoded `InternalRaftRequest`: the bytes that the log, the peers and apply share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal(pub(crate) Bytes);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Payload {
    /// Nothing: the first entry of a term.
    Blank,
    /// A request.
    Request(Proposal),
    /// A new membership. Boxed: it is rare, and entries are moved a lot.
    Change(Box<Change>),
}

/// A new membership, and with it what the change does to the records of the members.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) membership: Membership,
    /// An encoded request, or nothing.
    pub(crate) request: Bytes,
    /// Decided by the operator of a member that lost the others, not by the cluster.
    pub(crate) forced: bool,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => write!(f, "blank"),
            Self::Request(proposal) => write!(f, "request of {proposal}"),
            Self::Change(change) => write!(f, "membership {}", change.membership),
        }
    }
}

impl RaftPayload for Payload {
    type D = Proposal;
    type NodeId = u64;
    type Node = EmptyNode;

    fn blank() -> Self {
        Self::Blank
    }

    fn with_normal(self, data: Proposal) -> Self {
        Self::Request(data)
    }

    /// Keeps the request of a change: openraft puts the membership in last.
    fn with_membership(self, membership: Membership) -> Self {
        let request = match self {
            Self::Blank => Bytes::new(),
            Self::Request(Proposal(request)) => request,
            Self::Change(change) => change.request,
        };
        Self::Change(Box::new(Change { membership, request, forced: false }))
    }

    fn get_membership(&self) -> Option<Membership> {
        match self {
            Self::Change(change) => Some(change.membership.clone()),
            _ => None,
        }
    }
}

/// openraft's types. Terms and indexes are etcd's: standard leader ids, so that a log id is
/// (term, index).
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Outcome;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::Vote<LeaderId>;
    type Payload = Payload;
    type Entry = openraft::Entry<CommittedLeaderId, Self::Payload>;
    type AsyncRuntime = crate::runtime::Runtime;
    type Responder<T>
        = Waiter<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, EmptyNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type LeaderId = leader_id_std::LeaderId<u64, u64>;
type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    // A committed leader of standard raft is its term alone; the node id is dropped.
    let leader: CommittedLeaderId = LeaderId { term, voted_for: 0 }.to_committed();
    LogId { leader_id: leader, index }
}

pub(crate) fn term_of(log_id: &LogId) -> u64 {
    log_id.leader_id.term
}

/// A raft membership in the log and in the database (FORMAT.md).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MembershipRecord {
    /// Voter sets: one, or two during a joint change.
    #[prost(message, repeated, tag = "1")]
    configs: Vec<VoterSet>,
    /// Every member, learners included, ascending.
    #[prost(uint64, repeated, tag = "2")]
    members: Vec<u64>,
    /// Where the membership was appended; set in the database, absent in the log.
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(uint64, tag = "4")]
    term: u64,
    /// What the change does to the records of the members; absent in the database.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) request: Bytes,
    #[prost(bool, tag = "6")]
    pub(crate) forced: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VoterSet {
    #[prost(uint64, repeated, tag = "1")]
    voters: Vec<u64>,
}

impl MembershipRecord {
    pub(crate) fn of(membership: &Membership, at: Option<LogId>) -> Self {
        Self {
            configs: membership
                .get_joint_config()
                .iter()
                .map(|set| VoterSet { voters: set.iter().copied().collect() })
                .collect(),
            members: membership.nodes().map(|(id, _)| *id).collect(),
            index: at.map_or(0, |id| id.index),
            term: at.map_or(0, |id| term_of(&id)),
            request: Bytes::new(),
            forced: false,
        }
    }

    /// The membership that a cluster is born with: all vote.
    pub(crate) fn seed(voters: impl Iterator<Item = u64>) -> Self {
        let voters: std::collections::BTreeSet<u64> = voters.collect();
        let members: Vec<u64> = voters.into_iter().collect();
        let set = VoterSet { voters: members.clone() };
        let configs = if members.is_empty() { Vec::new() } else { vec![set] };
        Self { configs, members, ..Self::default() }
    }

    /// Of nobody for a member that joins: who belongs to the cluster comes from the leader.
    pub(crate) fn membership(&self) -> Result<Membership, String> {
        if self.members.is_empty() {
            return Ok(Membership::default());
        }
        let configs = self.configs.iter().map(|set| set.voters.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, EmptyNode> =
            self.members.iter().map(|id| (*id, EmptyNode {})).collect();
        Membership::new(configs, nodes).map_err(|error| error.to_string())
    }

    pub(crate) fn stored(&self) -> Result<StoredMembership, String> {
        Ok(StoredMembership::new(Some(log_id(self.term, self.index)), self.membership()?))
    }

    /// Voters and learners.
    pub(crate) fn members(&self) -> impl Iterator<Item = MemberId> {
        self.members.iter().copied().map(MemberId)
    }

    pub(crate) fn voters(&self) -> impl Iterator<Item = u64> {
        self.configs.iter().flat_map(|set| set.voters.iter().copied())
    }

    /// Members that vote in no set.
    pub(crate) fn learners(&self) -> impl Iterator<Item = u64> {
        let votes = |id: &u64| self.configs.iter().any(|set| set.voters.contains(id));
        self.members.iter().copied().filter(move |id| !votes(id))
    }
}

/// An openraft entry as the log keeps it.
pub(crate) fn to_wal(entry: &Entry) -> wal::Entry {
    let (kind, data) = match entry.payload.clone() {
        Payload::Blank => (wal::EntryKind::Normal, None),
        Payload::Request(Proposal(bytes)) => (wal::EntryKind::Normal, Some(bytes)),
        Payload::Change(change) => {
            let Change { membership, request, forced } = *change;
            let record = MembershipRecord::of(&membership, None);
            let record = MembershipRecord { request, forced, ..record };
            (wal::EntryKind::ConfChangeV2, Some(record.encode_to_vec().into()))
        }
    };
    wal::Entry {
        kind,
        term: Term(term_of(&entry.log_id)),
        index: LogIndex(entry.log_id.index),
        data,
    }
}

/// A log entry as openraft takes it.
///
/// # Errors
///
/// A text that says why a membership entry cannot be read.
pub(crate) fn from_wal(entry: wal::Entry) -> Result<Entry, String> {
    let id = log_id(entry.term.0, entry.index.0);
    let payload = match (entry.kind, entry.data) {
        (wal::EntryKind::Normal, None) => Payload::Blank,
        (wal::EntryKind::Normal, Some(bytes)) => Payload::Request(Proposal(bytes)),
        (_, data) => {
            let record = MembershipRecord::decode(data.unwrap_or_default())
                .map_err(|error| format!("entry {}: membership: {error}", entry.index))?;
            let membership = record.membership()?;
            let (request, forced) = (record.request, record.forced);
            Payload::Change(Box::new(Change { membership, request, forced }))
        }
    };
    Ok(Entry::new(id, payload))
}

/// An entry by which an operator makes `record` the membership.
pub(crate) fn forced(id: LogId, record: &MembershipRecord) -> Entry {
    let membership = record.membership().unwrap_or_default();
    let change = Change { membership, request: Bytes::new(), forced: true };
    Entry::new(id, Payload::Change(Box::new(change)))
}

/// A vote as the log keeps it.
pub(crate) fn vote_to_wal(vote: &Vote) -> wal::Vote {
    wal::Vote {
        term: Term(vote.leader_id.term),
        member: MemberId(vote.leader_id.voted_for),
        committed: vote.committed,
    }
}

/// A vote of the log; `None` if no vote was ever saved.
pub(crate) fn vote_from_wal(vote: wal::Vote) -> Option<Vote> {
    if vote == wal::Vote::default() {
        return None;
    }
    let leader_id = LeaderId { term: vote.term.0, voted_for: vote.member.0 };
    Some(Vote { leader_id, committed: vote.committed })
}
