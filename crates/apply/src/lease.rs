//! Lease requests of the log.

use etcdrs_lease::{GrantError, Lessor};
use etcdrs_membership::Version;
use etcdrs_mvcc::WriteBatch;
use etcdrs_platform::failpoint::strikes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, LeaseId, Term};

use crate::error::Refusal;
use crate::outcome::Answer;

/// From this cluster version on, records of what is left of leases are stored whatever the flags
/// say (LE-11).
const PERSIST_FROM: Version = Version { major: 3, minor: 6, patch: 0 };

pub(crate) fn grant(
    batch: &mut WriteBatch<'_>,
    lessor: &mut Lessor,
    request: &pb::LeaseGrantRequest,
) -> Result<Answer, Refusal> {
    let id = LeaseId(request.id);
    match lessor.grant(batch.backend_batch(), id, request.ttl) {
        Ok(ttl_seconds) => Ok(Answer::LeaseGrant { id, ttl_seconds }),
        Err(GrantError::Exists) => Err(Refusal::LeaseExists),
        Err(GrantError::TooLarge) => Err(Refusal::LeaseTtlTooLarge),
    }
}

/// Drops a lease and deletes its keys, ascending, in one revision (LE-03).
pub(crate) fn revoke(
    batch: &mut WriteBatch<'_>,
    lessor: &mut Lessor,
    id: LeaseId,
) -> Result<Answer, Refusal> {
    let keys = lessor.revoke(batch.backend_batch(), id).map_err(|_| Refusal::LeaseNotFound)?;
    if strikes("planted-surviving-keys", 0) {
        return Ok(Answer::Empty);
    }
    let mut txn = batch.txn();
    for key in keys {
        txn.delete_range(&KeyRange::single(key));
    }
    txn.finish();
    Ok(Answer::Empty)
}

/// Drops expired leases, each in a revision of its own. The whole request is void when its
/// proposer had lost the lead before the entry was appended: a later leader may have renewed them.
pub(crate) fn expire(
    batch: &mut WriteBatch<'_>,
    lessor: &mut Lessor,
    request: &pb::LeaseExpireRequest,
    entry_term: Term,
) -> Result<Answer, Refusal> {
    if request.term != entry_term.0 {
        return Err(Refusal::StaleTerm);
    }
    for &id in &request.ids {
        // A lease that a client revoked meanwhile is gone already, which is what was wanted.
        let _ = revoke(batch, lessor, LeaseId(id));
    }
    Ok(Answer::Empty)
}

/// Records what is left of leases. Void like [`expire`]: a record of a leader that was deposed
/// meanwhile is older than what its successor has renewed.
pub(crate) fn checkpoint(
    batch: &mut WriteBatch<'_>,
    lessor: &mut Lessor,
    request: &pb::LeaseCheckpointRequest,
    entry_term: Term,
    cluster: Option<Version>,
) -> Result<Answer, Refusal> {
    if request.term != 0 && request.term != entry_term.0 {
        return Err(Refusal::StaleTerm);
    }
    let persist = lessor.persists_checkpoints() || cluster >= Some(PERSIST_FROM);
    for point in &request.checkpoints {
        // What is forgotten is forgotten in the row, too, however it came there.
        let stored = persist || point.remaining_ttl == 0;
        let rows = stored.then(|| batch.backend_batch());
        lessor.checkpoint(rows, LeaseId(point.id), point.remaining_ttl);
    }
    Ok(Answer::Empty)
}
