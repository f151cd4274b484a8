//! Changes of the membership (MB rules): checked by the leader against what it sees, appended
//! under the condition that nothing has changed meanwhile. A new voter is listed as one at once, but
//! raft counts its vote only when it has caught up.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_membership::{Change, ChangeRequest, MemberRecord, Policy, Refused, View, member_id};
use etcdrs_platform::Clock as _;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_raft_glue::{ChangeError, Membership};
use etcdrs_types::MemberId;
use tonic::Status;

use crate::api::leader::Wish;
use crate::api::wire::Header;
use crate::api::{Api, status};
use crate::grpc::Payload;

/// Pause before a change that lost a race is tried again.
const RACE_PAUSE: Duration = Duration::from_millis(10);

/// A new voter may be this many entries behind when it gets its vote.
const ADMIT_LAG_MAX: u64 = 1_000;

/// Why a change did not happen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeFailure {
    /// A rule forbids it.
    Refused(Refused),
    /// Another member leads.
    NotLeader,
    /// It took too long.
    TimedOut,
    /// The leadership was lost on the way: it may have happened.
    Lost,
    /// The server stops.
    Stopped,
}

impl ChangeFailure {
    /// What a client is told; nothing if another member should be asked.
    pub(crate) fn status(&self) -> Option<Status> {
        Some(match self {
            Self::Refused(refused) => status::member_refused(*refused),
            Self::NotLeader => return None,
            Self::TimedOut => status::timeout(),
            Self::Lost => status::leader_changed(),
            Self::Stopped => status::stopped(),
        })
    }
}

impl Api {
    pub(crate) async fn member_add(
        &self,
        request: pb::MemberAddRequest,
    ) -> Result<Payload, Status> {
        let mut peer_urls = status::checked_peer_urls(&request.peer_urls)?;
        peer_urls.sort();
        // Salted with the time: whoever was removed may come back, but never under its old id.
        let id = member_id(&peer_urls, "", Some(self.clock.wall_unix_ms() / 1000));
        let record = MemberRecord {
            id,
            peer_urls,
            is_learner: request.is_learner,
            ..MemberRecord::default()
        };
        self.change(Change::Add(record)).await?;
        let members = self.members();
        let added = members.iter().find(|member| member.id == id.0).cloned();
        Ok(Payload::message(&pb::MemberAddResponse {
            header: Some(self.member_header()),
            member: added,
            members,
        }))
    }

    pub(crate) async fn member_remove(
        &self,
        request: &pb::MemberRemoveRequest,
    ) -> Result<Payload, Status> {
        self.change(Change::Remove(MemberId(request.id))).await?;
        let (header, members) = (Some(self.member_header()), self.members());
        Ok(Payload::message(&pb::MemberRemoveResponse { header, members }))
    }

    pub(crate) async fn member_update(
        &self,
        request: pb::MemberUpdateRequest,
    ) -> Result<Payload, Status> {
        let mut peer_urls = request.peer_urls;
        peer_urls.sort();
        self.change(Change::Update { id: MemberId(request.id), peer_urls }).await?;
        let (header, members) = (Some(self.member_header()), self.members());
        Ok(Payload::message(&pb::MemberUpdateResponse { header, members }))
    }

    pub(crate) async fn member_promote(
        &self,
        request: &pb::MemberPromoteRequest,
    ) -> Result<Payload, Status> {
        self.change(Change::Promote(MemberId(request.id))).await?;
        let (header, members) = (Some(self.member_header()), self.members());
        Ok(Payload::message(&pb::MemberPromoteResponse { header, members }))
    }

    /// Has the leader make a change, and waits until it is applied here.
    async fn change(&self, change: Change) -> Result<(), Status> {
        let removes_this = matches!(change, Change::Remove(id) if id == self.raft.member());
        let request = ChangeRequest { request_id: 0, change }.encode();
        self.ask_leader(Wish::Change(request)).await?;
        if removes_this {
            // There may be nobody left who tells this member how far the others are.
            return Ok(());
        }
        self.barrier().await
    }

