//! Sends a request of a run.

use tonic::{Code, Status};

use super::generate::Wanted;
use crate::client::{Clients, limited};
use crate::pb;
use crate::request::HeaderRevision;

/// The answer to a [`Wanted`].
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
    /// Lease.LeaseKeepAlive
    KeepAlive(pb::LeaseKeepAliveResponse),
    /// Lease.LeaseTimeToLive
    TimeToLive(pb::LeaseTimeToLiveResponse),
    /// Lease.LeaseLeases
    Leases(pb::LeaseLeasesResponse),
    /// Maintenance.HashKV
    HashKv(pb::HashKvResponse),
    /// Code and text
    Error(Code, String),
}

impl Answer {
    /// The revision of the header, 0 for errors.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Range(a) => a.revision(),
            Self::Put(a) => a.revision(),
            Self::Delete(a) => a.revision(),
            Self::Txn(a) => a.revision(),
            Self::Compact(a) => a.revision(),
            Self::Grant(a) => a.revision(),
            Self::Revoke(a) => a.revision(),
            Self::KeepAlive(a) => a.revision(),
            Self::TimeToLive(a) => a.revision(),
            Self::Leases(a) => a.revision(),
            Self::HashKv(a) => a.revision(),
            Self::Error(..) => 0,
        }
    }
}

/// Sends `wanted` and waits for the answer.
pub async fn send(c: &mut Clients, wanted: &Wanted) -> Answer {
    let result = match wanted.clone() {
        Wanted::Range(r) => c.try_range(r).await.map(Answer::Range),
        Wanted::Put(r) => c.try_put(r).await.map(Answer::Put),
        Wanted::Delete(r) => c.try_delete(r).await.map(Answer::Delete),
        Wanted::Txn(r) => c.try_txn(r).await.map(Answer::Txn),
        Wanted::Compact(r) => c.try_compaction(r.revision, r.physical).await.map(Answer::Compact),
        Wanted::Grant(r) => c.try_grant(r.id, r.ttl).await.map(Answer::Grant),
        Wanted::Revoke(r) => c.try_revoke(r.id).await.map(Answer::Revoke),
        Wanted::KeepAlive(r) => keep_alive(c, r).await.map(Answer::KeepAlive),
        Wanted::TimeToLive(r) => {
            limited(c.lease.lease_time_to_live(r)).await.map(Answer::TimeToLive)
        }
        Wanted::Leases => {
            limited(c.lease.lease_leases(pb::LeaseLeasesRequest {})).await.map(Answer::Leases)
        }
        Wanted::HashKv(r) => c.try_hash_kv(r.revision).await.map(Answer::HashKv),
    };
    result.unwrap_or_else(|status| Answer::Error(status.code(), status.message().to_owned()))
}

async fn keep_alive(
    c: &mut Clients,
    request: pb::LeaseKeepAliveRequest,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let requests = futures_util::stream::iter([request]);
    let mut answers = limited(c.lease.lease_keep_alive(requests)).await?;
    answers.message().await?.ok_or_else(|| Status::unknown("the stream ended without an answer"))
}
