//! TLS between members: connections that are taken, and connections that are opened.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use etcdrs_rafthttp_transport::{Accept, BoxFuture, Connect, Io, PeerUrl, PlainTcp, Proxies};
use etcdrs_tls::{ClientTls, ClientTlsInfo};
use tokio::sync::OnceCell;

use crate::listen::{Dial, Guard};

/// Opens connections to peers, encrypted where their URL says so.
pub(crate) struct PeerDialer {
    tcp: PlainTcp,
    /// What `tls` is made of, if it is not there from the beginning.
    info: ClientTlsInfo,
    tls: OnceCell<ClientTls>,
}

impl PeerDialer {
    pub(crate) fn new(dial: Dial) -> Self {
        let (info, tls) = match dial {
            Dial::Ready(tls) => (ClientTlsInfo::default(), OnceCell::new_with(Some(tls))),
            Dial::Later(info) => (*info, OnceCell::new()),
        };
        // As for Go's HTTP client, which etcd's peers use (T06).
        let tcp = PlainTcp { proxies: Proxies::from_environment(), ..PlainTcp::default() };
        Self { tcp, info, tls }
    }

    async fn tls(&self) -> io::Result<&ClientTls> {
        let make = || async {
            let info = self.info.clone();
            // Reads the CAs of the system.
            let made = tokio::task::spawn_blocking(move || ClientTls::new(info)).await;
            made.map_err(io::Error::other)?.map_err(io::Error::other)
        };
        self.tls.get_or_try_init(make).await
    }
}

impl Connect for PeerDialer {
    fn connect<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let plain = self.tcp.dial(url).await?;
            if !url.is_tls() {
                return Ok(plain);
            }
            let tls = self.tls().await?;
            let secured = tls.connect(plain, host(url)).await.map_err(io::Error::other)?;
            Ok(Box::new(secured) as Box<dyn Io>)
        })
    }
}

/// The name to expect in a peer's certificate. That of a unix socket is the name of its file,
/// without what looks like a port.
fn host(url: &PeerUrl) -> &str {
    let Some(path) = url.socket_path() else { return url.host() };
    let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path);
    name.split_once(':').map_or(name, |(host, _)| host)
}

/// Takes the connections of a peer port.
pub(crate) struct PeerDoor(pub(crate) Guard);

impl Accept for PeerDoor {
    fn accept(
        &self,
        stream: Box<dyn Io>,
        remote: Option<SocketAddr>,
    ) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            Ok(match self.0.admit(stream, remote).await {
                Some(accepted) => Box::new(accepted.stream) as Box<dyn Io>,
                // The reason is in the log already; what is left is a connection that has ended.
                None => Box::new(tokio::io::empty()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_name_the_host_or_the_socket() {
        for (url, name) in [
            ("https://a.example:2380", "a.example"),
            ("https://[::1]:2380", "::1"),
            ("unixs://localhost:2380", "localhost"),
            ("unixs:///run/etcd.sock", "etcd.sock"),
        ] {
            assert_eq!(host(&url.parse().expect("a URL")), name);
        }
    }

    /// A member without TLS of its own still learns of a peer that has it.
    #[tokio::test]
    async fn plain_settings_are_completed_when_a_peer_asks_for_tls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let hang_up = async { drop(listener.accept().await.expect("accepted")) };
        let dialer = PeerDialer::new(Dial::Later(Box::default()));
        let url: PeerUrl = format!("https://127.0.0.1:{port}").parse().expect("a URL");
        let (_, dialled) = tokio::join!(hang_up, dialer.connect(&url));
        assert!(dialled.is_err(), "nobody shook hands");
    }
}
