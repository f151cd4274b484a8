//! Bound sockets: TCP ports and unix sockets, and what is known of a client before its first word.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use etcdrs_platform::{Fs as _, OsFs};
use etcdrs_rafthttp_transport::Io;
use rustix::net::{RecvFlags, recv, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Url;

/// First bytes of a client that speaks HTTP/2 right away.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// Time between two TCP keep-alives, as in etcd: clients that vanished are found out by it.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a unix socket, removed when nobody listens any more.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = OsFs.remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "could not remove a unix socket");
        }
    }
}

/// A connection before its first byte.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// How a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// HTTP/2 without TLS.
    Http2,
    /// A TLS handshake.
    Tls,
    /// HTTP/1, or nothing known.
    Other,
}

impl Listener {
    /// Binds the host and port, or the path, of `url`; says where that is, if the port was open.
    /// The file of a socket that nobody closed is taken over, as etcd does.
    ///
    /// # Errors
    ///
    /// The system's, with the address in the text as Go words it.
    pub(crate) async fn bind(url: &Url) -> io::Result<(Self, Url)> {
        let address = url.address();
        if url.is_unix() {
            let path = PathBuf::from(&address);
            match OsFs.remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path).map_err(|e| explained(e, "unix", &address))?;
            return Ok((Self::Unix(listener, SocketFile(path)), url.clone()));
        }
        let listener =
            TcpListener::bind(&address).await.map_err(|e| explained(e, "tcp", &address))?;
        let port = listener.local_addr()?.port();
        Ok((Self::Tcp(listener), url.with_port(port)))
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // A connection that is gone already fails here, and again when it is used.
                if let Err(error) = set_options(&stream) {
                    tracing::debug!(%remote, %error, "could not set socket options");
                }
                Ok(Stream::Tcp(stream, remote))
            }
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

fn explained(error: io::Error, network: &str, address: &str) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        _ => format!("bind: {error}"),
    };
    io::Error::new(error.kind(), format!("listen {network} {address}: {what}"))
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?;
    Ok(())
}

impl Stream {
    /// Where the client is; a unix socket has no address.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, remote) => Some(*remote),
            Self::Unix(_) => None,
        }
    }

    pub(super) fn boxed(self) -> Box<dyn Io> {
        match self {
            Self::Tcp(stream, _) => Box::new(stream),
            Self::Unix(stream) => Box::new(stream),
        }
    }

    /// Looks at the first bytes without taking them.
    pub(super) async fn opening(&self) -> io::Result<Opening> {
        let mut seen = [0; PREFACE.len()];
        loop {
            let count = match self {
                Self::Tcp(stream, _) => stream.peek(&mut seen).await?,
                Self::Unix(stream) => {
                    let peek = || Ok(recv(stream, &mut seen[..], RecvFlags::PEEK)?.0);
                    stream.async_io(Interest::READABLE, peek).await?
                }
            };
            match &seen[..count] {
                [HANDSHAKE, ..] => return Ok(Opening::Tls),
                PREFACE => return Ok(Opening::Http2),
                [] => return Ok(Opening::Other),
                some if *some != PREFACE[..count] => return Ok(Opening::Other),
                // A preface in pieces: a look returns at once while bytes are there, so let others
                // have their turn in between.
                _ => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn opening_of(pieces: &[&[u8]], url: &str) -> Opening {
        let (listener, at) = Listener::bind(&url.parse().expect("a URL")).await.expect("bound");
        let (taken, sent) = tokio::join!(
            async {
                let stream = listener.accept().await.expect("accepted");
                stream.opening().await.expect("readable")
            },
            async {
                let mut client: Box<dyn tokio::io::AsyncWrite + Unpin> = if at.is_unix() {
                    Box::new(UnixStream::connect(at.address()).await.expect("connected"))
                } else {
                    Box::new(TcpStream::connect(at.address()).await.expect("connected"))
                };
                for piece in pieces {
                    client.write_all(piece).await.expect("written");
                    tokio::task::yield_now().await;
                }
                client
            }
        );
        drop(sent);
        taken
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_protocol() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = format!("unix://{}", dir.path().join("s").display());
        for url in ["http://127.0.0.1:0", &socket] {
            let pieces: [&[u8]; 3] = [b"PRI", b" * HTT", b"P/2.0\r\n\r\n"];
            assert_eq!(opening_of(&pieces, url).await, Opening::Http2);
            assert_eq!(opening_of(&[b"PUT / HTTP/1.1\r\n"], url).await, Opening::Other);
            assert_eq!(opening_of(&[&[HANDSHAKE, 3, 1]], url).await, Opening::Tls);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "file removed");
    }

    #[tokio::test]
    async fn a_socket_that_nobody_closed_is_taken_over_and_a_port_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let url: Url = format!("unix://{}", path.display()).parse().expect("a URL");
        let (_listener, _) = Listener::bind(&url).await.expect("taken over");
        let (_first, at) =
            Listener::bind(&Url::parse("http://127.0.0.1:0").expect("a URL")).await.expect("bound");
        let error = Listener::bind(&at).await.expect_err("taken").to_string();
        let text = format!("listen tcp {}: bind: address already in use", at.address());
        assert_eq!(error, text);
    }

    /// U09.
    #[tokio::test]
    async fn u09_connections_are_kept_alive() {
        let url = Url::parse("http://127.0.0.1:0").expect("a URL");
        let (listener, at) = Listener::bind(&url).await.expect("bound");
        let (stream, _client) = tokio::join!(listener.accept(), TcpStream::connect(at.address()));
        let Stream::Tcp(stream, _) = stream.expect("accepted") else { panic!("no TCP") };
        assert!(sockopt::socket_keepalive(&stream).expect("an option"));
        assert_eq!(sockopt::tcp_keepidle(&stream).expect("an option"), KEEPALIVE);
        assert_eq!(sockopt::tcp_keepintvl(&stream).expect("an option"), KEEPALIVE);
    }
}
