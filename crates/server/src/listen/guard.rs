//! Handshakes of a listener: who is let in, and what is logged of those who are not.

use std::fmt::Debug;
use std::net::SocketAddr;

use etcdrs_tls::{Accepted, Rejected, ServerTls};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::listen::pending::{Pending, TOTAL_MAX};

/// Whose listener it is, in the words of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Client,
    Peer,
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }
}

/// Does the handshakes of one side. Clones share the bound on those under way.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    tls: ServerTls,
    side: Side,
    pending: Pending,
}

impl Guard {
    /// Most handshakes under way at once.
    pub(crate) const PENDING_MAX: usize = TOTAL_MAX;

    pub(crate) fn new(tls: ServerTls, side: Side) -> Self {
        Self { tls, side, pending: Pending::default() }
    }

    /// Shakes hands; logs, once, why a client is not let in. The connection is closed then.
    pub(crate) async fn admit<IO>(
        &self,
        stream: IO,
        remote: Option<SocketAddr>,
    ) -> Option<Accepted<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut place = self.pending.enter(remote);
        let shaken = tokio::select! {
            shaken = self.tls.accept(stream, remote.map(|remote| remote.ip())) => shaken,
            () = place.lost() => {
                let why = "too many handshakes at once, and this one had waited longest";
                self.log(remote, "", why, None);
                return None;
            }
        };
        match shaken {
            Ok(accepted) => Some(accepted),
            Err(rejected) if rejected.is_hang_up() => {
                let remote_addr = shown(remote);
                tracing::debug!(remote_addr, "a client hung up before it had shaken hands");
                None
            }
            Err(rejected) => {
                let Rejected { error, server_name, ip_addresses, dns_names } = &*rejected;
                let names: Option<(&dyn Debug, &dyn Debug)> = (!ip_addresses.is_empty()
                    || !dns_names.is_empty())
                .then_some((ip_addresses, dns_names));
                self.log(remote, server_name, &error.to_string(), names);
                None
            }
        }
    }

    fn log(
        &self,
        remote: Option<SocketAddr>,
        server_name: &str,
        error: &str,
        certificate: Option<(&dyn Debug, &dyn Debug)>,
    ) {
        tracing::warn!(
            remote_addr = shown(remote),
            server_name,
            ip_addresses = certificate.map(|(addresses, _)| tracing::field::debug(addresses)),
            dns_names = certificate.map(|(_, names)| tracing::field::debug(names)),
            error,
            "rejected connection on {} endpoint",
            self.side.name()
        );
    }
}

/// What Go calls the other end of a unix socket.
fn shown(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(|| "@".to_owned(), |remote| remote.to_string())
}
