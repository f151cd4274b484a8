//! The Maintenance service.

use std::time::Duration;

use bytes::Bytes;
use etcdrs_apply::{Alarm, AlarmKind, Answer};
use etcdrs_backend::Export;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_raft_glue::TransferError;
use etcdrs_types::{MemberId, limits};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::{Api, Request, kv, status};
use crate::grpc::{self, Body, Payload, Sender};

/// Pause before a transfer to a member that lagged is tried again.
const TRANSFER_PAUSE: Duration = Duration::from_millis(10);
/// Blobs that wait for the client to read.
const QUEUE: usize = 4;
/// Bytes read from the database at once while a snapshot is streamed.
const EXPORT_BYTES: usize = 16 * limits::SNAPSHOT_CHUNK_BYTES;

fn alarm_name(kind: AlarmKind) -> String {
    match kind {
        AlarmKind::NoSpace => "NOSPACE".into(),
        AlarmKind::Corrupt => "CORRUPT".into(),
        AlarmKind::Other(number) => number.to_string(),
    }
}

impl Api {
    pub(crate) async fn alarm(&self, raw: &Bytes) -> Result<Payload, Status> {
        let request: pb::AlarmRequest = decode(raw)?;
        if pb::alarm_request::AlarmAction::try_from(request.action).is_err() {
            let text = format!("etcdserver: unknown alarm action {}", request.action);
            return Err(Status::invalid_argument(text));
        }
        match self.propose(Request::Alarm, raw).await? {
            (revision, Answer::Alarms(alarms)) => {
                let wire = |alarm: Alarm| pb::AlarmMember {
                    member_id: alarm.member.0,
                    alarm: alarm.kind.to_wire(),
                };
                Ok(Payload::message(&pb::AlarmResponse {
                    header: Some(self.header(revision).message()),
                    alarms: alarms.into_iter().map(wire).collect(),
                }))
            }
            (_, other) => Err(kv::mismatch(&other)),
        }
    }

