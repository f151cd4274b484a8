//! When a failed unary call is tried again (CL-03, storage-and-raft.md §5.2). Pure.

use std::time::Duration;

use tonic::{Code, Status};

use crate::error;

/// Attempts of one call that reached a server.
pub(crate) const ATTEMPTS_MAX: u32 = 100;
/// Wait after each round over a quorum of endpoints, before jitter.
pub(crate) const BACKOFF: Duration = Duration::from_millis(25);

/// A call of etcd's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rpc {
    /// `/package.Service/Method`.
    pub(crate) path: &'static str,
    /// Whether doing it twice is as good as doing it once.
    pub(crate) repeatable: bool,
}

impl Rpc {
    /// A call that may be sent again when the server was unavailable.
    pub(crate) const fn repeatable(path: &'static str) -> Self {
        Self { path, repeatable: true }
    }

    /// A call whose second execution would differ from the first.
    pub(crate) const fn once(path: &'static str) -> Self {
        Self { path, repeatable: false }
    }
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The request never left: any call may go to the next endpoint, until its time is up.
    NeverSent,
    /// Try again, counted against [`ATTEMPTS_MAX`].
    Again,
    /// A new token is needed first.
    Reauthenticate,
    /// Hand the error to the caller.
    GiveUp,
}

/// Judges the failure of one attempt.
pub(crate) fn judge(rpc: Rpc, status: &Status, endpoints: usize) -> Verdict {
    if never_sent(status) {
        return Verdict::NeverSent;
    }
    let text = status.message();
    if text == error::INVALID_TOKEN_TEXT || text == error::OLD_AUTH_TEXT {
        return Verdict::Reauthenticate;
    }
    if text == error::LEARNER_TEXT && endpoints > 1 {
        return Verdict::Again;
    }
    // A read is repeated on anything that means "ask another time or another server"; a broken
    // connection shows up as an error made on this side.
    let unavailable = status.code() == Code::Unavailable || broken_connection(status);
    if rpc.repeatable && unavailable { Verdict::Again } else { Verdict::GiveUp }
}

/// Whether the failure is that of opening a connection, so that nothing can have been sent.
pub(crate) fn never_sent(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<tonic::ConnectError>())
}

/// Why no connection could be opened, if that is the failure.
pub(crate) fn dial_failure(status: &Status) -> Option<String> {
    let last = never_sent(status).then(|| causes(status).last())?;
    last.map(ToString::to_string)
}

/// The causes of a failure, the deepest last.
fn causes(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(status), |cause| cause.source())
}

/// Whether the error was made on this side because the connection broke: only such errors have a
/// cause attached, a server's answer never does.
pub(crate) fn broken_connection(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// How long to wait before attempt `attempt` (counted from 1): nothing within a round over a
/// quorum of the endpoints, then the back-off with up to 10 % off or on, by `noise`.
pub(crate) fn wait_before(attempt: u32, endpoints: usize, noise: u32) -> Duration {
    let quorum = u32::try_from(endpoints / 2 + 1).unwrap_or(u32::MAX);
    if !attempt.is_multiple_of(quorum) {
        return Duration::ZERO;
    }
    BACKOFF * (90 + noise % 21) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Rpc = Rpc::repeatable("/etcdserverpb.KV/Range");
    const WRITE: Rpc = Rpc::once("/etcdserverpb.KV/Put");

    fn connect_refused() -> Status {
        let error = tonic::ConnectError("refused".into());
        Status::from_error(Box::new(error))
    }

    #[test]
    fn cl_03_reads_are_repeated_on_unavailable_and_writes_are_not() {
        let status = Status::unavailable("etcdserver: leader changed");
        assert_eq!(judge(READ, &status, 3), Verdict::Again);
        assert_eq!(judge(WRITE, &status, 3), Verdict::GiveUp);
        let status = Status::not_found("etcdserver: requested lease not found");
        assert_eq!(judge(READ, &status, 3), Verdict::GiveUp);
    }

    #[test]
    fn cl_03_what_was_never_sent_is_repeated_even_when_it_writes() {
        assert_eq!(judge(READ, &connect_refused(), 1), Verdict::NeverSent);
        assert_eq!(judge(WRITE, &connect_refused(), 1), Verdict::NeverSent);
    }

    #[test]
    fn a_failed_connection_says_why() {
        assert_eq!(dial_failure(&connect_refused()).as_deref(), Some("refused"));
        assert_eq!(dial_failure(&Status::unavailable("etcdserver: leader changed")), None);
    }

    #[test]
    fn cl_03_a_learner_sends_us_to_another_endpoint() {
        let status = Status::failed_precondition(error::LEARNER_TEXT);
        assert_eq!(judge(WRITE, &status, 2), Verdict::Again);
        assert_eq!(judge(WRITE, &status, 1), Verdict::GiveUp);
    }

    #[test]
    fn waits_only_after_a_round_over_a_quorum() {
        assert_eq!(wait_before(1, 3, 0), Duration::ZERO);
        assert_eq!(wait_before(2, 3, 0), Duration::from_micros(22_500));
        assert_eq!(wait_before(2, 3, 20), Duration::from_micros(27_500));
        assert_eq!(wait_before(1, 1, 10), BACKOFF);
    }
}
