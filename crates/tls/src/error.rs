//! What can be wrong with the settings, and why a handshake failed.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::peer::SourceError;
use crate::server::HANDSHAKE_TIMEOUT;
use crate::words;

/// Settings or files that cannot be used. The texts are etcd's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A certificate without its key, or the other way round, or neither where both are needed.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair {
        /// The key file, empty if there is none.
        key: String,
        /// The certificate file, empty if there is none.
        cert: String,
    },
    /// A file that cannot be read or written.
    #[error("{action} {}: {reason}", path.display())]
    File {
        /// What was tried: `open`, `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not, in the operating system's words.
        reason: String,
    },
    /// A file that holds something else than it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the words of Go, as etcdctl prints them.
        reason: String,
    },
    /// Only one way to recognise the other side can be in force.
    #[error(
        "AllowedCNs and AllowedHostnames are mutually exclusive \
         (cns={common_names:?}, hostnames={hostnames:?})"
    )]
    BothLists {
        /// The allowed common names.
        common_names: Vec<String>,
        /// The allowed host names.
        hostnames: Vec<String>,
    },
    /// Client certificates are asked for and there is no CA, not even one of the system.
    #[error("client certificates are required, but there is no trusted CA to check them against")]
    NoCa,
    /// A cipher suite that Go does not know either.
    #[error("unexpected TLS cipher suite {0:?}")]
    UnknownCipherSuite(String),
    /// A cipher suite that Go has and rustls leaves out.
    #[error(
        "TLS cipher suite {name:?} is not supported: suites with RSA key exchange, CBC, RC4 or \
         3DES are left out on purpose; supported are {supported}"
    )]
    UnsupportedCipherSuite {
        /// The suite.
        name: String,
        /// Those that can be chosen.
        supported: String,
    },
    /// Cipher suites can only be chosen for TLS 1.2.
    #[error("cipher suites cannot be configured when only TLS1.3 is enabled")]
    CipherSuitesOfTls13,
    /// No such version, or one that is too old.
    #[error("unexpected TLS version {0:?} (must be one of: TLS1.2, TLS1.3)")]
    UnknownVersion(String),
    /// The range of versions is empty.
    #[error("min version (TLS1.3) is greater than max version (TLS1.2)")]
    NoVersion,
    /// A self-signed certificate has to live for a year at least.
    #[error("selfSignedCertValidity is invalid,it should be greater than 0")]
    Validity,
    /// No certificate came out of the generator.
    #[error("make a self-signed certificate")]
    SelfSigned(#[source] rcgen::Error),
    /// The server's name is neither a host name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// rustls refused the settings for a reason of its own.
    #[error("TLS settings: {0}")]
    Rustls(#[source] rustls::Error),
}

impl ConfigError {
    /// A failed access to a file, in the words of Go: `open x: no such file or directory`.
    pub(crate) fn file(action: &'static str, path: &Path, error: &io::Error) -> Self {
        // A directory can be opened, so it is the reading that fails.
        let action = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { action };
        let reason = words::of_io(error);
        Self::File { action, path: path.to_owned(), reason }
    }

    /// A file with the wrong content.
    pub(crate) fn content(path: &Path, reason: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.into() }
    }

    /// The text as etcdctl prints it: it does not say which file has the wrong content.
    #[must_use]
    pub fn etcdctl_text(&self) -> String {
        match self {
            Self::Content { reason, .. } => reason.clone(),
            other => other.to_string(),
        }
    }
}

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side closed the connection.
    #[error("EOF")]
    HungUp,
    /// [`HANDSHAKE_TIMEOUT`] has passed.
    #[error("TLS handshake not done within {}s", HANDSHAKE_TIMEOUT.as_secs())]
    TimedOut,
    /// The connection broke.
    #[error("{}", words::of_io(.0))]
    Io(#[source] io::Error),
    /// The protocol or a certificate, in the words of Go.
    #[error("{}", words::of_tls(.0))]
    Tls(#[source] rustls::Error),
    /// A peer's certificate is good, but not for the address it comes from.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The name to expect in the server's certificate is no name.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl From<io::Error> for HandshakeError {
    /// rustls's errors arrive packed in the stream's.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::HungUp;
        }
        match error.downcast::<rustls::Error>() {
            Ok(tls) => Self::Tls(tls),
            Err(error) => Self::Io(error),
        }
    }
}

/// A connection that was not let in, with what a log line says about it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Rejected {
    /// Why.
    pub error: HandshakeError,
    /// The name the client asked for; empty if it did not say.
    pub server_name: String,
    /// The addresses of the client's certificate, where one was looked at.
    pub ip_addresses: Vec<IpAddr>,
    /// The host names of the client's certificate, where one was looked at.
    pub dns_names: Vec<String>,
}

impl Rejected {
    /// Whether the client only went away, which load balancers do to see whether a port is open:
    /// worth a debug line, no warning.
    #[must_use]
    pub fn is_hang_up(&self) -> bool {
        matches!(self.error, HandshakeError::HungUp)
    }
}
