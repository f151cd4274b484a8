//! TLS of the listeners and towards peers, made from the flags (operations.md §1.5, §2.14).

use std::path::{Path, PathBuf};

use etcdrs_tls::{
    ClientTls, ClientTlsInfo, ConfigError, Protocol, SelfSigned, SelfSignedUse, ServerTls,
    ServerTlsInfo, TlsVersion,
};

use crate::config::{Config, TlsFlags, Url};
use crate::listen::guard::{Guard, Side};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A client URL asks for TLS and there is no certificate.
    #[error(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {0} with HTTPS scheme"
    )]
    NoClientFiles(Url),
    /// A peer or metrics URL asks for TLS and there is no certificate.
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    NoFiles(String),
    /// The certificate of `--auto-tls` or `--peer-auto-tls` could not be made.
    #[error("failed to get {side} self-signed certs: {source}")]
    SelfSigned {
        /// `client` or `peer`.
        side: &'static str,
        /// What went wrong.
        source: ConfigError,
    },
    /// Settings or files that cannot be used.
    #[error(transparent)]
    Tls(#[from] ConfigError),
}

/// How connections are secured.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    /// Of client and metrics URLs; `None` if none of them asks for TLS.
    pub(crate) clients: Option<Guard>,
    /// Of peer URLs; `None` if none of them asks for TLS.
    pub(crate) peers: Option<Guard>,
    /// Towards peers.
    pub(crate) dial: Dial,
}

/// How to dial peers.
#[derive(Clone, Debug)]
pub(crate) enum Dial {
    /// With what the flags name.
    Ready(ClientTls),
    /// No flag says anything of TLS: settings for the first peer that asks for it.
    Later(Box<ClientTlsInfo>),
}

impl Security {
    /// Reads every file that the flags name, in etcd's order. Blocks.
    ///
    /// # Errors
    ///
    /// What etcd refuses to start with, in its words.
    pub(crate) fn open(config: &Config) -> Result<Self, SecurityError> {
        let settings = Settings::of(config)?;
        let files = Files::of(config, &config.peer_tls, Side::Peer)?;
        let peers = settings.listeners_of_peers(config, &files)?;
        let dial = settings.towards_peers(config, &files)?;
        let files = Files::of(config, &config.client_tls, Side::Client)?;
        let clients = settings.listeners_of_clients(config, &files)?;
        Ok(Self { clients, peers, dial })
    }
}

/// Certificate and key of one side.
struct Files {
    pair: Option<(PathBuf, PathBuf)>,
    self_signed: bool,
}

impl Files {
    /// Those that the flags name, or those of auto-TLS, made if they are not there.
    fn of(config: &Config, flags: &TlsFlags, side: Side) -> Result<Self, SecurityError> {
        let named = flags.names_files();
        let given = Self {
            pair: named.then(|| (flags.cert_file.clone(), flags.key_file.clone())),
            self_signed: false,
        };
        if !flags.auto {
            return Ok(given);
        }
        if named {
            tracing::warn!("ignoring {} auto TLS since certs given", side.name());
            return Ok(given);
        }
        let (urls, purpose) = match side {
            Side::Client => (&config.listen_client_urls, SelfSignedUse::Server),
            Side::Peer => (&config.listen_peer_urls, SelfSignedUse::Peer),
        };
        let hosts: Vec<String> =
            urls.iter().map(|url| url.host().to_owned()).filter(|host| !host.is_empty()).collect();
        let dir = config.data_dir().join("fixtures").join(side.name());
        let years = config.self_signed_cert_validity_years;
        let made = SelfSigned::create_or_reuse(&dir, &hosts, years, purpose);
        let made =
            made.map_err(|source| SecurityError::SelfSigned { side: side.name(), source })?;
        Ok(Self { pair: Some((made.cert_file, made.key_file)), self_signed: true })
    }

    fn are_there(&self) -> bool {
        self.pair.is_some()
    }
}

/// What both sides have in common.
struct Settings {
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
    cipher_suites: Vec<String>,
}

