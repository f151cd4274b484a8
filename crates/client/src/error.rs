//! The one error of the client: a coarse stable kind and etcd's text.

use tonic::{Code, Status};

use crate::pb;

/// What went wrong, coarsely. Stable: callers match on this, never on the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong: an empty key, too many operations, too large.
    InvalidArgument,
    /// The revision asked for has been compacted.
    Compacted,
    /// The revision asked for does not exist yet.
    FutureRevision,
    /// There is no such lease.
    LeaseNotFound,
    /// There is no such member, service or other thing.
    NotFound,
    /// The state of the cluster does not allow it.
    FailedPrecondition,
    /// The database is at its quota.
    NoSpace,
    /// The server has too much to do or the message is too large for it.
    ResourceExhausted,
    /// The token is missing or no longer valid.
    Unauthenticated,
    /// The user may not do this, or the password is wrong.
    PermissionDenied,
    /// No server answered, or the one that did has no leader. The outcome of a write is unknown.
    Unavailable,
    /// The call's time was up. The outcome of a write is unknown.
    DeadlineExceeded,
    /// The call was cancelled.
    Canceled,
    /// The server does not know this call.
    Unimplemented,
    /// A member's data is corrupt, or what was received is.
    Corrupt,
    /// The configuration is wrong: no endpoints, a malformed one, TLS files.
    Config,
    /// Anything else.
    Other,
}

/// Why a call, a watch or a keep-alive failed.
///
/// Displayed as etcd's tools print it: the bare text for errors that etcd knows, gRPC's
/// `rpc error: code = .. desc = ..` for others.
#[derive(Clone, Debug)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    text: String,
    code: Option<Code>,
    canceled: Option<pb::WatchResponse>,
    dial: Option<String>,
}

/// Texts that etcd's own client maps back to typed errors (v3-api.md §4, column T); these are
/// displayed bare.
const KNOWN_TEXTS: &[&str] = &[
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: value is provided",
    "etcdserver: lease is provided",
    "etcdserver: too many operations in txn request",
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: mvcc: database space exceeded",
    "etcdserver: requested lease not found",
    "etcdserver: lease already exists",
    "etcdserver: too large lease TTL",
    "etcdserver: member ID already exist",
    "etcdserver: Peer URLs already exists",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: given member URLs are invalid",
    "etcdserver: member not found",
    "etcdserver: can only promote a learner member",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: too many learner members in cluster",
    "etcdserver: cluster ID mismatch",
    "etcdserver: request is too large",
    "etcdserver: too many requests",
    "etcdserver: root user does not exist",
    "etcdserver: root user does not have root role",
    "etcdserver: user name already exists",
    "etcdserver: user name is empty",
    "etcdserver: user name not found",
    "etcdserver: role name already exists",
    "etcdserver: role name not found",
    "etcdserver: role name is empty",
    "etcdserver: authentication failed, invalid user ID or password",
    "etcdserver: permission denied",
    "etcdserver: role is not granted to the user",
    "etcdserver: permission is not granted to the role",
    "etcdserver: authentication is not enabled",
    "etcdserver: invalid auth token",
    "etcdserver: invalid auth management",
    "etcdserver: revision of auth store is old",
    "etcdserver: no leader",
    "etcdserver: not leader",
    "etcdserver: leader changed",
    "etcdserver: not capable",
    "etcdserver: server stopped",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: unhealthy cluster",
    "etcdserver: corrupt cluster",
    "etcdserver: rpc not supported for learner",
    "etcdserver: bad leader transferee",
    "etcdserver: wrong downgrade target version format",
    "etcdserver: invalid downgrade target version",
    "etcdserver: cluster version not found during downgrade",
    "etcdserver: cluster has a downgrade job in progress",
    "etcdserver: no inflight downgrade job",
];

pub(crate) const COMPACTED_TEXT: &str = "etcdserver: mvcc: required revision has been compacted";
pub(crate) const LEARNER_TEXT: &str = "etcdserver: rpc not supported for learner";
pub(crate) const NO_LEADER_TEXT: &str = "etcdserver: no leader";
pub(crate) const INVALID_TOKEN_TEXT: &str = "etcdserver: invalid auth token";
pub(crate) const OLD_AUTH_TEXT: &str = "etcdserver: revision of auth store is old";
pub(crate) const AUTH_OFF_TEXT: &str = "etcdserver: authentication is not enabled";

/// Whether etcd's own client knows this text, which makes it an answer of etcd itself.
pub(crate) fn is_known_text(text: &str) -> bool {
    KNOWN_TEXTS.contains(&text)
}

