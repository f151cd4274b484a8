//! The settings, as etcd's flags give them.

use std::path::PathBuf;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::error::ConfigError;

/// A version of TLS that can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS1.2`
    V1_2,
    /// `TLS1.3`
    V1_3,
}

impl TlsVersion {
    /// Reads the value of `--tls-min-version` or `--tls-max-version`; empty is no wish.
    ///
    /// # Errors
    /// [`ConfigError::UnknownVersion`].
    pub fn from_flag(text: &str) -> Result<Option<Self>, ConfigError> {
        match text {
            "" => Ok(None),
            "TLS1.2" => Ok(Some(Self::V1_2)),
            "TLS1.3" => Ok(Some(Self::V1_3)),
            _ => Err(ConfigError::UnknownVersion(text.to_owned())),
        }
    }
}

/// Which HTTP a client means to speak, which it tells in the handshake (ALPN).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2: clients, gRPC.
    #[default]
    Http2,
    /// HTTP/1.1: peers, plain requests.
    Http1,
}

/// How to take connections. Default is nothing set, which lacks a certificate.
#[derive(Clone, Debug, Default)]
pub struct ServerTlsInfo {
    /// Certificate chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// Key of its first certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// CAs of client certificates, PEM. Naming any requires a certificate of every client.
    pub trusted_ca_file: Option<PathBuf>,
    /// Requires a certificate of every client; without a CA file the system's CAs count.
    pub client_cert_auth: bool,
    /// Revocation list, DER or PEM: serial numbers that are refused, whoever issued them.
    pub crl_file: Option<PathBuf>,
    /// If not empty, a client certificate's common name has to be one of these.
    pub allowed_common_names: Vec<String>,
    /// If not empty, a client certificate has to be valid for one of these host names.
    pub allowed_hostnames: Vec<String>,
    /// Whether a client certificate has to be valid for the address the client comes from: for
    /// peers, unless `--peer-skip-client-san-verification` is on.
    pub check_source: bool,
    /// Oldest version; `None` is TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// Newest version; `None` is TLS 1.3.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2 by Go's names; empty for all that are safe.
    pub cipher_suites: Vec<String>,
}

impl ServerTlsInfo {
    /// Whether clients have to show a certificate.
    #[must_use]
    pub fn requires_client_cert(&self) -> bool {
        self.client_cert_auth || self.trusted_ca_file.is_some()
    }
}

/// How to open connections. Default trusts the system's CAs and shows no certificate.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsInfo {
    /// Certificate chain to show when asked, PEM.
    pub cert_file: Option<PathBuf>,
    /// Key of its first certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// CAs of the servers, PEM; the system's without it.
    pub trusted_ca_file: Option<PathBuf>,
    /// The name to expect in a server's certificate instead of the host that is dialled.
    pub server_name: Option<String>,
    /// Takes any certificate, which leaves the connection open to whoever stands in between: for
    /// `--insecure-skip-tls-verify` and between peers with `--peer-auto-tls`.
    pub insecure_skip_verify: bool,
    /// If not empty, a server certificate's common name has to be one of these.
    pub allowed_common_names: Vec<String>,
    /// If not empty, a server certificate has to be valid for one of these host names.
    pub allowed_hostnames: Vec<String>,
    /// Oldest version; `None` is TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// Newest version; `None` is TLS 1.3.
    pub max_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2 by Go's names; empty for all that are safe.
    pub cipher_suites: Vec<String>,
    /// What the connection is for.
    pub protocol: Protocol,
}

/// The versions to speak; the check etcd makes of its flags is here too.
pub(crate) fn versions(
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
    cipher_suites: &[String],
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let min = min.unwrap_or(TlsVersion::V1_2);
    let max = max.unwrap_or(TlsVersion::V1_3);
    if min > max {
        return Err(ConfigError::NoVersion);
    }
    if min == TlsVersion::V1_3 && !cipher_suites.is_empty() {
        return Err(ConfigError::CipherSuitesOfTls13);
    }
    let all = [(TlsVersion::V1_3, &TLS13), (TlsVersion::V1_2, &TLS12)];
    let wanted = all.into_iter().filter(|(version, _)| (min..=max).contains(version));
    Ok(wanted.map(|(_, version)| version).collect())
}

/// A certificate and its key come together. `Ok(None)` if there is neither.
pub(crate) fn pair(
    cert: Option<&PathBuf>,
    key: Option<&PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert.clone(), key.clone()))),
        (None, None) => Ok(None),
        (cert, key) => Err(half_pair(cert, key)),
    }
}

pub(crate) fn half_pair(cert: Option<&PathBuf>, key: Option<&PathBuf>) -> ConfigError {
    let shown = |path: Option<&PathBuf>| path.map(|p| p.display().to_string()).unwrap_or_default();
    ConfigError::HalfPair { key: shown(key), cert: shown(cert) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_etcd_reads_them() {
        assert_eq!(TlsVersion::from_flag("").unwrap(), None);
        assert_eq!(TlsVersion::from_flag("TLS1.3").unwrap(), Some(TlsVersion::V1_3));
        assert_eq!(
            TlsVersion::from_flag("TLS1.1").unwrap_err().to_string(),
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)"
        );
    }

    #[test]
    fn the_range_of_versions_is_checked() {
        let (old, new) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
        assert_eq!(versions(None, None, &[]).unwrap().len(), 2);
        assert_eq!(versions(None, old, &[]).unwrap().len(), 1);
        assert_eq!(
            versions(new, old, &[]).unwrap_err().to_string(),
            "min version (TLS1.3) is greater than max version (TLS1.2)"
        );
        assert_eq!(
            versions(new, None, &["x".to_owned()]).unwrap_err().to_string(),
            "cipher suites cannot be configured when only TLS1.3 is enabled"
        );
    }

    #[test]
    fn half_a_pair_is_refused() {
        let cert = PathBuf::from("x");
        assert_eq!(
            pair(Some(&cert), None).unwrap_err().to_string(),
            "KeyFile and CertFile must both be present[key: , cert: x]"
        );
        assert!(pair(None, None).unwrap().is_none());
    }
}