impl Settings {
    fn of(config: &Config) -> Result<Self, SecurityError> {
        let settings = Self {
            min_version: TlsVersion::from_flag(&config.tls_min_version)?,
            max_version: TlsVersion::from_flag(&config.tls_max_version)?,
            cipher_suites: config.cipher_suites.clone(),
        };
        if !settings.cipher_suites.is_empty() {
            // Names are refused even where nothing is encrypted. This needs no file.
            ClientTls::new(ClientTlsInfo { insecure_skip_verify: true, ..settings.client() })?;
        }
        Ok(settings)
    }

    fn client(&self) -> ClientTlsInfo {
        ClientTlsInfo {
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: self.cipher_suites.clone(),
            ..ClientTlsInfo::default()
        }
    }

    fn server(&self, flags: &TlsFlags, files: &Files) -> ServerTlsInfo {
        ServerTlsInfo {
            cert_file: files.pair.as_ref().and_then(|(cert, _)| given(cert)),
            key_file: files.pair.as_ref().and_then(|(_, key)| given(key)),
            trusted_ca_file: given(&flags.trusted_ca_file),
            client_cert_auth: flags.client_cert_auth,
            crl_file: given(&flags.crl_file),
            allowed_common_names: flags.allowed_cns.clone(),
            allowed_hostnames: flags.allowed_hostnames.clone(),
            check_source: false,
            min_version: self.min_version,
            max_version: self.max_version,
            cipher_suites: self.cipher_suites.clone(),
        }
    }

    fn listeners_of_peers(
        &self,
        config: &Config,
        files: &Files,
    ) -> Result<Option<Guard>, SecurityError> {
        let flags = &config.peer_tls;
        if files.are_there() {
            tracing::info!(tls_info = ?flags, cipher_suites = ?self.cipher_suites, "starting with peer TLS");
        }
        for url in config.listen_peer_urls.iter().filter(|url| !url.is_secure()) {
            let peer_url = url.to_string();
            if files.are_there() {
                tracing::warn!(
                    peer_url,
                    "scheme is HTTP while key and cert files are present; ignoring key and cert files"
                );
            }
            if flags.client_cert_auth {
                tracing::warn!(
                    peer_url,
                    "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL"
                );
            }
        }
        need_files(&config.listen_peer_urls, files)?;
        if !config.listen_peer_urls.iter().any(Url::is_secure) {
            return Ok(None);
        }
        let info = ServerTlsInfo {
            check_source: !flags.skip_client_san_verification,
            ..self.server(flags, files)
        };
        Ok(Some(Guard::new(ServerTls::new(info)?, Side::Peer)))
    }

    fn towards_peers(&self, config: &Config, files: &Files) -> Result<Dial, SecurityError> {
        let flags = &config.peer_tls;
        let pair = flags.client_pair().or_else(|| files.pair.clone());
        let info = ClientTlsInfo {
            cert_file: pair.as_ref().and_then(|(cert, _)| given(cert)),
            key_file: pair.as_ref().and_then(|(_, key)| given(key)),
            trusted_ca_file: given(&flags.trusted_ca_file),
            server_name: crate::bootstrap::server_name(config).map(str::to_owned),
            // Nobody vouches for certificates that members made themselves.
            insecure_skip_verify: files.self_signed,
            allowed_common_names: flags.allowed_cns.clone(),
            allowed_hostnames: flags.allowed_hostnames.clone(),
            protocol: Protocol::Http1,
            ..self.client()
        };
        if files.are_there() || info.trusted_ca_file.is_some() {
            return Ok(Dial::Ready(ClientTls::new(info)?));
        }
        Ok(Dial::Later(Box::new(info)))
    }

    fn listeners_of_clients(
        &self,
        config: &Config,
        files: &Files,
    ) -> Result<Option<Guard>, SecurityError> {
        let flags = &config.client_tls;
        for url in config.listen_client_urls.iter().filter(|url| !url.is_secure()) {
            let client_url = url.to_string();
            if files.are_there() {
                tracing::warn!(
                    client_url,
                    "scheme is http or unix while key and cert files are present; ignoring key and cert files"
                );
            }
            if flags.client_cert_auth {
                tracing::warn!(
                    client_url,
                    "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
                );
            }
        }
        let mut secure = config.listen_client_urls.iter().filter(|url| url.is_secure());
        if let Some(url) = secure.next().filter(|_| !files.are_there()) {
            return Err(SecurityError::NoClientFiles(url.clone()));
        }
        need_files(&config.listen_metrics_urls, files)?;
        let mut all = config.listen_client_urls.iter().chain(&config.listen_metrics_urls);
        if !all.any(Url::is_secure) {
            return Ok(None);
        }
        tracing::info!(tls_info = ?flags, cipher_suites = ?self.cipher_suites, "starting with client TLS");
        let tls = ServerTls::new(self.server(flags, files))?;
        Ok(Some(Guard::new(tls, Side::Client)))
    }
}

