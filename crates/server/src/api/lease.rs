//! The Lease service, and the leader's work on leases.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use etcdrs_apply::Answer;
use etcdrs_lease::{CheckpointState, RenewError};
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::{OsRandom, Random as _};
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_rafthttp_transport::LeaseError;
use etcdrs_types::{LeaseId, limits};
use prost::Message as _;
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::leader::Wish;
use crate::api::{Api, Request, encode, kv, status};
use crate::grpc::{self, Body, Payload, Requests, Sender};

/// How often expired leases are looked for (LE-09).
const EXPIRY_SCAN: Duration = Duration::from_millis(500);
/// Leases revoked by one entry.
const EXPIRE_BATCH: usize = 1000;
/// How often a keep-alive that waits for an entry about its lease looks again.
const RENEW_POLL: Duration = Duration::from_millis(20);
/// How long a leader may take to apply what is committed, before it says that it takes too long.
const APPLY_LIMIT: Duration = Duration::from_secs(1);
/// Answers that wait for the client to read.
const QUEUE: usize = 16;

impl Api {
    pub(crate) async fn lease_grant(
        &self,
        mut request: pb::LeaseGrantRequest,
    ) -> Result<Payload, Status> {
        if request.ttl > limits::LEASE_TTL_SECONDS_MAX {
            return Err(status::lease_ttl_too_large());
        }
        while request.id == 0 {
            request.id = (OsRandom.next_u64() >> 1).cast_signed();
        }
        match self.propose(Request::LeaseGrant, &request.encode_to_vec()).await? {
            (revision, Answer::LeaseGrant { id, ttl_seconds }) => {
                self.state.lessor.lock().arm(self.now_ms());
                Ok(Payload::message(&pb::LeaseGrantResponse {
                    header: Some(self.header(revision).message()),
                    id: id.0,
                    ttl: ttl_seconds,
                    error: String::new(),
                }))
            }
            (_, other) => Err(kv::mismatch(&other)),
        }
    }

    pub(crate) async fn lease_revoke(&self, raw: &Bytes) -> Result<Payload, Status> {
        let _: pb::LeaseRevokeRequest = decode(raw)?;
        let (revision, _) = self.propose(Request::LeaseRevoke, raw).await?;
        Ok(encode::header_only(&self.header(revision)))
    }

    pub(crate) async fn lease_time_to_live(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<Payload, Status> {
        // Everything granted before the call is seen (LE-06).
        self.barrier().await?;
        let answer = match self.known_time_to_live(request) {
            Ok(answer) => answer,
            Err(_) => {
                let body = self.ask_leader(Wish::TimeToLive(*request)).await?;
                pb::LeaseTimeToLiveResponse::decode(body)
                    .map_err(|error| Status::internal(error.to_string()))?
            }
        };
        let header = Some(self.current_header().message());
        Ok(Payload::message(&pb::LeaseTimeToLiveResponse { header, ..answer }))
    }

    /// Time to live of a lease by this member's clocks, if it leads, for a member that may have
    /// applied more than this one. Without a header.
    pub(crate) async fn time_to_live_here(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, LeaseError> {
        if !self.catches_up().await {
            return Err(LeaseError::Timeout);
        }
        self.known_time_to_live(request)
    }

    /// Whether everything is applied here in time that was committed when this was called. A leader
    /// waits for its own disk, and the others do not (LE-06).
    async fn catches_up(&self) -> bool {
        let barrier = tokio::time::timeout(APPLY_LIMIT, self.raft.read_barrier());
        matches!(barrier.await, Ok(Ok(())))
    }

    fn known_time_to_live(
        &self,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, LeaseError> {
        let id = LeaseId(request.id);
        let mut lessor = self.state.lessor.lock();
        if !lessor.is_primary() {
            return Err(LeaseError::NotPrimary);
        }
        let mut response = pb::LeaseTimeToLiveResponse { id: id.0, ttl: -1, ..Default::default() };
        if let Some(live) = lessor.time_to_live(id, self.now_ms()) {
            response.ttl = live.remaining_seconds;
            response.granted_ttl = live.granted_seconds;
            if request.keys {
                response.keys = lessor.keys(id).unwrap_or_default();
            }
        }
        Ok(response)
    }

    pub(crate) fn lease_leases(&self) -> Payload {
        let leases = self.state.lessor.lock().list(self.now_ms());
        Payload::message(&pb::LeaseLeasesResponse {
            header: Some(self.current_header().message()),
            leases: leases.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect(),
        })
    }

    pub(crate) fn lease_keep_alive(&self, method: usize, requests: Requests) -> Body {
        let (sender, receiver) = grpc::channel(QUEUE);
        let api = self.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = api.keep_alive_loop(requests, &sender) => result,
                () = api.stopping() => Err(status::stopped()),
                () = sender.closed() => Err(Status::new(Code::Cancelled, "context canceled")),
            };
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            api.metrics.rpcs.handled(method, code);
            if let Err(status) = result {
                sender.fail(status).await;
            }
        });
        Body::stream(receiver)
    }

    async fn keep_alive_loop(&self, mut requests: Requests, sender: &Sender) -> Result<(), Status> {
        while let Some(raw) = requests.next().await? {
            let request: pb::LeaseKeepAliveRequest = decode(&raw)?;
            // The header's revision is taken before the renewal (RV-08).
            let header = self.current_header();
            let ttl = self.renew(LeaseId(request.id)).await?;
            let response =
                pb::LeaseKeepAliveResponse { header: Some(header.message()), id: request.id, ttl };
            if !sender.send(grpc::frame(&response)).await {
                break;
            }
        }
        Ok(())
    }