impl Error {
    fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, text: text.into(), code: None, canceled: None, dial: None }))
    }

    pub(crate) fn config(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, text)
    }

    pub(crate) fn corrupt(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, text)
    }

    /// The time is up; `dial` is what kept us from connecting until then, if something did.
    pub(crate) fn deadline(dial: Option<String>) -> Self {
        let mut error = Self::new(ErrorKind::DeadlineExceeded, "context deadline exceeded");
        error.0.dial = dial;
        error
    }

    pub(crate) fn lease_not_found() -> Self {
        Self::new(ErrorKind::LeaseNotFound, "etcdserver: requested lease not found")
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Canceled, "context canceled")
    }

    /// A watcher that its server ended. An answer with a compact revision means that history
    /// is gone, whatever reason it carries (WA-06).
    pub(crate) fn watch_canceled(answer: pb::WatchResponse) -> Self {
        let (kind, text) = if answer.compact_revision != 0 || answer.cancel_reason == COMPACTED_TEXT
        {
            (ErrorKind::Compacted, COMPACTED_TEXT.to_owned())
        } else if answer.cancel_reason.is_empty() {
            (ErrorKind::Canceled, "etcdserver: mvcc: watcher is canceled by the server".to_owned())
        } else {
            let kind = match answer.cancel_reason.as_str() {
                reason if reason.contains("code = PermissionDenied") => ErrorKind::PermissionDenied,
                reason if reason.contains("code = Unauthenticated") => ErrorKind::Unauthenticated,
                reason if reason.contains("duplicate watch ID") || reason.contains("is empty") => {
                    ErrorKind::InvalidArgument
                }
                _ => ErrorKind::Canceled,
            };
            (kind, answer.cancel_reason.clone())
        };
        Self(Box::new(Inner { kind, text, code: None, canceled: Some(answer), dial: None }))
    }

    /// The coarse kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message alone, without the gRPC code.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The gRPC code, where the error came as one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.0.code
    }

    /// For [`ErrorKind::DeadlineExceeded`]: why the last attempt to connect failed, if time went by
    /// with such attempts. Not part of the displayed text, as with etcd's tools.
    #[must_use]
    pub fn connect_failure(&self) -> Option<&str> {
        self.0.dial.as_deref()
    }

    /// The server's last answer to a watcher that it cancelled.
    #[must_use]
    pub fn canceled_watch(&self) -> Option<&pb::WatchResponse> {
        self.0.canceled.as_ref()
    }

    /// For [`ErrorKind::Compacted`] of a watcher: the revision from which history still exists.
    #[must_use]
    pub fn compact_revision(&self) -> Option<i64> {
        self.canceled_watch().map(|answer| answer.compact_revision).filter(|&revision| revision > 0)
    }
}

impl From<&Status> for Error {
    fn from(status: &Status) -> Self {
        let kind = match (status.code(), status.message()) {
            (_, COMPACTED_TEXT) => ErrorKind::Compacted,
            (_, "etcdserver: mvcc: required revision is a future revision") => {
                ErrorKind::FutureRevision
            }
            (_, "etcdserver: requested lease not found") => ErrorKind::LeaseNotFound,
            (_, "etcdserver: mvcc: database space exceeded") => ErrorKind::NoSpace,
            (_, "etcdserver: authentication failed, invalid user ID or password") => {
                ErrorKind::PermissionDenied
            }
            (_, "etcdserver: too many requests") => ErrorKind::ResourceExhausted,
            (Code::InvalidArgument | Code::OutOfRange, _) => ErrorKind::InvalidArgument,
            (Code::NotFound, _) => ErrorKind::NotFound,
            (Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted, _) => {
                ErrorKind::FailedPrecondition
            }
            (Code::ResourceExhausted, _) => ErrorKind::ResourceExhausted,
            (Code::Unauthenticated, _) => ErrorKind::Unauthenticated,
            (Code::PermissionDenied, _) => ErrorKind::PermissionDenied,
            (Code::Unavailable, _) => ErrorKind::Unavailable,
            (Code::DeadlineExceeded, _) => ErrorKind::DeadlineExceeded,
            (Code::Cancelled, _) => ErrorKind::Canceled,
            (Code::Unimplemented, _) => ErrorKind::Unimplemented,
            (Code::DataLoss, _) => ErrorKind::Corrupt,
            _ => ErrorKind::Other,
        };
        let code = Some(status.code());
        Self(Box::new(Inner {
            kind,
            text: status.message().to_owned(),
            code,
            canceled: None,
            dial: None,
        }))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

/// The name that gRPC for Go prints, which scripts have come to read.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.code {
            Some(code) if !is_known_text(&self.0.text) => {
                write!(f, "rpc error: code = {} desc = {}", code_name(code), self.0.text)
            }
            _ => f.write_str(&self.0.text),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn er_texts_of_etcd_are_bare_and_others_carry_the_code() {
        let error = Error::from(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(error.to_string(), "etcdserver: requested lease not found");
        assert_eq!(error.kind(), ErrorKind::LeaseNotFound);
        let error = Error::from(Status::unknown("lost watcher waiting for delete"));
        assert_eq!(
            error.to_string(),
            "rpc error: code = Unknown desc = lost watcher waiting for delete"
        );
    }

    #[test]
    fn wa_06_a_compacted_watch_says_from_where_history_exists() {
        let answer =
            pb::WatchResponse { canceled: true, compact_revision: 7, ..Default::default() };
        let error = Error::watch_canceled(answer);
        assert_eq!(error.kind(), ErrorKind::Compacted);
        assert_eq!(error.compact_revision(), Some(7));
    }
}
