//! How to reach a cluster.

use std::time::Duration;

use etcdrs_tls::ClientTls;

/// Largest request the client sends, bytes (CL-09).
pub(crate) const SEND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest answer the client accepts, bytes (CL-09).
pub(crate) const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// A user and its password.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password as typed.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What [`Client::connect`](crate::Client::connect) needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, `http://host:port`, `https://host:port`, `unix:///path` or `unixs:///path`, at
    /// least one.
    pub endpoints: Vec<String>,
    /// How to encrypt. Endpoints with `http` or `unix` are not encrypted all the same; those with
    /// `https` or `unixs` always are, without this by the system's CAs.
    pub tls: Option<ClientTls>,
    /// How long one attempt to open a connection may take.
    pub dial_timeout: Duration,
    /// How long a unary call may take over all its attempts; `None` waits for ever.
    pub call_timeout: Option<Duration>,
    /// How often a connection is probed by an HTTP/2 ping; `None` never does.
    pub keepalive_time: Option<Duration>,
    /// A connection that leaves a ping unanswered for so long is closed.
    pub keepalive_timeout: Duration,
    /// Whether every call and watch asks to be refused by a server that has no leader.
    pub require_leader: bool,
    /// Who we are; the token is fetched on connecting and renewed when it has gone stale.
    pub credentials: Option<Credentials>,
    /// Largest request, bytes.
    pub send_bytes_max: usize,
    /// Largest answer, bytes.
    pub receive_bytes_max: usize,
}

impl Config {
    /// The defaults for these endpoints: calls wait for ever, as in etcd's own client.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            dial_timeout: Duration::from_secs(2),
            call_timeout: None,
            keepalive_time: None,
            keepalive_timeout: Duration::from_secs(6),
            require_leader: false,
            credentials: None,
            send_bytes_max: SEND_BYTES_MAX,
            receive_bytes_max: RECEIVE_BYTES_MAX,
        }
    }
}
