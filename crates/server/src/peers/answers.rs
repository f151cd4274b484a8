//! What this member answers on the peer port beside raft (operations.md §3.6).

use bytes::Bytes;
use etcdrs_membership::{Change, Refused};
use etcdrs_mvcc::RangeError;
use etcdrs_proto::{etcdserverpb as pb, leasepb};
use etcdrs_rafthttp_transport::{
    BoxFuture, HashError, HashKv, LeaseError, PeerApi, PeerMember, PromoteError, Versions,
};
use etcdrs_types::{LeaseId, MemberId};
use prost::Message as _;

use crate::api::{Api, ChangeFailure};

/// The answers of a running member.
pub(crate) struct PeerAnswers(pub(crate) Api);

fn members(api: &Api) -> Vec<PeerMember> {
    let cluster = api.state.cluster.read();
    let told = cluster.members().map(|member| PeerMember {
        id: member.id.0,
        peer_urls: member.peer_urls.clone(),
        is_learner: member.is_learner,
        name: member.name.clone(),
        client_urls: member.client_urls.clone(),
    });
    told.collect()
}

impl PeerApi for PeerAnswers {
    fn members(&self) -> Vec<PeerMember> {
        members(&self.0)
    }

    fn promote(
        &self,
        id: MemberId,
        _token: Option<String>,
    ) -> BoxFuture<'_, Result<Vec<PeerMember>, PromoteError>> {
        Box::pin(async move {
            match self.0.change_here(Change::Promote(id)).await {
                Ok(()) => Ok(members(&self.0)),
                Err(ChangeFailure::Refused(refused)) => Err(match refused {
                    Refused::MemberNotFound => PromoteError::NotFound,
                    Refused::NotLearner => PromoteError::NotLearner,
                    Refused::LearnerNotReady => PromoteError::NotReady,
                    Refused::NotEnoughStarted | Refused::Unhealthy => PromoteError::Unavailable,
                    _ => PromoteError::Internal,
                }),
                Err(ChangeFailure::TimedOut) => {
                    Err(PromoteError::Timeout("etcdserver: request timed out".into()))
                }
                Err(ChangeFailure::NotLeader | ChangeFailure::Stopped | ChangeFailure::Lost) => {
                    Err(PromoteError::Internal)
                }
            }
        })
    }

    fn hash_kv(&self, revision: i64) -> BoxFuture<'_, Result<HashKv, HashError>> {
        Box::pin(async move {
            let reader = self.0.state.reader.clone();
            let hashed = tokio::task::spawn_blocking(move || reader.hash_kv(revision)).await;
            let hashed = hashed.map_err(|error| HashError::Other(error.to_string()))?;
            let hashed = hashed.map_err(|error| match error {
                RangeError::Compacted => HashError::Compacted,
                RangeError::Future => HashError::Future,
                error => HashError::Other(error.to_string()),
            })?;
            Ok(HashKv {
                revision: hashed.current_revision,
                hash: hashed.hash,
                compact_revision: hashed.compact_revision,
                hash_revision: hashed.revision,
            })
        })
    }

    fn version(&self) -> Versions {
        let cluster = self.0.state.cluster.read().version().map(str::to_owned);
        Versions {
            server: self.0.settings.version.into(),
            cluster: cluster.clone().unwrap_or_else(|| "not_decided".into()),
            storage: cluster.unwrap_or_else(|| "unknown".into()),
        }
    }

    fn lease_renew(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>> {
        Box::pin(async move {
            let request =
                pb::LeaseKeepAliveRequest::decode(request).map_err(|_| LeaseError::Malformed)?;
            let ttl = self.0.renew_here(LeaseId(request.id)).await?;
            let answer = pb::LeaseKeepAliveResponse { header: None, id: request.id, ttl };
            Ok(answer.encode_to_vec().into())
        })
    }

    fn lease_internal(&self, request: Bytes) -> BoxFuture<'_, Result<Bytes, LeaseError>> {
        Box::pin(async move {
            let request = leasepb::LeaseInternalRequest::decode(request)
                .map_err(|_| LeaseError::Malformed)?;
            let asked = request.lease_time_to_live_request.ok_or(LeaseError::Malformed)?;
            let answer = self.0.time_to_live_here(&asked).await?;
            let answer =
                leasepb::LeaseInternalResponse { lease_time_to_live_response: Some(answer) };
            Ok(answer.encode_to_vec().into())
        })
    }

    fn downgrade_enabled(&self) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move {
            self.0.barrier().await.map_err(|status| status.message().to_owned())?;
            Ok(false)
        })
    }
}
