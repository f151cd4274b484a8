//! From a path to the call that answers it.

use bytes::Bytes;
use etcdrs_proto::{METHODS, etcdserverpb as pb};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::{Code, Status};

use crate::api::{Api, health, kv, status};
use crate::grpc::{self, Body, Payload, Requests};

/// The one stream that a learner serves.
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

impl Api {
    /// Answers a gRPC request.
    pub(crate) async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let Some(method) = METHODS.iter().position(|method| method.path == path) else {
            return grpc::refuse(&unknown(path));
        };
        self.metrics.rpcs.started(method);
        if let Err(status) = self.admit(request.headers()) {
            self.metrics.rpcs.handled(method, status.code());
            return grpc::refuse(&status);
        }
        let streams = METHODS[method].client_streaming || METHODS[method].server_streaming;
        if streams && self.learns() && METHODS[method].path != SNAPSHOT {
            let status = status::not_for_learner();
            self.metrics.rpcs.handled(method, status.code());
            return grpc::refuse(&status);
        }
        if streams {
            return Box::pin(self.call_stream(method, request)).await;
        }
        let result = self.call_unary(METHODS[method].path, request).await;
        let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.metrics.rpcs.handled(method, code);
        grpc::respond(result)
    }

    /// What every call is checked for before its service sees it (v3-api.md §0).
    fn admit(&self, headers: &HeaderMap) -> Result<(), Status> {
        if let Some(version) = headers.get("client-api-version")
            && std::str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(status::invalid_client_api_version());
        }
        if needs_leader(headers) && self.raft.status().leader.is_none() {
            return Err(status::no_leader());
        }
        Ok(())
    }

    async fn call_unary(
        &self,
        path: &'static str,
        request: Request<Incoming>,
    ) -> Result<Payload, Status> {
        let limit = self.settings.message_bytes_max();
        let raw = grpc::read_unary(request.into_body(), limit).await?;
        self.metrics.received.inc_by(raw.len() as u64);
        if self.learns() {
            return self.call_learner(path, raw).await;
        }
        match path {
            "/etcdserverpb.KV/Range" => kv::range(self, &decode(&raw)?).await,
            "/etcdserverpb.KV/Put" => kv::put(self, raw).await,
            "/etcdserverpb.KV/DeleteRange" => kv::delete_range(self, raw).await,
            "/etcdserverpb.KV/Txn" => kv::txn(self, raw).await,
            // The rest lives in a future of its own, so that the frequent ones stay small.
            _ => Box::pin(self.call_rarely(path, raw)).await,
        }
    }

    /// What a learner answers: reads that may be stale, and its status (v3-api.md §0).
    async fn call_learner(&self, path: &'static str, raw: Bytes) -> Result<Payload, Status> {
        match path {
            "/etcdserverpb.KV/Range" => {
                let request: pb::RangeRequest = decode(&raw)?;
                if request.serializable {
                    return Box::pin(kv::range(self, &request)).await;
                }
                Err(status::not_for_learner())
            }
            "/etcdserverpb.Maintenance/Status" => Box::pin(self.status()).await,
            _ => Err(status::not_for_learner()),
        }
    }

    async fn call_rarely(&self, path: &'static str, raw: Bytes) -> Result<Payload, Status> {
        match path {
            "/etcdserverpb.KV/Compact" => kv::compact(self, raw).await,
            "/etcdserverpb.Lease/LeaseGrant" => self.lease_grant(decode(&raw)?).await,
            "/etcdserverpb.Lease/LeaseRevoke" => self.lease_revoke(&raw).await,
            "/etcdserverpb.Lease/LeaseTimeToLive" => self.lease_time_to_live(&decode(&raw)?).await,
            "/etcdserverpb.Lease/LeaseLeases" => Ok(self.lease_leases()),
            "/etcdserverpb.Cluster/MemberList" => self.member_list(&decode(&raw)?).await,
            "/etcdserverpb.Cluster/MemberAdd" => self.member_add(decode(&raw)?).await,
            "/etcdserverpb.Cluster/MemberRemove" => self.member_remove(&decode(&raw)?).await,
            "/etcdserverpb.Cluster/MemberUpdate" => self.member_update(decode(&raw)?).await,
            "/etcdserverpb.Cluster/MemberPromote" => self.member_promote(&decode(&raw)?).await,
            "/etcdserverpb.Maintenance/Alarm" => self.alarm(&raw).await,
            "/etcdserverpb.Maintenance/Status" => self.status().await,
            "/etcdserverpb.Maintenance/Defragment" => self.defragment().await,
            "/etcdserverpb.Maintenance/Hash" => self.hash().await,
            "/etcdserverpb.Maintenance/HashKV" => self.hash_kv(&decode(&raw)?).await,
            "/etcdserverpb.Maintenance/MoveLeader" => self.move_leader(&decode(&raw)?).await,
            "/grpc.health.v1.Health/Check" => health::check(&decode(&raw)?),
            "/grpc.health.v1.Health/List" => Ok(health::list()),
            _ => Err(unbuilt(path)),
        }
    }

    async fn call_stream(&self, method: usize, request: Request<Incoming>) -> Response<Body> {
        let path = METHODS[method].path;
        let needs_leader = needs_leader(request.headers());
        let requests = Requests::new(request.into_body(), self.settings.message_bytes_max());
        let result = match path {
            "/etcdserverpb.KV/RangeStream" => self.range_stream(method, requests).await,
            "/etcdserverpb.Watch/Watch" => Ok(self.watch(method, requests)),
            "/etcdserverpb.Lease/LeaseKeepAlive" => Ok(self.lease_keep_alive(method, requests)),
            "/etcdserverpb.Maintenance/Snapshot" => self.snapshot(method).await,
            "/grpc.health.v1.Health/Watch" => self.health_watch(method, requests).await,
            _ => Err(unbuilt(path)),
        };
        match result {
            Ok(body) if needs_leader => {
                grpc::respond_stream(body.cut_by(self.clone().leader_lost()))
            }
            Ok(body) => grpc::respond_stream(body),
            Err(status) => {
                self.metrics.rpcs.handled(method, status.code());
                grpc::refuse(&status)
            }
        }
    }
}

fn needs_leader(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

/// Decodes a request.
pub(crate) fn decode<M: Message + Default>(raw: &Bytes) -> Result<M, Status> {
    M::decode(raw.clone()).map_err(|error| status::undecodable(&error))
}

/// A path that names no method we know, in the words of Go's gRPC.
fn unknown(path: &str) -> Status {
    let mut parts = path.trim_start_matches('/').rsplitn(2, '/');
    let (method, service) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if METHODS.iter().any(|known| known.service == service) {
        Status::unimplemented(format!("unknown method {method} for service {service}"))
    } else {
        Status::unimplemented(format!("unknown service {service}"))
    }
}

/// A method of etcd's that is registered but not built yet.
fn unbuilt(path: &str) -> Status {
    Status::unimplemented(format!("etcd-rs: {} is not available in this version", &path[1..]))
}