    /// Renews a lease by this member's clocks, if it leads: its TTL in seconds (LE-04).
    pub(crate) async fn renew_here(&self, id: LeaseId) -> Result<i64, LeaseError> {
        let deadline = self.now_ms() + self.settings.request_timeout.as_millis() as u64;
        let mut caught_up = false;
        loop {
            // Without its quorum this member may have a successor that has let the lease expire.
            let status = self.raft.status();
            if !status.is_leader {
                return Err(LeaseError::NotPrimary);
            }
            let result = {
                let mut lessor = self.state.lessor.lock();
                let now = self.now_ms();
                lessor.arm(now);
                lessor.renew(id, now).map(|ttl| (ttl, lessor.checkpoint_state(id)))
            };
            match result {
                Ok((ttl, CheckpointState::None)) => return Ok(ttl),
                // The next leader must not go by what was left before.
                Ok((_, CheckpointState::Recorded)) => {
                    let forgotten = self.propose_checkpoints(&[(id, 0)], status.term.0).await;
                    if forgotten.is_ok() && self.now_ms() < deadline {
                        continue;
                    }
                }
                Err(RenewError::NotFound) if strikes("planted-renewed-ghost", 0) => return Ok(2),
                // The member that granted it may have applied that earlier than this one.
                Err(RenewError::NotFound) if !caught_up => {
                    caught_up = self.catches_up().await;
                    if caught_up {
                        continue;
                    }
                }
                Err(RenewError::NotFound) => return Err(LeaseError::NotFound),
                Err(RenewError::NotPrimary) => return Err(LeaseError::NotPrimary),
                // Its revocation, or the record of what was left of it, is not applied yet.
                Err(RenewError::Expiring) | Ok((_, CheckpointState::UnderWay)) => {}
            }
            if self.now_ms() >= deadline {
                return Err(LeaseError::Timeout);
            }
            tokio::time::sleep(RENEW_POLL).await;
        }
    }

    /// Runs the leader's clocks: starts them when this member leads and has applied an entry of
    /// its term, stops them when it does not lead, and proposes the end of what has expired.
    pub(crate) async fn run_lessor(self, election: Duration) {
        let mut scans = tokio::time::interval(EXPIRY_SCAN);
        scans.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut statuses = self.raft.watch_status();
        let mut leading_term = None;
        let mut leader = None;
        loop {
            tokio::select! {
                _ = scans.tick() => {}
                changed = statuses.changed() => if changed.is_err() { return },
            }
            let now = self.raft.status();
            if now.leader.is_some() && now.leader != leader {
                leader = now.leader;
                self.metrics.leader_changes.inc();
                self.leadership.changed(self.now_ms());
            }
            if !now.is_leader {
                if leading_term.take().is_some() {
                    self.state.lessor.lock().demote();
                }
                continue;
            }
            if leading_term != Some(now.term) {
                // Behind the barrier the first entry of the term is applied (LE-10).
                if self.raft.read_barrier().await.is_err() {
                    return;
                }
                let extension = election.as_millis() as u64;
                self.state.lessor.lock().promote(self.now_ms(), extension);
                leading_term = Some(now.term);
            }
            self.expire(now.term.0).await;
            self.record_remaining(now.term.0).await;
        }
    }

    /// Records what is left of leases, as far as that is due (LE-11).
    async fn record_remaining(&self, term: u64) {
        let due = self.state.lessor.lock().due_checkpoints(self.now_ms());
        if due.is_empty() {
            return;
        }
        let result = self.propose_checkpoints(&due, term).await;
        let mut lessor = self.state.lessor.lock();
        match result {
            Ok(()) => lessor.checkpoints_written(&due),
            Err(status) => {
                let (error, count) = (status.message(), due.len());
                tracing::warn!(error, count, "could not record what is left of leases");
                lessor.checkpoints_in_doubt(&due);
            }
        }
    }

    async fn propose_checkpoints(
        &self,
        points: &[(LeaseId, i64)],
        term: u64,
    ) -> Result<(), Status> {
        let point =
            |&(id, remaining_ttl): &(LeaseId, i64)| pb::LeaseCheckpoint { id: id.0, remaining_ttl };
        let checkpoints = points.iter().map(point).collect();
        let request = pb::LeaseCheckpointRequest { checkpoints, term };
        self.propose(Request::LeaseCheckpoint, &request.encode_to_vec()).await.map(drop)
    }

    async fn expire(&self, term: u64) {
        loop {
            let mut expired = Vec::new();
            {
                let mut lessor = self.state.lessor.lock();
                let mut now = self.now_ms();
                lessor.arm(now);
                if strikes("planted-early-expiry", 0) {
                    now += 1500;
                }
                lessor.expired(now, EXPIRE_BATCH, &mut expired);
            }
            if expired.is_empty() {
                return;
            }
            let count = expired.len();
            let request =
                pb::LeaseExpireRequest { ids: expired.into_iter().map(|id| id.0).collect(), term };
            let mut body = BytesMut::with_capacity(request.encoded_len());
            request.encode_raw(&mut body);
            match self.propose(Request::LeaseExpire, &body).await {
                Ok(_) => {
                    self.metrics.leases_expired.inc_by(count as u64);
                }
                // The lessor offers them again after its retry interval.
                Err(status) => {
                    tracing::warn!(error = status.message(), count, "could not revoke leases");
                    return;
                }
            }
            if count < EXPIRE_BATCH {
                return;
            }
        }
    }
}