    /// Makes a change, if this member leads.
    pub(crate) async fn change_here(&self, change: Change) -> Result<(), ChangeFailure> {
        let trying = async {
            loop {
                match self.try_change(&change).await {
                    Err(ChangeError::Raced) => tokio::time::sleep(RACE_PAUSE).await,
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(refused)) => return Err(ChangeFailure::Refused(refused)),
                    Err(ChangeError::NotLeader) => return Err(ChangeFailure::NotLeader),
                    Err(ChangeError::OutcomeUnknown) => return Err(ChangeFailure::Lost),
                    Err(ChangeError::Stopped) => return Err(ChangeFailure::Stopped),
                    Err(ChangeError::Refused(error)) => {
                        tracing::warn!(error, ?change, "raft refused a membership change");
                        return Err(ChangeFailure::Refused(Refused::Unhealthy));
                    }
                }
            }
        };
        let limit = self.settings.request_timeout;
        tokio::time::timeout(limit, trying).await.unwrap_or(Err(ChangeFailure::TimedOut))
    }

    async fn try_change(&self, change: &Change) -> Result<Result<(), Refused>, ChangeError> {
        if !self.raft.status().is_leader {
            return Err(ChangeError::NotLeader);
        }
        let membership = self.raft.membership();
        // The rules look at the records, which have to be those of this membership.
        if !self.raft.wait_applied(membership.at.1).await {
            return Err(ChangeError::Stopped);
        }
        if let Err(refused) = self.check_change(change).await {
            return Ok(Err(refused));
        }
        let request = ChangeRequest { request_id: 0, change: change.clone() }.encode();
        self.append_change(&membership, change, request).await?;
        Ok(Ok(()))
    }

    async fn check_change(&self, change: &Change) -> Result<(), Refused> {
        let progress = self.raft.progress().await;
        let matched: BTreeMap<MemberId, u64> =
            progress.iter().map(|progress| (progress.member, progress.matched.0)).collect();
        let connected_ms = self.connected_ms();
        let cluster = self.state.cluster.read();
        let view = View {
            cluster: &cluster,
            local: self.raft.member(),
            connected_ms: &connected_ms,
            matched: &matched,
            policy: self.settings.reconfiguration,
        };
        view.check(change)
    }

    /// How long each peer's link has been up.
    fn connected_ms(&self) -> BTreeMap<MemberId, u64> {
        let now = self.now_ms();
        let peers = self.transport.get().map(|transport| transport.peers()).unwrap_or_default();
        let up = |since: etcdrs_platform::Tick| now.saturating_sub(since.0);
        peers.iter().filter_map(|peer| Some((peer.id, up(peer.active_since?)))).collect()
    }

    async fn append_change(
        &self,
        old: &Membership,
        change: &Change,
        request: Bytes,
    ) -> Result<(), ChangeError> {
        let mut new = old.clone();
        match change {
            // openraft asks a new voter for its consent to its own addition, but it may not have
            // been started yet. It gets its vote from `admit_voters`, when it has caught up.
            Change::Add(member) => {
                new.learners.insert(member.id);
            }
            Change::Promote(id) => {
                new.learners.remove(id);
                new.voters.insert(*id);
            }
            Change::Remove(id) => {
                new.learners.remove(id);
                new.voters.remove(id);
            }
            // The record changes, who votes does not.
            Change::Update { .. } => {}
        }
        self.raft.change_members(new, old, request).await.map(drop)
    }

    /// Gives one member that was added as a voter its vote, once it has what the others have.
    pub(crate) async fn admit_voter(&self) {
        let membership = self.raft.membership();
        if !self.raft.status().is_leader || membership.learners.is_empty() {
            return;
        }
        let waiting: Vec<MemberId> = {
            let cluster = self.state.cluster.read();
            let votes = |id: &&MemberId| cluster.member(**id).is_some_and(|m| !m.is_learner);
            membership.learners.iter().filter(votes).copied().collect()
        };
        let progress = self.raft.progress().await;
        let matched = |id: MemberId| {
            let found = progress.iter().find(|progress| progress.member == id)?;
            // An answer of long ago says nothing of who can vote now.
            let answers = found.answered_ago.is_some_and(|ago| ago < self.settings.election);
            answers.then_some(found.matched.0)
        };
        let Some(own) = matched(self.raft.member()) else { return };
        let ready =
            |id: &MemberId| matched(*id).is_some_and(|at| own - at.min(own) <= ADMIT_LAG_MAX);
        let Some(id) = waiting.into_iter().find(ready) else { return };
        let change = Change::Promote(id);
        let request = ChangeRequest { request_id: 0, change: change.clone() }.encode();
        match self.append_change(&membership, &change, request).await {
            Ok(()) => tracing::info!(member_id = %id, "a new member votes"),
            // It is looked at again soon, by whoever leads then.
            Err(error) => tracing::warn!(member_id = %id, %error, "could not admit a new voter"),
        }
    }

    /// The members as clients are told.
    pub(crate) fn members(&self) -> Vec<pb::Member> {
        let cluster = self.state.cluster.read();
        let told = cluster.members().map(|member| pb::Member {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        told.collect()
    }

    /// Member answers carry no revision (MB-10).
    pub(crate) fn member_header(&self) -> pb::ResponseHeader {
        Header { revision: 0, ..self.current_header() }.message()
    }

    /// Whether this member does not vote.
    pub(crate) fn is_learner(&self) -> bool {
        let cluster = self.state.cluster.read();
        cluster.member(self.raft.member()).is_some_and(|member| member.is_learner)
    }
}

/// The flags that decide about changes.
pub(crate) fn policy(config: &crate::config::Config) -> Policy {
    Policy { strict: config.strict_reconfig_check, learners_max: config.learners_max }
}
