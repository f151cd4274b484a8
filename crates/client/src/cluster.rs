//! Members of the cluster.

use crate::channel::Client;
use crate::error::Error;
use crate::pb;
use crate::retry::Rpc;

const LIST: Rpc = Rpc::repeatable("/etcdserverpb.Cluster/MemberList");
const ADD: Rpc = Rpc::once("/etcdserverpb.Cluster/MemberAdd");
const REMOVE: Rpc = Rpc::once("/etcdserverpb.Cluster/MemberRemove");
const UPDATE: Rpc = Rpc::once("/etcdserverpb.Cluster/MemberUpdate");
const PROMOTE: Rpc = Rpc::once("/etcdserverpb.Cluster/MemberPromote");

impl Client {
    /// Every member. A list that is not `linearizable` comes from the asked member's own state,
    /// also without a quorum.
    ///
    /// # Errors
    /// As any call.
    pub async fn member_list(&self, linearizable: bool) -> Result<pb::MemberListResponse, Error> {
        self.call(LIST, pb::MemberListRequest { linearizable }).await
    }

    /// Adds a member that will be reached at these peer URLs.
    ///
    /// # Errors
    /// Kinds `FailedPrecondition` and `InvalidArgument`, else as any call.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<pb::MemberAddResponse, Error> {
        self.call(ADD, pb::MemberAddRequest { peer_urls, is_learner }).await
    }

    /// Removes a member for good.
    ///
    /// # Errors
    /// Kind `NotFound`, else as any call.
    pub async fn member_remove(&self, id: u64) -> Result<pb::MemberRemoveResponse, Error> {
        self.call(REMOVE, pb::MemberRemoveRequest { id }).await
    }

    /// Changes where a member's peers reach it.
    ///
    /// # Errors
    /// Kind `NotFound`, else as any call.
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        self.call(UPDATE, pb::MemberUpdateRequest { id, peer_urls }).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// Kinds `NotFound` and `FailedPrecondition`, else as any call.
    pub async fn member_promote(&self, id: u64) -> Result<pb::MemberPromoteResponse, Error> {
        self.call(PROMOTE, pb::MemberPromoteRequest { id }).await
    }
}
