//! The Cluster service: what one member can tell.

use std::time::Duration;

use etcdrs_proto::{etcdserverpb as pb, membershippb};
use prost::Message as _;
use tonic::Status;

use crate::api::{Api, Request};
use crate::grpc::Payload;

/// How long a member that was removed goes on, as etcd does.
const LEAVE_PAUSE: Duration = Duration::from_secs(1);

impl Api {
    pub(crate) async fn member_list(
        &self,
        request: &pb::MemberListRequest,
    ) -> Result<Payload, Status> {
        if request.linearizable {
            self.barrier().await?;
        }
        let (header, members) = (Some(self.member_header()), self.members());
        Ok(Payload::message(&pb::MemberListResponse { header, members }))
    }

    /// Tells the cluster this member's name and client URLs.
    pub(crate) async fn publish(&self, name: &str, client_urls: &[String]) -> Result<(), Status> {
        let request = membershippb::ClusterMemberAttrSetRequest {
            member_id: self.raft.member().0,
            member_attributes: Some(membershippb::Attributes {
                name: name.to_owned(),
                client_urls: client_urls.to_vec(),
            }),
        };
        self.propose(Request::ClusterMemberAttrSet, &request.encode_to_vec()).await.map(drop)
    }

    /// Proposes a cluster version.
    pub(crate) async fn set_cluster_version(&self, version: &str) -> Result<(), Status> {
        let request = membershippb::ClusterVersionSetRequest { ver: version.to_owned() };
        self.propose(Request::ClusterVersionSet, &request.encode_to_vec()).await.map(drop)
    }

    /// Keeps what every call asks about this member in reach.
    pub(crate) async fn follow_membership(self) {
        let mut memberships = self.raft.watch_membership();
        loop {
            let at = memberships.borrow_and_update().at.1;
            if !self.raft.wait_applied(at).await {
                return;
            }
            self.leadership.set_learns(self.is_learner());
            if memberships.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns a moment after the log has removed this member.
    pub(crate) async fn removed_by_log(&self) {
        let mut memberships = self.raft.watch_membership();
        loop {
            let at = memberships.borrow_and_update().at.1;
            let applied = self.raft.wait_applied(at).await;
            if applied && self.state.cluster.read().is_removed(self.raft.member()) {
                // Whoever asked for it still gets an answer.
                tokio::time::sleep(LEAVE_PAUSE).await;
                return;
            }
            if memberships.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Hands the leadership to the voter that was reached for the longest time, if this member
    /// leads and there is one (storage-and-raft.md §4.13).
    pub(crate) async fn hand_over_before_stop(&self) {
        let membership = self.raft.membership();
        if membership.voters.len() <= 1 {
            tracing::info!("skipped leadership transfer for single voting member cluster");
            return;
        }
        if !self.raft.status().is_leader {
            tracing::info!("skipped leadership transfer; local server is not leader");
            return;
        }
        let Some(transport) = self.transport.get() else { return };
        let mut reached: Vec<_> = transport
            .peers()
            .iter()
            .filter(|peer| membership.voters.contains(&peer.id))
            .filter_map(|peer| Some((peer.active_since?, peer.id)))
            .collect();
        reached.sort_unstable();
        let Some((_, target)) = reached.first() else {
            tracing::warn!("leadership transfer failed: no other voter can be reached");
            return;
        };
        if let Err(status) = self.hand_over(*target, self.settings.request_timeout).await {
            tracing::warn!(error = status.message(), "leadership transfer failed");
        }
    }
}
