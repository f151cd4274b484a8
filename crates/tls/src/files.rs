//! Reading key pairs, CAs and revocation lists.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use etcdrs_platform::{Fs, OsFs};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::der;
use crate::error::ConfigError;

/// Some files as they were at one time.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents(Vec<(PathBuf, Vec<u8>)>);

impl Contents {
    /// Reads all of them.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, ConfigError> {
        let read = |path: &PathBuf| match OsFs.read(path) {
            Ok(content) => Ok((path.clone(), content)),
            Err(error) => Err(ConfigError::file("open", path, &error)),
        };
        paths.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The content of one that was read.
    fn of(&self, path: &Path) -> &[u8] {
        let found = self.0.iter().find(|(known, _)| known == path);
        found.map(|(_, content)| content.as_slice()).unwrap_or_default()
    }

    /// A certificate chain and its key. Whether they belong together is rustls's to check.
    pub(crate) fn pair(&self, cert: &Path, key: &Path) -> Result<Pair, ConfigError> {
        let cert_pem = self.of(cert);
        let chain = certificates(cert, cert_pem)?;
        if chain.is_empty() {
            let reason = if has_key(cert_pem) {
                "tls: failed to find certificate PEM data in certificate input, but did find a \
                 private key; PEM inputs may have been switched"
            } else {
                "tls: failed to find any PEM data in certificate input"
            };
            return Err(ConfigError::content(cert, reason));
        }
        let key_pem = self.of(key);
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
            let reason = if has_certificate(key_pem) {
                "tls: found a certificate rather than a key in the PEM for the private key"
            } else {
                "tls: failed to find any PEM data in key input"
            };
            ConfigError::content(key, reason)
        })?;
        Ok(Pair { chain, key })
    }

    /// The certificates of a CA file, at least one.
    pub(crate) fn authorities(&self, path: &Path) -> Result<Authorities, ConfigError> {
        let certificates = certificates(path, self.of(path))?;
        if certificates.is_empty() {
            return Err(ConfigError::content(path, "no certificate found"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let malformed = |_| ConfigError::content(path, "x509: malformed certificate");
            roots.add(certificate.clone()).map_err(malformed)?;
        }
        Ok(Authorities { roots, certificates })
    }

    /// The serial numbers of a revocation list, without leading zeros.
    pub(crate) fn revoked(&self, path: &Path) -> Result<HashSet<Vec<u8>>, ConfigError> {
        let content = self.of(path);
        let from_pem = CertificateRevocationListDer::from_pem_slice(content).ok();
        let list = from_pem.as_deref().unwrap_or(content);
        der::revoked_serials(list).map_err(|_| ConfigError::content(path, "x509: malformed crl"))
    }
}

/// A certificate chain and its key.
pub(crate) struct Pair {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// Who may sign certificates.
pub(crate) struct Authorities {
    pub(crate) roots: RootCertStore,
    /// The same as they were in the file; none for the system's.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those that the system trusts. None is no error: then nobody is trusted.
    pub(crate) fn of_the_system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        Self { roots, certificates: Vec::new() }
    }
}

/// Every certificate of a PEM file; other sections are passed over, as Go does.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| ConfigError::content(path, format!("malformed PEM: {error}")))?;
    for certificate in &all {
        der::Certificate::parse(certificate)
            .map_err(|_| ConfigError::content(path, "x509: malformed certificate"))?;
    }
    Ok(all)
}

fn has_key(pem: &[u8]) -> bool {
    PrivateKeyDer::from_pem_slice(pem).is_ok()
}

fn has_certificate(pem: &[u8]) -> bool {
    CertificateDer::from_pem_slice(pem).is_ok()
}
