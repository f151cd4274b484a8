//! The one place that knows which code and text etcd answers with (v3-api.md §4).

use etcdrs_apply::Refusal;
use etcdrs_membership::Refused;
use etcdrs_mvcc::RangeError;
use tonic::{Code, Status};

use crate::config::Url;

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name() -> Status {
                Status::new(Code::$code, $text)
            }
        )*
    };
}

statuses! {
    empty_key = InvalidArgument, "etcdserver: key is not provided";
    key_not_found = InvalidArgument, "etcdserver: key not found";
    value_provided = InvalidArgument, "etcdserver: value is provided";
    lease_provided = InvalidArgument, "etcdserver: lease is provided";
    too_many_ops = InvalidArgument, "etcdserver: too many operations in txn request";
    duplicate_key = InvalidArgument, "etcdserver: duplicate key given in txn request";
    invalid_client_api_version = InvalidArgument, "etcdserver: invalid client api version";
    invalid_sort_option = InvalidArgument, "etcdserver: invalid sort option";
    request_too_large = InvalidArgument, "etcdserver: request is too large";
    compacted = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    future_revision = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    no_space = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    lease_not_found = NotFound, "etcdserver: requested lease not found";
    lease_exists = FailedPrecondition, "etcdserver: lease already exists";
    lease_ttl_too_large = OutOfRange, "etcdserver: too large lease TTL";
    watch_canceled = Cancelled, "etcdserver: watch canceled";
    corrupt = DataLoss, "etcdserver: corrupt cluster";
    no_leader = Unavailable, "etcdserver: no leader";
    leader_changed = Unavailable, "etcdserver: leader changed";
    stopped = Unavailable, "etcdserver: server stopped";
    timeout = Unavailable, "etcdserver: request timed out";
    timeout_leader_failed =
        Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    timeout_connection_lost =
        Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    transfer_timeout = Unknown, "etcdserver: request timed out, leader transfer took too long";
    not_for_learner = FailedPrecondition, "etcdserver: rpc not supported for learner";
    bad_member_urls = InvalidArgument, "etcdserver: given member URLs are invalid";
    bad_leader_transferee = FailedPrecondition, "etcdserver: bad leader transferee";
    not_leader = FailedPrecondition, "etcdserver: not leader";
    /// Declared with another code upstream, but this is what the wire carries (ER-1).
    too_many_requests = Unknown, "etcdserver: too many requests";
    unknown_service = NotFound, "unknown service";
    custom_sort = Unimplemented, "RangeStream does not support custom sort orders";
    revision_filters = Unimplemented, "RangeStream does not support revision filters";
}

/// The status of a refused membership change, whose text the rule has.
pub(crate) fn member_refused(refused: Refused) -> Status {
    let code = match refused {
        Refused::MemberNotFound => Code::NotFound,
        Refused::Unhealthy => Code::Unavailable,
        // Declared with another code upstream, but this is what the wire carries (ER-1).
        Refused::NotEnoughStarted => Code::Unknown,
        Refused::MemberExists
        | Refused::PeerUrlExists
        | Refused::TooManyLearners
        | Refused::NotLearner
        | Refused::LearnerNotReady => Code::FailedPrecondition,
    };
    Status::new(code, refused.to_string())
}

/// The peer URLs of a member to be added, by the rules of flags (MB-02).
pub(crate) fn checked_peer_urls(urls: &[String]) -> Result<Vec<String>, Status> {
    let urls = Url::parse_some(urls).map_err(|_| bad_member_urls())?;
    Ok(urls.iter().map(Url::to_string).collect())
}

/// The status of a refused entry.
pub(crate) fn refusal(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::LeaseNotFound => lease_not_found(),
        Refusal::LeaseExists => lease_exists(),
        Refusal::LeaseTtlTooLarge => lease_ttl_too_large(),
        Refusal::KeyNotFound => key_not_found(),
        Refusal::Compacted => compacted(),
        Refusal::FutureRevision => future_revision(),
        Refusal::NoSpace => no_space(),
        Refusal::Corrupt => corrupt(),
        Refusal::StaleTerm => leader_changed(),
        Refusal::Unsupported(_) => Status::unimplemented(refusal.to_string()),
    }
}

/// The status of a read that could not be answered.
pub(crate) fn range_error(error: &RangeError) -> Status {
    match error {
        RangeError::Compacted => compacted(),
        RangeError::Future => future_revision(),
        RangeError::Backend(_) | RangeError::Corrupt(_) => {
            tracing::error!(%error, "could not read the store");
            Status::unknown(format!("etcdserver: read store: {error}"))
        }
    }
}

/// The status of a request that is no message of its kind, in the words of Go's gRPC.
pub(crate) fn undecodable(error: &prost::DecodeError) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: {error}"))
}

/// The status of an answer that no message can hold, in the words of Go's gRPC.
pub(crate) fn message_too_large(bytes: usize, bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: trying to send message larger than max ({bytes} vs. {bytes_max})"
    ))
}

/// The status of a task that ended before it answered: only a stop does that.
pub(crate) fn task_ended(_: tokio::task::JoinError) -> Status {
    stopped()
}
