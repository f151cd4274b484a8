//! Lease requests of the log.

use etcdrs_lease::{GrantError, Lessor};
use etcdrs_mvcc::WriteBatch;
use etcdrs_platform::failpoint::strikes;
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::{KeyRange, LeaseId, Term};

use crate::error::Refusal;
use crate::outcome::Answer;

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

pub(crate) fn checkpoint(
    batch: &mut WriteBatch<'_>,
    lessor: &mut Lessor,
    request: &pb::LeaseCheckpointRequest,
) -> Answer {
    for point in &request.checkpoints {
        lessor.checkpoint(batch.backend_batch(), LeaseId(point.id), point.remaining_ttl);
    }
    Answer::Empty
}
