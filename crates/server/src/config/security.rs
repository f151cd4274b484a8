//! TLS and discovery: groups of flags that come more than once or go together.

use std::path::PathBuf;
use std::time::Duration;

/// TLS of one side: `--cert-file` and its like for clients, `--peer-cert-file` for peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFlags {
    /// `--[peer-]cert-file`.
    pub cert_file: PathBuf,
    /// `--[peer-]key-file`.
    pub key_file: PathBuf,
    /// `--[peer-]client-cert-file`; empty means `cert_file`.
    pub client_cert_file: PathBuf,
    /// `--[peer-]client-key-file`; empty means `key_file`.
    pub client_key_file: PathBuf,
    /// `--[peer-]client-cert-auth`.
    pub client_cert_auth: bool,
    /// `--[peer-]trusted-ca-file`. Setting it alone asks for client certificates as well.
    pub trusted_ca_file: PathBuf,
    /// `--client-crl-file`, `--peer-crl-file`.
    pub crl_file: PathBuf,
    /// `--[peer-]auto-tls`.
    pub auto: bool,
    /// `--peer-cert-allowed-cn`; peers only.
    pub allowed_cns: Vec<String>,
    /// `--client-cert-allowed-hostname`, `--peer-cert-allowed-hostname`.
    pub allowed_hostnames: Vec<String>,
    /// `--peer-skip-client-san-verification`; peers only.
    pub skip_client_san_verification: bool,
}

impl TlsFlags {
    /// Whether a certificate or a key is named, which is what etcd takes for a wish for TLS.
    #[must_use]
    pub fn names_files(&self) -> bool {
        !self.cert_file.as_os_str().is_empty() || !self.key_file.as_os_str().is_empty()
    }

    /// Certificate and key to show to others, if those are not the listener's.
    #[must_use]
    pub fn client_pair(&self) -> Option<(PathBuf, PathBuf)> {
        let named = [&self.client_cert_file, &self.client_key_file]
            .map(|path| !path.as_os_str().is_empty());
        named.contains(&true).then(|| (self.client_cert_file.clone(), self.client_key_file.clone()))
    }
}

/// How to find the other members of a new cluster through an etcd that runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryFlags {
    /// `--discovery-token`.
    pub token: String,
    /// `--discovery-endpoints`.
    pub endpoints: Vec<String>,
    /// `--discovery-dial-timeout`.
    pub dial_timeout: Duration,
    /// `--discovery-request-timeout`.
    pub request_timeout: Duration,
    /// `--discovery-keepalive-time`.
    pub keepalive_time: Duration,
    /// `--discovery-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// `--discovery-insecure-transport`.
    pub insecure_transport: bool,
    /// `--discovery-insecure-skip-tls-verify`.
    pub insecure_skip_tls_verify: bool,
    /// `--discovery-cert`.
    pub cert_file: PathBuf,
    /// `--discovery-key`.
    pub key_file: PathBuf,
    /// `--discovery-cacert`.
    pub trusted_ca_file: PathBuf,
    /// `--discovery-user`: `user[:password]`.
    pub user: String,
    /// `--discovery-password`.
    pub password: String,
    /// `--discovery-fallback`.
    pub fallback: String,
    /// `--discovery-srv`: a DNS domain.
    pub srv_domain: String,
    /// `--discovery-srv-name`.
    pub srv_name: String,
}

impl DiscoveryFlags {
    /// Whether any flag asks for TLS; if not, the endpoints' schemes decide.
    #[must_use]
    pub fn asks_for_tls(&self) -> bool {
        let files = [&self.cert_file, &self.key_file, &self.trusted_ca_file];
        files.iter().any(|path| !path.as_os_str().is_empty())
            || !self.insecure_transport
            || self.insecure_skip_tls_verify
    }
}

impl Default for DiscoveryFlags {
    fn default() -> Self {
        Self {
            token: String::new(),
            endpoints: Vec::new(),
            dial_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            insecure_transport: true,
            insecure_skip_tls_verify: false,
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            trusted_ca_file: PathBuf::new(),
            user: String::new(),
            password: String::new(),
            fallback: "exit".into(),
            srv_domain: String::new(),
            srv_name: String::new(),
        }
    }
}