fn need_files(urls: &[Url], files: &Files) -> Result<(), SecurityError> {
    match urls.iter().find(|url| url.is_secure() && !files.are_there()) {
        Some(url) => Err(SecurityError::NoFiles(url.address())),
        None => Ok(()),
    }
}

/// A path, if the flag names one.
pub(crate) fn given(path: &Path) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(client: &str, peer: &str) -> Config {
        Config {
            listen_client_urls: Url::parse_list(client).expect("URLs"),
            listen_peer_urls: Url::parse_list(peer).expect("URLs"),
            ..Config::default()
        }
    }

    fn refusal(config: &Config) -> String {
        Security::open(config).expect_err("refused").to_string()
    }

    /// U04, U06.
    #[test]
    fn u04_u06_tls_without_files_is_refused_in_etcds_words() {
        let http = "http://127.0.0.1:1";
        assert_eq!(
            refusal(&config("https://127.0.0.1:33301", http)),
            "TLS key/cert (--cert-file, --key-file) must be provided for client url https://127.0.0.1:33301 with HTTPS scheme"
        );
        assert_eq!(
            refusal(&config(http, "https://127.0.0.1:33301")),
            "cannot listen on TLS for 127.0.0.1:33301: KeyFile and CertFile are not presented"
        );
        let mut half = config("https://127.0.0.1:1", http);
        half.client_tls.cert_file = "x".into();
        let text = "KeyFile and CertFile must both be present[key: , cert: x]";
        assert_eq!(refusal(&half), text);
    }

    /// U04, U06: files for clients are not even opened where nothing is encrypted.
    #[test]
    fn u06_http_ignores_the_files() {
        let mut config = config("http://127.0.0.1:1", "http://127.0.0.1:2");
        config.client_tls.cert_file = "nowhere".into();
        config.client_tls.key_file = "nowhere".into();
        let security = Security::open(&config).expect("fine");
        assert!(security.clients.is_none() && security.peers.is_none());
        assert!(matches!(security.dial, Dial::Later(_)));
        // Peers may be dialled over TLS all the same, as in etcd.
        config.peer_tls.cert_file = "nowhere".into();
        config.peer_tls.key_file = "nowhere".into();
        assert_eq!(refusal(&config), "open nowhere: no such file or directory");
    }

    #[test]
    fn suites_and_versions_are_checked_without_tls_too() {
        let mut config = config("http://127.0.0.1:1", "http://127.0.0.1:2");
        config.cipher_suites = vec!["FOO".into()];
        assert_eq!(refusal(&config), "unexpected TLS cipher suite \"FOO\"");
    }

    #[test]
    fn auto_tls_gives_way_to_files_and_makes_its_own_where_there_are_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config("https://127.0.0.1:1", "https://127.0.0.1:2");
        config.data_dir = dir.path().join("data");
        config.client_tls.auto = true;
        config.peer_tls.auto = true;
        let security = Security::open(&config).expect("certificates are made");
        assert!(security.clients.is_some() && security.peers.is_some());
        for side in ["client", "peer"] {
            assert!(config.data_dir().join("fixtures").join(side).join("cert.pem").exists());
        }
        config.self_signed_cert_validity_years = 0;
        assert_eq!(
            refusal(&config),
            "failed to get peer self-signed certs: selfSignedCertValidity is invalid,it should be greater than 0"
        );
        config.peer_tls.auto = false;
        config.peer_tls.cert_file = "nowhere".into();
        config.peer_tls.key_file = "nowhere".into();
        config.peer_tls.auto = true;
        assert_eq!(refusal(&config), "open nowhere: no such file or directory");
    }
}
