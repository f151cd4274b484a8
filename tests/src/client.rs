//! Raw gRPC stubs of one connection with shortcuts that fail the test on an error.

use std::time::Duration;

use bytes::Bytes;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::pb;
use crate::pb::cluster_client::ClusterClient;
use crate::pb::kv_client::KvClient;
use crate::pb::lease_client::LeaseClient;
use crate::pb::maintenance_client::MaintenanceClient;
use crate::pb::watch_client::WatchClient;
use crate::request;
use crate::watch::WatchSession;

/// No call of a test may hang longer.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// One connection with all stubs on it; clones share the connection.
#[derive(Clone)]
pub struct Clients {
    /// The connection.
    pub channel: Channel,
    /// etcdserverpb.KV
    pub kv: KvClient<Channel>,
    /// etcdserverpb.Watch
    pub watch: WatchClient<Channel>,
    /// etcdserverpb.Lease
    pub lease: LeaseClient<Channel>,
    /// etcdserverpb.Cluster
    pub cluster: ClusterClient<Channel>,
    /// etcdserverpb.Maintenance
    pub maintenance: MaintenanceClient<Channel>,
}

impl Clients {
    /// Connects, or fails the test.
    pub async fn connect(endpoint: &str) -> Self {
        Self::try_connect(endpoint).await.unwrap()
    }

    /// Connects.
    pub async fn try_connect(endpoint: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?;
        let channel = endpoint.connect_timeout(Duration::from_secs(10)).connect().await?;
        Ok(Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            watch: WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone())
                .max_decoding_message_size(usize::MAX),
            channel,
        })
    }

    /// Range.
    pub async fn try_range(&mut self, r: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        limited(self.kv.range(r)).await
    }

    /// Range that must succeed.
    pub async fn range(&mut self, request: pb::RangeRequest) -> pb::RangeResponse {
        self.try_range(request).await.unwrap()
    }

    /// The newest KeyValue of a key.
    pub async fn get(&mut self, key: impl Into<Bytes>) -> Option<crate::mvccpb::KeyValue> {
        self.range(request::get(key)).await.kvs.pop()
    }

    /// Put.
    pub async fn try_put(&mut self, r: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        limited(self.kv.put(r)).await
    }

    /// Put that must succeed.
    pub async fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutResponse {
        self.try_put(request::put(key, value)).await.unwrap()
    }

    /// Put with a lease that must succeed.
    pub async fn put_with_lease(&mut self, key: &'static str, lease: i64) -> pb::PutResponse {
        self.try_put(pb::PutRequest { lease, ..request::put(key, "v") }).await.unwrap()
    }

    /// DeleteRange.
    pub async fn try_delete(
        &mut self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        limited(self.kv.delete_range(request)).await
    }

    /// DeleteRange that must succeed.
    pub async fn delete(&mut self, request: pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        self.try_delete(request).await.unwrap()
    }

    /// Txn.
    pub async fn try_txn(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        limited(self.kv.txn(request)).await
    }

    /// Txn that must succeed.
    pub async fn txn(&mut self, request: pb::TxnRequest) -> pb::TxnResponse {
        self.try_txn(request).await.unwrap()
    }

    /// Compact.
    pub async fn try_compact(&mut self, revision: i64) -> Result<pb::CompactionResponse, Status> {
        self.try_compaction(revision, false).await
    }

    /// Compact that must succeed and be done when it returns.
    pub async fn compact(&mut self, revision: i64) -> pb::CompactionResponse {
        self.try_compaction(revision, true).await.unwrap()
    }

    /// Compact with `physical`.
    pub async fn try_compaction(
        &mut self,
        revision: i64,
        physical: bool,
    ) -> Result<pb::CompactionResponse, Status> {
        limited(self.kv.compact(pb::CompactionRequest { revision, physical })).await
    }

    /// The current revision.
    pub async fn revision(&mut self) -> i64 {
        self.range(request::get("\0")).await.header.expect("a header").revision
    }

    /// LeaseGrant.
    pub async fn try_grant(&mut self, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
        limited(self.lease.lease_grant(pb::LeaseGrantRequest { ttl, id })).await
    }

    /// LeaseGrant that must succeed.
    pub async fn grant(&mut self, id: i64, ttl: i64) -> pb::LeaseGrantResponse {
        self.try_grant(id, ttl).await.unwrap()
    }

    /// LeaseRevoke.
    pub async fn try_revoke(&mut self, id: i64) -> Result<pb::LeaseRevokeResponse, Status> {
        limited(self.lease.lease_revoke(pb::LeaseRevokeRequest { id })).await
    }

    /// LeaseTimeToLive with keys, sorted.
    pub async fn time_to_live(&mut self, id: i64) -> pb::LeaseTimeToLiveResponse {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        let mut answer = limited(self.lease.lease_time_to_live(request)).await.unwrap();
        answer.keys.sort();
        answer
    }

    /// The ids of LeaseLeases, sorted.
    pub async fn leases(&mut self) -> Vec<i64> {
        let answer = limited(self.lease.lease_leases(pb::LeaseLeasesRequest {})).await.unwrap();
        let mut ids: Vec<i64> = answer.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        ids
    }

    /// One renewal on a stream of its own.
    pub async fn keep_alive(&mut self, id: i64) -> pb::LeaseKeepAliveResponse {
        let requests = futures_util::stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let mut answers = limited(self.lease.lease_keep_alive(requests)).await.unwrap();
        let first = tokio::time::timeout(CALL_LIMIT, answers.message()).await.unwrap();
        first.unwrap().expect("an answer")
    }

    /// Status.
    pub async fn status(&mut self) -> pb::StatusResponse {
        limited(self.maintenance.status(pb::StatusRequest {})).await.unwrap()
    }

    /// HashKV.
    pub async fn try_hash_kv(&mut self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        limited(self.maintenance.hash_kv(pb::HashKvRequest { revision })).await
    }

    /// MemberAdd.
    pub async fn try_member_add(
        &mut self,
        request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Status> {
        limited(self.cluster.member_add(request)).await
    }

    /// MemberRemove.
    pub async fn try_member_remove(&mut self, id: u64) -> Result<pb::MemberRemoveResponse, Status> {
        limited(self.cluster.member_remove(pb::MemberRemoveRequest { id })).await
    }

    /// MemberUpdate.
    pub async fn try_member_update(
        &mut self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<pb::MemberUpdateResponse, Status> {
        limited(self.cluster.member_update(pb::MemberUpdateRequest { id, peer_urls })).await
    }

    /// MemberPromote.
    pub async fn try_member_promote(
        &mut self,
        id: u64,
    ) -> Result<pb::MemberPromoteResponse, Status> {
        limited(self.cluster.member_promote(pb::MemberPromoteRequest { id })).await
    }

    /// MemberList.
    pub async fn try_member_list(
        &mut self,
        linearizable: bool,
    ) -> Result<pb::MemberListResponse, Status> {
        limited(self.cluster.member_list(pb::MemberListRequest { linearizable })).await
    }

    /// The members as this one knows them.
    pub async fn members(&mut self) -> Vec<pb::Member> {
        self.try_member_list(false).await.unwrap().members
    }

    /// A watch stream.
    pub fn watch(&self) -> WatchSession {
        WatchSession::open(self.watch.clone())
    }
}

/// Bounds a call, so that a server that never answers fails the test instead of hanging it.
pub async fn limited<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer within the test's limit")),
    }
}
