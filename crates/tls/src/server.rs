//! Taking connections.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{Acceptor, NoServerSessionStorage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;

use crate::error::{ConfigError, HandshakeError, Rejected};
use crate::files::{Authorities, Contents, Pair};
use crate::info::{ServerTlsInfo, half_pair, pair, versions};
use crate::names::{Names, SystemNames};
use crate::peer::{PeerCertificate, check_source};
use crate::reload::Reloading;
use crate::verify::{Clients, Rules};
use crate::{ciphers, client};

/// A client that has not finished its handshake by then is let go.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// An encrypted connection that was taken.
pub type ServerStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// Takes connections. Clones share the files and what was read from them.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use etcdrs_tls::{ServerTls, ServerTlsInfo};
///
/// let tls = ServerTls::new(ServerTlsInfo {
///     cert_file: Some("server.crt".into()),
///     key_file: Some("server.key".into()),
///     trusted_ca_file: Some("ca.crt".into()), // clients have to show a certificate
///     ..ServerTlsInfo::default()
/// })?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:2379").await?;
/// let (socket, from) = listener.accept().await?;
/// let connection = tls.accept(socket, Some(from.ip())).await?;
/// println!("{:?}", connection.peer.map(|certificate| certificate.common_name));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerTls {
    info: Arc<ServerTlsInfo>,
    config: Arc<Reloading<ServerConfig>>,
    names: Arc<dyn Names>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("info", &self.info).finish_non_exhaustive()
    }
}

/// A connection whose handshake succeeded.
#[derive(Debug)]
pub struct Accepted<IO> {
    /// The connection.
    pub stream: ServerStream<IO>,
    /// The client's certificate, if one was asked for.
    pub peer: Option<PeerCertificate>,
    /// Whether HTTP/2 was agreed on; if not, the client speaks HTTP/1.1.
    pub is_http2: bool,
}

impl ServerTls {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every way in which the settings or the files cannot be used.
    pub fn new(info: ServerTlsInfo) -> Result<Self, ConfigError> {
        Self::with_names(info, Arc::new(SystemNames::default()))
    }

    /// The same with another source of host names, for [`ServerTlsInfo::check_source`].
    ///
    /// # Errors
    /// As [`ServerTls::new`].
    pub fn with_names(info: ServerTlsInfo, names: Arc<dyn Names>) -> Result<Self, ConfigError> {
        let info = Arc::new(info);
        let asks = info.requires_client_cert();
        let files = [
            &info.cert_file,
            &info.key_file,
            if asks { &info.trusted_ca_file } else { &None },
            if asks { &info.crl_file } else { &None },
        ];
        // Half a pair is a better explanation than a file that is missing.
        pair(info.cert_file.as_ref(), info.key_file.as_ref())?;
        let files = files.into_iter().flatten().cloned().collect();
        let settings = Arc::clone(&info);
        let config = Reloading::new(files, move |contents| build(&settings, contents))?;
        Ok(Self { info, config: Arc::new(config), names })
    }

    /// Does the handshake, within [`HANDSHAKE_TIMEOUT`]. `from` is where the client comes from,
    /// if that is an address.
    ///
    /// # Errors
    /// The client is not let in, and the connection is closed.
    pub async fn accept<IO>(
        &self,
        io: IO,
        from: Option<IpAddr>,
    ) -> Result<Accepted<IO>, Box<Rejected>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let mut server_name = String::new();
        let handshake = self.handshake(io, from, &mut server_name);
        let (error, peer) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(accepted)) => return Ok(accepted),
            Ok(Err(rejected)) => rejected,
            Err(_) => (HandshakeError::TimedOut, None),
        };
        let PeerCertificate { ip_addresses, dns_names, .. } = peer.unwrap_or_default();
        Err(Box::new(Rejected { error, server_name, ip_addresses, dns_names }))
    }

    async fn handshake<IO>(
        &self,
        io: IO,
        from: Option<IpAddr>,
        server_name: &mut String,
    ) -> Result<Accepted<IO>, (HandshakeError, Option<PeerCertificate>)>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io);
        let start = start.await.map_err(|error| (error.into(), None))?;
        server_name.push_str(start.client_hello().server_name().unwrap_or_default());
        // Only now: somebody who connects and says nothing costs us no look at the files.
        let config = self.config.current().await;
        let stream = start.into_stream(config).await;
        let stream = stream.map_err(|error| (error.into(), None))?;
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let peer = chain.first().map(PeerCertificate::of);
        let is_http2 = session.alpn_protocol() == Some(client::HTTP2);
        if self.info.check_source
            && let (Some(certificate), Some(from)) = (&peer, from)
            && let Err(error) = check_source(certificate, from, &*self.names).await
        {
            return Err((error.into(), peer));
        }
        Ok(Accepted { stream, peer, is_http2 })
    }
}

/// Settings of rustls from settings of ours.
fn build(info: &ServerTlsInfo, contents: &Contents) -> Result<ServerConfig, ConfigError> {
    let (cert_file, key_file) = pair(info.cert_file.as_ref(), info.key_file.as_ref())?
        .ok_or_else(|| half_pair(None, None))?;
    let provider = ciphers::provider(&info.cipher_suites)?;
    let versions = versions(info.min_version, info.max_version, &info.cipher_suites)?;
    let asks = info.requires_client_cert();
    let revoked = match &info.crl_file {
        Some(path) if asks => contents.revoked(path)?,
        _ => HashSet::new(),
    };
    let rules = Rules::new(&info.allowed_common_names, &info.allowed_hostnames, revoked)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(ConfigError::Rustls)?;
    let builder = if asks {
        let authorities = match &info.trusted_ca_file {
            Some(path) => contents.authorities(path)?,
            None => Authorities::of_the_system(),
        };
        builder.with_client_cert_verifier(Arc::new(Clients::new(authorities, rules, provider)?))
    } else {
        builder.with_no_client_auth()
    };
    let Pair { chain, key } = contents.pair(&cert_file, &key_file)?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| client::bad_pair(&cert_file, &key_file, error))?;
    config.alpn_protocols = vec![client::HTTP2.to_vec(), client::HTTP1.to_vec()];
    if asks {
        // A resumed session would bring its certificate along unchecked.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}
