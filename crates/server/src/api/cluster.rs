//! The Cluster service: what one member can tell.

use etcdrs_proto::{etcdserverpb as pb, membershippb};
use prost::Message as _;
use tonic::Status;

use crate::api::wire::Header;
use crate::api::{Api, Request};
use crate::grpc::Payload;

impl Api {
    pub(crate) async fn member_list(
        &self,
        request: &pb::MemberListRequest,
    ) -> Result<Payload, Status> {
        if request.linearizable {
            self.barrier().await?;
        }
        let cluster = self.state.cluster.read();
        let members = cluster.members().map(|member| pb::Member {
            id: member.id.0,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        // Member answers carry no revision (MB-10).
        let header = Header { revision: 0, ..self.current_header() };
        Ok(Payload::message(&pb::MemberListResponse {
            header: Some(header.message()),
            members: members.collect(),
        }))
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

    /// Sets the cluster version if none was agreed yet.
    pub(crate) async fn ensure_cluster_version(&self, version: &str) -> Result<(), Status> {
        if self.state.cluster.read().version() == Some(version) {
            return Ok(());
        }
        let request = membershippb::ClusterVersionSetRequest { ver: version.to_owned() };
        self.propose(Request::ClusterVersionSet, &request.encode_to_vec()).await.map(drop)
    }
}
