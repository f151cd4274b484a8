//! The certificates of `--auto-tls` and `--peer-auto-tls`.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcdrs_platform::{Clock, Fs, OsFs, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, date_time_ymd,
};

use crate::error::ConfigError;
use crate::words;

/// As long as etcd makes a year.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a self-signed certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfSignedUse {
    /// A server that clients connect to.
    Server,
    /// A peer, which is server and client with one certificate.
    Peer,
}

/// A certificate that vouches for itself, and its key. It encrypts, but proves nothing: who
/// connects has to take any certificate, or be given this file as its CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// PEM.
    pub cert_file: PathBuf,
    /// PEM.
    pub key_file: PathBuf,
}

impl SelfSigned {
    /// Takes `cert.pem` and `key.pem` in `dir` as they are if both are there, even expired ones,
    /// as etcd does. Else makes them: for these hosts, which may have ports, and this many years.
    ///
    /// # Errors
    /// [`ConfigError::Validity`] for 0 years, [`ConfigError::File`], [`ConfigError::SelfSigned`].
    pub fn create_or_reuse(
        dir: &Path,
        hosts: &[String],
        years: u32,
        purpose: SelfSignedUse,
    ) -> Result<Self, ConfigError> {
        if years == 0 {
            return Err(ConfigError::Validity);
        }
        let files = Self { cert_file: dir.join("cert.pem"), key_file: dir.join("key.pem") };
        let is_there = |path: &Path| {
            OsFs.exists(path).map_err(|error| ConfigError::file("stat", path, &error))
        };
        if is_there(&files.cert_file)? && is_there(&files.key_file)? {
            return Ok(files);
        }
        let (cert, key) = make(hosts, years, purpose).map_err(ConfigError::SelfSigned)?;
        OsFs.create_dir_all(dir, 0o700).map_err(|error| failed("mkdir", dir, &error))?;
        for (path, content) in [(&files.key_file, key), (&files.cert_file, cert)] {
            OsFs.write_durable(path, content.as_bytes(), 0o600)
                .map_err(|error| failed("write", path, &error))?;
        }
        tracing::info!(cert = %files.cert_file.display(), ?hosts, "created a self-signed certificate");
        Ok(files)
    }
}

fn failed(action: &'static str, path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::File { action, path: path.to_owned(), reason: words::of_io(error) }
}

/// A certificate and its key, PEM. Like etcd's in everything a client can see.
fn make(
    hosts: &[String],
    years: u32,
    purpose: SelfSignedUse,
) -> Result<(String, String), rcgen::Error> {
    let names: Vec<String> = hosts.iter().map(|host| without_port(host).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = Duration::from_millis(SystemClock::new().wall_unix_ms());
    params.not_before = date_time_ymd(1970, 1, 1) + now;
    params.not_after = params.not_before + YEAR.saturating_mul(years.min(YEARS_MAX));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if purpose == SelfSignedUse::Peer {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Certificates cannot say dates after the year 9999.
const YEARS_MAX: u32 = 7000;

/// The host of `host:port`, `[address]:port`, or of a host alone.
fn without_port(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
    bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::der::{CLIENT_USAGE, Certificate, SERVER_USAGE};

    fn hosts() -> Vec<String> {
        ["127.0.0.1:2379", "[::1]:2380", "localhost"].map(String::from).to_vec()
    }

    #[test]
    fn hosts_lose_their_ports() {
        assert_eq!(without_port("127.0.0.1:2379"), "127.0.0.1");
        assert_eq!(without_port("[::1]:2380"), "::1");
        assert_eq!(without_port("::1"), "::1");
        assert_eq!(without_port("localhost"), "localhost");
    }

    #[test]
    fn a_certificate_is_made_once_and_used_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("fixtures/peer");
        let make = || SelfSigned::create_or_reuse(&dir, &hosts(), 2, SelfSignedUse::Peer).unwrap();
        let files = make();
        assert_eq!(
            (&files.cert_file, &files.key_file),
            (&dir.join("cert.pem"), &dir.join("key.pem"))
        );
        for file in [&files.cert_file, &files.key_file] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let first = fs::read(&files.cert_file).unwrap();
        make();
        assert_eq!(fs::read(&files.cert_file).unwrap(), first);

        let certificate =
            Certificate::parse(&CertificateDer::from_pem_slice(&first).unwrap()).unwrap();
        assert_eq!(certificate.dns_names, ["localhost"]);
        assert_eq!(certificate.ip_addresses.len(), 2);
        assert!(certificate.is_for(SERVER_USAGE) && certificate.is_for(CLIENT_USAGE));
        let (from, until) = certificate.valid;
        assert_eq!(until - from, 2 * 365 * 86_400);
    }

    #[test]
    fn no_years_are_refused() {
        let dir = Path::new("/nowhere");
        let made = SelfSigned::create_or_reuse(dir, &hosts(), 0, SelfSignedUse::Server);
        let text = "selfSignedCertValidity is invalid,it should be greater than 0";
        assert_eq!(made.unwrap_err().to_string(), text);
    }
}
