//! The gRPC services. One file a service; the dispatch by path is in [`dispatch`].

pub(crate) mod check;
mod cluster;
mod compaction;
pub(crate) mod dispatch;
pub(crate) mod encode;
mod health;
pub(crate) mod kv;
mod leader;
mod leadership;
mod lease;
mod long_range;
mod maintenance;
mod members;
mod pages;
mod range_stream;
mod space;
mod status;
mod txn_check;
mod watch;
pub(crate) mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use etcdrs_apply::{Answer, Outcome, Shared};
use etcdrs_membership::Policy;
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::{Clock, SystemClock};
use etcdrs_raft_glue::{Handle, ProposeError, ReadError};
use etcdrs_rafthttp_transport::Transport;
use etcdrs_types::limits;
use prometheus_client::metrics::gauge::Gauge;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tokio::sync::watch as watch_channel;
use tonic::Status;

pub(crate) use self::compaction::{Compactor, Pace};
pub(crate) use self::kv::compact;
pub(crate) use self::leadership::Leadership;
pub(crate) use self::members::{ChangeFailure, policy};
pub(crate) use self::space::{Keeper, Space};
use crate::api::wire::Header;
use crate::metrics::Metrics;

/// What the services need to know of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) request_bytes_max: usize,
    pub(crate) txn_ops_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) quota_bytes: i64,
    pub(crate) progress_interval: Duration,
    /// Rules of membership changes.
    pub(crate) reconfiguration: Policy,
    /// etcd's election time-out.
    pub(crate) election: Duration,
    /// Version told to clients, plain semver.
    pub(crate) version: &'static str,
}

impl Settings {
    /// Largest gRPC message taken, and the size from which watch answers are cut.
    pub(crate) fn message_bytes_max(&self) -> usize {
        self.request_bytes_max + limits::GRPC_OVERHEAD_BYTES
    }
}

/// All services, cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) raft: Handle,
    pub(crate) state: Shared,
    pub(crate) settings: Settings,
    pub(crate) clock: SystemClock,
    pub(crate) compactor: Compactor,
    pub(crate) metrics: Metrics,
    pub(crate) stop: watch_channel::Receiver<bool>,
    /// The way to the peers; set once it is there.
    pub(crate) transport: OnceLock<Transport>,
    pub(crate) leadership: Leadership,
    pub(crate) space: Space,
}

impl std::ops::Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Field numbers of `InternalRaftRequest` whose content is a client's request as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Put = 4,
    DeleteRange = 5,
    Txn = 6,
    Compaction = 7,
    LeaseGrant = 8,
    LeaseRevoke = 9,
    Alarm = 10,
    LeaseCheckpoint = 11,
    ClusterVersionSet = 1300,
    ClusterMemberAttrSet = 1301,
    LeaseExpire = 20001,
}

impl Api {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Returns when the server begins to stop.
    pub(crate) async fn stopping(&self) {
        // The sender is gone only when the server is: that is a stop too.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Milliseconds of the monotonic clock.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now().0
    }

    /// A header for an answer at `revision`.
    pub(crate) fn header(&self, revision: i64) -> Header {
        Header {
            cluster_id: self.raft.cluster().0,
            member_id: self.raft.member().0,
            revision,
            raft_term: self.raft.term().0,
        }
    }

    /// A header at the store's current revision.
    pub(crate) fn current_header(&self) -> Header {
        self.header(self.state.reader.current_revision())
    }

    /// Sends an encoded request through the log and waits for what it did.
    ///
    /// The bytes go into the log as they are: encoded once, by the client.
    pub(crate) async fn propose(
        &self,
        kind: Request,
        body: &[u8],
    ) -> Result<(i64, Answer), Status> {
        let proposal = internal_request(kind, body);
        if proposal.len() > self.settings.request_bytes_max {
            return Err(status::request_too_large());
        }
        self.check_space(kind, body).await?;
        if self.raft.apply_gap() > limits::APPLY_GAP_MAX {
            return Err(status::too_many_requests());
        }
        let begun_ms = self.now_ms();
        let pending = Pending::new(&self.metrics.proposals_pending);
        let waited =
            tokio::time::timeout(self.settings.request_timeout, self.raft.propose(proposal)).await;
        drop(pending);
        let failed = match waited {
            Ok(Ok(committed)) => {
                let Outcome { revision, result } = committed.outcome;
                if strikes("planted-done-refused", revision.unsigned_abs()) {
                    return Err(status::no_space());
                }
                return result
                    .map(|answer| (revision, answer))
                    .map_err(|refusal| status::refusal(&refusal));
            }
            Ok(Err(ProposeError::Overloaded)) => return Err(status::too_many_requests()),
            Ok(Err(ProposeError::Stopped)) => status::stopped(),
            Ok(Err(ProposeError::OutcomeUnknown)) => status::leader_changed(),
            Ok(Err(ProposeError::NotLeader)) => status::no_leader(),
            Err(_) => self.timed_out(begun_ms),
        };
        self.metrics.proposals_failed.inc();
        Err(failed)
    }

    /// Waits until a linearizable read may run.
    pub(crate) async fn barrier(&self) -> Result<(), Status> {
        let begun_ms = self.now_ms();
        let waited =
            tokio::time::timeout(self.settings.request_timeout, self.raft.read_barrier()).await;
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ReadError::Stopped)) => Err(status::stopped()),
            Ok(Err(ReadError::NoLeader | ReadError::LeaderChanged)) => {
                self.metrics.read_indexes_failed.inc();
                Err(status::leader_changed())
            }
            Err(_) => {
                self.metrics.read_indexes_failed.inc();
                Err(self.timed_out(begun_ms))
            }
        }
    }
}

/// Counts a proposal as pending while it lives: whoever asked may go away at any moment.
struct Pending(Gauge);

impl Pending {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Wraps a request's bytes as the one field of an `InternalRaftRequest`.
pub(crate) fn internal_request(kind: Request, body: &[u8]) -> Bytes {
    let field = kind as u32;
    let length = body.len() as u64;
    let mut bytes =
        BytesMut::with_capacity(key_len(field) + encoded_len_varint(length) + body.len());
    encode_key(field, WireType::LengthDelimited, &mut bytes);
    encode_varint(length, &mut bytes);
    bytes.put_slice(body);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use etcdrs_proto::etcdserverpb as pb;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_wrapped_request_is_an_internal_raft_request() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let wrapped = internal_request(Request::Put, &put.encode_to_vec());
        let want = pb::InternalRaftRequest { put: Some(put), ..Default::default() };
        assert_eq!(pb::InternalRaftRequest::decode(wrapped).expect("decodes"), want);
        let expire = pb::LeaseExpireRequest { ids: vec![7], term: 3 };
        let wrapped = internal_request(Request::LeaseExpire, &expire.encode_to_vec());
        let got = pb::InternalRaftRequest::decode(wrapped).expect("decodes");
        assert_eq!(got.lease_revokes.map(|boxed| boxed.ids.clone()), Some(vec![7]));
    }
}
