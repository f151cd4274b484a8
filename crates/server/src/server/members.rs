//! Whether the list of members agrees with raft, looked at once the log is replayed.

use etcdrs_apply::{OpenError, Position, Shared};
use etcdrs_backend::Backend;
use etcdrs_membership::Cluster;
use etcdrs_raft_glue::Membership;
use etcdrs_types::MemberId;

use crate::server::StartError;

/// Compares the list of members with raft's membership, as the database has both.
///
/// # Errors
///
/// [`StartError::Members`] names what differs and how to mend it.
pub(super) async fn compare(state: &Shared, own: MemberId) -> Result<(), StartError> {
    let backend = state.backend();
    tokio::task::spawn_blocking(move || compare_rows(&backend, own)).await?
}

fn compare_rows(backend: &Backend, own: MemberId) -> Result<(), StartError> {
    loop {
        let before = Position::of(backend)?.membership;
        let cluster = Cluster::open(backend).map_err(OpenError::Members)?;
        // A member that is alone commits what its log ends with at this moment.
        if Position::of(backend)?.membership != before {
            continue;
        }
        let raft = Membership::decode(before.as_deref().unwrap_or_default())?;
        return Ok(cluster.compare(own, &raft.voters, &raft.learners)?);
    }
}
