//! Endpoints as etcd's tools write them, and the encrypted connections among those they lead to.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcdrs_platform::{Clock, SystemClock, Tick};
use etcdrs_tls::{ClientTls, ClientTlsInfo, HandshakeError};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;
use crate::error::Error;

/// After a failed handshake the endpoint is left alone for so long: a wrong certificate will not
/// be right in a moment, and the server logs every attempt.
const HANDSHAKE_PAUSE: Duration = Duration::from_secs(1);

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// `host:port`
    Tcp(String),
    /// A socket in the file system.
    Unix(String),
}

/// Reads one endpoint: whether its scheme demands TLS (`None`: says nothing), and where it is.
fn parse(text: &str) -> (Option<bool>, Place) {
    let (scheme, rest) = text.split_once(':').unwrap_or_default();
    let rest = rest.strip_prefix("//").unwrap_or(rest).to_owned();
    match scheme {
        "http" => (Some(false), Place::Tcp(rest)),
        "https" => (Some(true), Place::Tcp(rest)),
        "unix" => (Some(false), Place::Unix(rest)),
        "unixs" => (Some(true), Place::Unix(rest)),
        _ => (None, Place::Tcp(text.to_owned())),
    }
}

/// A connection to one endpoint that opens when it is needed. The scheme decides about TLS;
/// without one it is used if it is configured (ctl.md §1.2).
pub(crate) fn channel(text: &str, config: &Config) -> Result<Channel, Error> {
    let (demanded, place) = parse(text);
    let encrypted = demanded.unwrap_or(config.tls.is_some());
    let uri = match &place {
        Place::Tcp(address) => format!("http://{address}"),
        // The connector knows the path; what stands here is only the name of the host.
        Place::Unix(_) if encrypted => "http://localhost".to_owned(),
        Place::Unix(path) => format!("unix:{path}"),
    };
    let bad = |error: &dyn std::fmt::Display| {
        Error::config(format!("endpoint {text:?} is malformed: {error}"))
    };
    let endpoint = Endpoint::new(uri).map_err(|error| bad(&error))?;
    let endpoint = tuned(endpoint, config);
    if !encrypted {
        return Ok(endpoint.connect_lazy());
    }
    let tls = match &config.tls {
        Some(tls) => tls.clone(),
        None => ClientTls::new(ClientTlsInfo::default())
            .map_err(|error| Error::config(error.to_string()))?,
    };
    let place = match place {
        Place::Tcp(_) => host_and_port(endpoint.uri()).ok_or_else(|| bad(&"missing host"))?,
        Place::Unix(path) => Target::Unix(path.into()),
    };
    let origin = Uri::builder().scheme("https").path_and_query("/");
    let authority = endpoint.uri().authority().cloned();
    let origin = origin.authority(authority.ok_or_else(|| bad(&"missing host"))?).build();
    let dialer = Arc::new(Dialer { tls, target: place, refused: Mutex::new(None) });
    let connector = tower::service_fn(move |_: Uri| {
        let dialer = Arc::clone(&dialer);
        async move { dialer.dial().await.map(TokioIo::new) }
    });
    let endpoint = endpoint.origin(origin.map_err(|error| bad(&error))?);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// What all connections have in common.
fn tuned(endpoint: Endpoint, config: &Config) -> Endpoint {
    let endpoint = endpoint.connect_timeout(config.dial_timeout).tcp_nodelay(true);
    // Lists of many thousand keys would crawl through HTTP/2's default window of 64 KiB.
    let endpoint = endpoint
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    match config.keepalive_time {
        None => endpoint,
        Some(interval) => endpoint
            .http2_keep_alive_interval(interval)
            .keep_alive_timeout(config.keepalive_timeout),
    }
}

/// Host and port of an address that was read as a URI.
fn host_and_port(uri: &Uri) -> Option<Target> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some(Target::Tcp(host.to_owned(), uri.port_u16().unwrap_or(443)))
}

/// Where an encrypted connection leads.
enum Target {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Both kinds of sockets under their encryption.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Opens the encrypted connections of one endpoint.
struct Dialer {
    tls: ClientTls,
    target: Target,
    /// When the last handshake failed and why.
    refused: Mutex<Option<(Tick, String)>>,
}

impl Dialer {
    async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        let now = SystemClock::new().now();
        if let Some((at, why)) = &*self.refused()
            && now.since(*at) < HANDSHAKE_PAUSE
        {
            return Err(io::Error::other(why.clone()));
        }
        let done: Result<Box<dyn Stream>, HandshakeError> = match &self.target {
            Target::Tcp(host, port) => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                self.tls.connect(socket, host).await.map(|stream| Box::new(stream) as _)
            }
            Target::Unix(path) => {
                let socket = UnixStream::connect(path).await?;
                // A socket has no host; etcd's clients expect the name of the file.
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                self.tls.connect(socket, &name).await.map(|stream| Box::new(stream) as _)
            }
        };
        let why = |error| format!("transport: authentication handshake failed: {error}");
        let done = done.map_err(why);
        *self.refused() = done.as_ref().err().map(|why| (now, why.clone()));
        done.map_err(io::Error::other)
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, Option<(Tick, String)>> {
        self.refused.lock().expect("nothing panics while it holds the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_decide_about_tls() {
        let tcp = |text: &str| Place::Tcp(text.to_owned());
        let unix = |text: &str| Place::Unix(text.to_owned());
        assert_eq!(parse("a:1"), (None, tcp("a:1")));
        assert_eq!(parse("[::1]:1"), (None, tcp("[::1]:1")));
        assert_eq!(parse("http://a:1"), (Some(false), tcp("a:1")));
        assert_eq!(parse("https://a:1"), (Some(true), tcp("a:1")));
        assert_eq!(parse("unix:///run/e.sock"), (Some(false), unix("/run/e.sock")));
        assert_eq!(parse("unixs:e.sock"), (Some(true), unix("e.sock")));
    }
}