    pub(crate) async fn status(&self) -> Result<Payload, Status> {
        let raft = self.raft.status();
        let backend = self.state.backend().clone();
        let sizes = tokio::task::spawn_blocking(move || backend.sizes());
        let sizes = sizes
            .await
            .map_err(status::task_ended)?
            .map_err(|error| Status::unknown(format!("etcdserver: read sizes: {error}")))?;
        let mut errors = Vec::new();
        if raft.leader.is_none() {
            errors.push(status::no_leader().message().to_owned());
        }
        for alarm in self.state.alarms() {
            errors.push(format!("memberID:{} alarm:{} ", alarm.member.0, alarm_name(alarm.kind)));
        }
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let storage_version = self.state.cluster.read().version().unwrap_or_default().to_owned();
        Ok(Payload::message(&pb::StatusResponse {
            header: Some(self.current_header().message()),
            version: self.settings.version.into(),
            db_size: signed(sizes.on_disk),
            leader: raft.leader.map_or(0, |leader| leader.0),
            raft_index: raft.committed.0,
            raft_term: raft.term.0,
            raft_applied_index: raft.applied.0,
            errors,
            db_size_in_use: signed(sizes.in_use.min(sizes.on_disk)),
            is_learner: self.is_learner(),
            storage_version,
            db_size_quota: self.settings.quota_bytes,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    /// Compacts the database in the background of everything else: nobody is blocked (MT-02).
    pub(crate) async fn defragment(&self) -> Result<Payload, Status> {
        let backend = self.state.backend().clone();
        let compact = tokio::task::spawn_blocking(move || backend.compact());
        compact.await.map_err(status::task_ended)?;
        tracing::info!("finished defragmenting");
        Ok(Payload::message(&pb::DefragmentResponse::default()))
    }

    pub(crate) async fn hash(&self) -> Result<Payload, Status> {
        let reader = self.state.reader.clone();
        let hash = tokio::task::spawn_blocking(move || reader.hash());
        let hash =
            hash.await.map_err(status::task_ended)?.map_err(|error| status::range_error(&error))?;
        let header = Some(self.current_header().message());
        Ok(Payload::message(&pb::HashResponse { header, hash }))
    }

    pub(crate) async fn hash_kv(&self, request: &pb::HashKvRequest) -> Result<Payload, Status> {
        let (reader, revision) = (self.state.reader.clone(), request.revision);
        let hashed = tokio::task::spawn_blocking(move || reader.hash_kv(revision));
        let hashed = hashed
            .await
            .map_err(status::task_ended)?
            .map_err(|error| status::range_error(&error))?;
        Ok(Payload::message(&pb::HashKvResponse {
            header: Some(self.header(hashed.current_revision).message()),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.revision,
        }))
    }

    /// MT-06 for a member without peers: the leader stays, and nobody else can take over.
    pub(crate) async fn move_leader(
        &self,
        request: &pb::MoveLeaderRequest,
    ) -> Result<Payload, Status> {
        if !self.raft.status().is_leader {
            return Err(status::not_leader());
        }
        let target = MemberId(request.target_id);
        // Its own successor is one already (MT-06).
        if target != self.raft.member() {
            self.hand_over(target, self.settings.request_timeout).await?;
        }
        // Without a header, as etcd's (MT-06).
        Ok(Payload::message(&pb::MoveLeaderResponse::default()))
    }

    /// Hands the leadership to `target`, as soon as it keeps up.
    pub(crate) async fn hand_over(&self, target: MemberId, limit: Duration) -> Result<(), Status> {
        let (from, to) = (self.raft.member(), target);
        tracing::info!(current_leader_member_id = %from, transferee_member_id = %to, "leadership transfer starting");
        let trying = async {
            loop {
                match self.raft.transfer_leader(target, limit).await {
                    Ok(()) => return Ok(()),
                    Err(TransferError::TargetLags) => tokio::time::sleep(TRANSFER_PAUSE).await,
                    Err(TransferError::BadTarget) => return Err(status::bad_leader_transferee()),
                    Err(TransferError::NotLeader) => return Err(status::not_leader()),
                    Err(TransferError::TimedOut) => return Err(status::transfer_timeout()),
                    Err(TransferError::Stopped) => return Err(status::stopped()),
                }
            }
        };
        tokio::time::timeout(limit, trying).await.unwrap_or(Err(status::transfer_timeout()))?;
        tracing::info!(former_leader_member_id = %from, new_leader_member_id = %to, "leadership transfer finished");
        Ok(())
    }

    pub(crate) async fn snapshot(&self, method: usize) -> Result<Body, Status> {
        let backend = self.state.backend().clone();
        // Learning the size walks the database once.
        let export = tokio::task::spawn_blocking(move || Export::new(backend.snapshot()));
        let export = export.await.map_err(status::task_ended)?.map_err(|e| unreadable(&e))?;
        let version = self.state.cluster.read().version().unwrap_or_default().to_owned();
        let (sender, receiver) = grpc::channel(QUEUE);
        let api = self.clone();
        tokio::spawn(async move {
            let result = send_image(export, &version, &sender).await;
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            api.metrics.rpcs.handled(method, code);
            if let Err(status) = result {
                sender.fail(status).await;
            }
        });
        Ok(Body::stream(receiver))
    }
}

fn unreadable(error: &etcdrs_backend::Error) -> Status {
    tracing::error!(%error, "could not read the database");
    Status::unknown(format!("etcdserver: read database: {error}"))
}

/// MT-05: blobs of 32 KiB, then the SHA-256 of them all in a message of its own.
async fn send_image(mut export: Export, version: &str, sender: &Sender) -> Result<(), Status> {
    let mut digest = Sha256::new();
    let mut remaining = export.total_bytes();
    let mut more = true;
    let mut rest = Vec::new();
    while more {
        let part = tokio::task::spawn_blocking(move || {
            let mut bytes = rest;
            let result = export.next(EXPORT_BYTES, &mut bytes);
            (export, bytes, result)
        });
        let (back, bytes, result) = part.await.map_err(status::task_ended)?;
        export = back;
        more = result.map_err(|error| unreadable(&error))?;
        let mut bytes = Bytes::from(bytes);
        while bytes.len() >= limits::SNAPSHOT_CHUNK_BYTES || (!more && !bytes.is_empty()) {
            let blob = bytes.split_to(bytes.len().min(limits::SNAPSHOT_CHUNK_BYTES));
            digest.update(&blob);
            remaining = remaining.saturating_sub(blob.len() as u64);
            if !send_blob(sender, blob, remaining, version).await {
                return Ok(());
            }
        }
        rest = bytes.to_vec();
    }
    let digest = Bytes::copy_from_slice(&digest.finalize());
    send_blob(sender, digest, 0, version).await;
    Ok(())
}

async fn send_blob(sender: &Sender, blob: Bytes, remaining_bytes: u64, version: &str) -> bool {
    let message =
        pb::SnapshotResponse { header: None, remaining_bytes, blob, version: version.to_owned() };
    sender.send(grpc::frame(&message)).await
}
