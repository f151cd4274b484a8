//! The record of a run: what clients asked, what they were told, and when.
//!
//! Times are nanoseconds of one monotonic clock of the process that runs all clients, so that the
//! times of different clients can be compared.

use tonic::Code;

use crate::mvccpb::KeyValue;
use crate::pb;

/// Nanoseconds since the start of the run.
pub type Nanos = u64;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// KV.Range
    Range(pb::RangeRequest),
    /// KV.Put
    Put(pb::PutRequest),
    /// KV.DeleteRange
    Delete(pb::DeleteRangeRequest),
    /// KV.Txn
    Txn(pb::TxnRequest),
    /// KV.Compact
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant
    Grant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeRequest),
    /// One request on a Lease.LeaseKeepAlive stream.
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// Maintenance.Defragment
    Defragment,
}

/// What it was told; the variant is that of the request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// KV.Range
    Range(pb::RangeResponse),
    /// KV.Put
    Put(pb::PutResponse),
    /// KV.DeleteRange
    Delete(pb::DeleteRangeResponse),
    /// KV.Txn
    Txn(pb::TxnResponse),
    /// KV.Compact
    Compact(pb::CompactionResponse),
    /// Lease.LeaseGrant
    Grant(pb::LeaseGrantResponse),
    /// Lease.LeaseRevoke
    Revoke(pb::LeaseRevokeResponse),
    /// Lease.LeaseKeepAlive; a TTL of 0 says that the lease is gone.
    KeepAlive(pb::LeaseKeepAliveResponse),
    /// Maintenance.Defragment, which answers nothing.
    Defragment,
}

/// An error as the client got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// gRPC code.
    pub code: Code,
    /// The text.
    pub text: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Answered(Answer),
    /// With an error that promises that nothing was done.
    Refused(Failure),
    /// With an error that promises nothing, or without any end.
    Unknown(Failure),
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// Which member was asked, counted from 0.
    pub member: usize,
    /// Calls with the same number spoke to the same life of the same member, so revisions and
    /// terms among them never decrease. 0 promises nothing.
    pub session: u64,
    /// Before the request was sent.
    pub called: Nanos,
    /// After the answer or error was there.
    pub returned: Nanos,
    /// What was asked.
    pub request: Request,
    /// How it ended.
    pub outcome: Outcome,
}

/// One answer on a watch stream that concerns one watcher.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// After it was read.
    pub at: Nanos,
    /// The answer, one fragment at a time.
    pub response: pb::WatchResponse,
}

/// How the record of a watcher ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The stream broke, or the client closed it: what did not arrive says nothing.
    Closed(String),
    /// The cluster was healthy and at this revision long before the watcher was closed, so
    /// everything up to it must have arrived.
    Drained(i64),
}

/// One watcher from its creation on. A client that resumes makes another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Who watched.
    pub client: u32,
    /// Which member.
    pub member: usize,
    /// Before the request was sent.
    pub called: Nanos,
    /// What was asked.
    pub request: pb::WatchCreateRequest,
    /// Everything received for it; progress for a whole stream is entered at each of its watchers.
    pub responses: Vec<Received>,
    /// How it ended.
    pub end: WatchEnd,
}

/// What a member holds after all faults are healed and all clients have stopped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberEnd {
    /// The member, counted from 0.
    pub member: usize,
    /// Its current revision.
    pub revision: i64,
    /// HashKV at the highest revision that all members have.
    pub hash: u32,
    /// The compacted revision HashKV answered.
    pub compact_revision: i64,
    /// All its keys, by a serializable read.
    pub kvs: Vec<KeyValue>,
    /// All its leases, sorted.
    pub leases: Vec<i64>,
    /// The ids of the members it knows, sorted.
    pub members: Vec<u64>,
}

/// A member that was removed for good, and whose place another one took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The place, counted from 0.
    pub member: usize,
    /// After the last process of the old member ended, before the first of the new one.
    pub at: Nanos,
}

/// All of a run. The cluster was empty, at revision 1, when it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Every call, in any order.
    pub operations: Vec<Operation>,
    /// Every watcher. Those of all keys without filters tell the log; together they must have all
    /// of it.
    pub watches: Vec<Watch>,
    /// The members at the end.
    pub ends: Vec<MemberEnd>,
    /// Members that came new, in order of time.
    pub replacements: Vec<Replacement>,
}

impl Request {
    /// False for requests that a member may answer from what it has, however old.
    pub fn is_linearizable(&self) -> bool {
        match self {
            Self::Range(range) => !range.serializable,
            // TX-12: a transaction of ranges only waits for no quorum if all are serializable.
            Self::Txn(txn) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                !ops.all(|op| match &op.request {
                    Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
                    _ => false,
                })
            }
            // The answer has the revision that the contacted member had before the renewal.
            Self::KeepAlive(_) | Self::Defragment => false,
            _ => true,
        }
    }
}

impl Answer {
    /// The header, which only Defragment has not.
    pub fn header(&self) -> Option<&pb::ResponseHeader> {
        match self {
            Self::Range(answer) => answer.header.as_ref(),
            Self::Put(answer) => answer.header.as_ref(),
            Self::Delete(answer) => answer.header.as_ref(),
            Self::Txn(answer) => answer.header.as_ref(),
            Self::Compact(answer) => answer.header.as_ref(),
            Self::Grant(answer) => answer.header.as_ref(),
            Self::Revoke(answer) => answer.header.as_ref(),
            Self::KeepAlive(answer) => answer.header.as_ref(),
            Self::Defragment => None,
        }
    }

    /// True if the answer says that keys were changed, at exactly its revision (RV-02).
    pub fn claims_change(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::Delete(answer) => answer.deleted > 0,
            Self::Txn(answer) => txn_claims_change(answer),
            _ => false,
        }
    }
}

fn txn_claims_change(answer: &pb::TxnResponse) -> bool {
    use pb::response_op::Response;
    answer.responses.iter().any(|op| match &op.response {
        Some(Response::ResponsePut(_)) => true,
        Some(Response::ResponseDeleteRange(delete)) => delete.deleted > 0,
        Some(Response::ResponseTxn(txn)) => txn_claims_change(txn),
        _ => false,
    })
}

impl Operation {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The revision in the answer's header.
    pub fn revision(&self) -> Option<i64> {
        Some(self.answer()?.header()?.revision)
    }

    /// True unless an error promised that nothing was done.
    pub fn may_have_happened(&self) -> bool {
        !matches!(self.outcome, Outcome::Refused(_))
    }
}

impl Watch {
    /// True if it shows every change, so that it can tell the log.
    pub fn sees_everything(&self) -> bool {
        let request = &self.request;
        let from_first = request.key.is_empty() || request.key.as_ref() == b"\0";
        from_first && request.range_end.as_ref() == b"\0" && request.filters.is_empty()
    }
}
