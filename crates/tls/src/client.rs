//! Opening connections.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, InconsistentKeys};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::ciphers;
use crate::error::{ConfigError, HandshakeError};
use crate::files::{Authorities, Contents, Pair};
use crate::info::{ClientTlsInfo, Protocol, pair, versions};
use crate::reload::Reloading;
use crate::server::HANDSHAKE_TIMEOUT;
use crate::verify::{Rules, Servers};

pub(crate) const HTTP1: &[u8] = b"http/1.1";
pub(crate) const HTTP2: &[u8] = b"h2";

/// An encrypted connection that was opened.
pub type ClientStream<IO> = tokio_rustls::client::TlsStream<IO>;

/// Opens connections. Clones share the files and what was read from them.
#[derive(Clone)]
pub struct ClientTls {
    info: Arc<ClientTlsInfo>,
    config: Arc<Reloading<ClientConfig>>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("info", &self.info).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every way in which the settings or the files cannot be used.
    pub fn new(info: ClientTlsInfo) -> Result<Self, ConfigError> {
        pair(info.cert_file.as_ref(), info.key_file.as_ref())?;
        if let Some(name) = &info.server_name {
            server_name(name).map_err(|_| ConfigError::ServerName(name.clone()))?;
        }
        let ca_file = if info.insecure_skip_verify { &None } else { &info.trusted_ca_file };
        let files = [&info.cert_file, &info.key_file, ca_file];
        let files = files.into_iter().flatten().cloned().collect();
        let info = Arc::new(info);
        let settings = Arc::clone(&info);
        let config = Reloading::new(files, move |contents| build(&settings, contents))?;
        Ok(Self { info, config: Arc::new(config) })
    }

    /// Does the handshake with `host`, a name or an address without a port, within
    /// [`HANDSHAKE_TIMEOUT`].
    ///
    /// # Errors
    /// The server is not who it should be, does not want us, or is no TLS server.
    pub async fn connect<IO>(&self, io: IO, host: &str) -> Result<ClientStream<IO>, HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = server_name(self.info.server_name.as_deref().unwrap_or(host))?;
        let config = self.config.current().await;
        let connector = TlsConnector::from(config);
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, io));
        Ok(handshake.await.map_err(|_| HandshakeError::TimedOut)??)
    }

    /// Settings for a library that does handshakes itself, as of the last look at the files. The
    /// server's name is then the library's matter.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.last()
    }
}

/// A host as certificates name it.
fn server_name(host: &str) -> Result<ServerName<'static>, HandshakeError> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| HandshakeError::ServerName(host.to_owned()))
}

/// Settings of rustls from settings of ours.
fn build(info: &ClientTlsInfo, contents: &Contents) -> Result<ClientConfig, ConfigError> {
    let provider = ciphers::provider(&info.cipher_suites)?;
    let versions = versions(info.min_version, info.max_version, &info.cipher_suites)?;
    let authorities = match &info.trusted_ca_file {
        _ if info.insecure_skip_verify => None,
        Some(path) => Some(contents.authorities(path)?),
        None => Some(Authorities::of_the_system()),
    };
    let rules = Rules::new(&info.allowed_common_names, &info.allowed_hostnames, HashSet::new())?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(ConfigError::Rustls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers::new(authorities, rules, provider)));
    let mut config = match pair(info.cert_file.as_ref(), info.key_file.as_ref())? {
        None => builder.with_no_client_auth(),
        Some((cert_file, key_file)) => {
            let Pair { chain, key } = contents.pair(&cert_file, &key_file)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| bad_pair(&cert_file, &key_file, error))?
        }
    };
    // Connections to etcd live long; a cache of sessions would only keep old certificates alive.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = match info.protocol {
        Protocol::Http2 => vec![HTTP2.to_vec()],
        Protocol::Http1 => vec![HTTP1.to_vec()],
    };
    Ok(config)
}

/// rustls does not want a certificate and a key together; says which file to look at.
pub(crate) fn bad_pair(cert_file: &Path, key_file: &Path, error: Error) -> ConfigError {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            ConfigError::content(key_file, "tls: private key does not match public key")
        }
        Error::InvalidCertificate(_) => {
            ConfigError::content(cert_file, "x509: malformed certificate")
        }
        _ => ConfigError::content(key_file, "tls: failed to parse private key"),
    }
}
