//! The table of flags: the parser, the help text and the environment all read it.

use std::fmt::Write as _;

use super::{Config, FeatureGates, Url, duration};

/// Headings of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What a member is and does.
    Member,
    /// How a cluster comes to be.
    Clustering,
    /// Who may speak to a member, and how.
    Security,
    /// What is logged.
    Logging,
    /// What etcd does not have.
    Ours,
    /// What is better left alone.
    Unsafe,
}

impl Group {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Member, "Member"),
        (Self::Clustering, "Clustering"),
        (Self::Security, "Security"),
        (Self::Logging, "Logging"),
        (Self::Ours, "Only in etcd-rs"),
        (Self::Unsafe, "Unsafe feature"),
    ];
}

/// One flag.
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// Its heading.
    pub group: Group,
    /// One line of help.
    pub help: &'static str,
    /// Whether it is a boolean, which takes a value only after `=`.
    pub boolean: bool,
    /// Shows the value of a configuration.
    pub get: fn(&Config) -> String,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

fn number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let text = text.replace('_', "");
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.and_then(|number| T::try_from(number).ok()).ok_or_else(|| "parse error".into())
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("parse error".into()),
    }
}

fn span(text: &str) -> Result<std::time::Duration, String> {
    duration::parse(text).ok_or_else(|| "parse error".into())
}

fn millis(text: &str) -> Result<std::time::Duration, String> {
    number(text).map(std::time::Duration::from_millis)
}

fn list(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

macro_rules! flags {
    ($($name:literal $group:ident $help:literal: $($field:ident).+, $parse:expr, $show:expr;)*) => {
        /// Every flag there is.
        pub const FLAGS: &[Flag] = &[$(
            Flag {
                name: $name,
                group: Group::$group,
                help: $help,
                boolean: is_boolean($name),
                get: |config| $show(&config.$($field).+),
                set: |config, text| { config.$($field).+ = $parse(text)?; Ok(()) },
            },
        )*];
    };
}

const fn is_boolean(name: &str) -> bool {
    matches!(
        name.as_bytes(),
        b"auto-tls"
            | b"client-cert-auth"
            | b"discovery-insecure-skip-tls-verify"
            | b"discovery-insecure-transport"
            | b"experimental-enable-lease-checkpoint"
            | b"experimental-enable-lease-checkpoint-persist"
            | b"force-new-cluster"
            | b"initial-election-tick-advance"
            | b"peer-auto-tls"
            | b"peer-client-cert-auth"
            | b"peer-skip-client-san-verification"
            | b"pre-vote"
            | b"strict-reconfig-check"
            | b"unsafe-no-fsync"
    )
}

fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

fn path(value: &str) -> Result<std::path::PathBuf, String> {
    Ok(value.into())
}

#[expect(clippy::ptr_arg, reason = "the table passes fields by reference")]
fn show_path(path: &std::path::PathBuf) -> String {
    path.display().to_string()
}

fn words(value: &str) -> Result<Vec<String>, String> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    Ok(value.split(',').map(str::to_owned).collect())
}

#[expect(clippy::ptr_arg, reason = "the table passes fields by reference")]
fn show_words(words: &Vec<String>) -> String {
    words.join(",")
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    number(text).map(std::time::Duration::from_secs)
}

fn show_span(span: &std::time::Duration) -> String {
    duration::format(*span)
}

fn one_of<const N: usize>(value: &str, allowed: [&str; N]) -> Result<String, String> {
    if allowed.contains(&value) {
        Ok(value.to_owned())
    } else {
        Err(format!("invalid value {value:?}, want one of {}", allowed.join(", ")))
    }
}

flags! {
    "name" Member "Human-readable name for this member.": name, text, String::clone;
    "data-dir" Member "Path to the data directory (empty: '${name}.etcd').": data_dir, path, show_path;
    "wal-dir" Member "Path to the dedicated wal directory.": wal_dir, path, show_path;
    "snapshot-count" Member "Number of committed transactions to trigger a snapshot to disk.": snapshot_count, number, u64::to_string;
    "snapshot-catchup-entries" Member "Number of entries for a slow follower to catch up after compacting the raft storage entries.": snapshot_catchup_entries, number, u64::to_string;
    "heartbeat-interval" Member "Time (in milliseconds) of a heartbeat interval.": heartbeat, millis, |d: &std::time::Duration| d.as_millis().to_string();
    "election-timeout" Member "Time (in milliseconds) for an election to timeout.": election, millis, |d: &std::time::Duration| d.as_millis().to_string();
    "initial-election-tick-advance" Member "Whether to fast-forward initial election ticks on boot for faster election.": election_tick_advance, boolean, bool::to_string;
    "raft-read-timeout" Member "Read timeout set on each rafthttp connection (5s at least).": peer_read_timeout, span, show_span;
    "raft-write-timeout" Member "Write timeout set on each rafthttp connection (5s at least).": peer_write_timeout, span, show_span;
    "listen-peer-urls" Member "List of URLs to listen on for peer traffic.": listen_peer_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "listen-client-urls" Member "List of URLs to listen on for client grpc and http traffic.": listen_client_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "listen-metrics-urls" Member "List of URLs to listen on for the /metrics, /health, /livez and /readyz endpoints.": listen_metrics_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "max-snapshots" Member "Maximum number of snapshot files to retain (0 is unlimited).": snapshots_max, number, usize::to_string;
    "max-wals" Member "Maximum number of wal files to retain (0 is unlimited).": wals_max, number, usize::to_string;
    "quota-backend-bytes" Member "Size of the backend reported as quota (0 defaults to 2147483648).": quota_bytes, |text: &str| text.parse().map_err(|_| "parse error".to_owned()), i64::to_string;
    "max-txn-ops" Member "Maximum number of operations permitted in a transaction.": txn_ops_max, number, usize::to_string;
    "max-request-bytes" Member "Maximum client request size in bytes the server will accept.": request_bytes_max, number, usize::to_string;
    "max-concurrent-streams" Member "Maximum concurrent streams that each client can open at a time.": concurrent_streams_max, number, u32::to_string;
    "grpc-keepalive-interval" Member "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable).": keepalive_interval, span, show_span;
    "grpc-keepalive-timeout" Member "Additional duration of wait before closing a non-responsive connection (0 to disable).": keepalive_timeout, span, show_span;
    "watch-progress-notify-interval" Member "Duration of periodic watch progress notifications.": progress_interval, span, show_span;
    "compaction-batch-limit" Member "Maximum revisions deleted in each compaction batch.": compaction_batch, number, usize::to_string;
    "compaction-sleep-interval" Member "Sleep interval between two compaction batches.": compaction_pause, span, show_span;
    "warning-apply-duration" Member "Time above which applying a batch is logged as slow.": warn_apply, span, show_span;
    "feature-gates" Member "Features to turn on or off: 'LeaseCheckpoint=true,...'.": feature_gates, FeatureGates::parse, FeatureGates::text;
    "experimental-enable-lease-checkpoint" Member "Former name of the feature gate LeaseCheckpoint.": experimental_lease_checkpoint, boolean, bool::to_string;
    "experimental-enable-lease-checkpoint-persist" Member "Former name of the feature gate LeaseCheckpointPersist.": experimental_lease_checkpoint_persist, boolean, bool::to_string;
    "initial-advertise-peer-urls" Clustering "List of this member's peer URLs to advertise to the rest of the cluster.": initial_advertise_peer_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "advertise-client-urls" Clustering "List of this member's client URLs to advertise to the public.": advertise_client_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "initial-cluster" Clustering "Initial cluster configuration for bootstrapping (empty: this member alone).": initial_cluster, text, String::clone;
    "initial-cluster-state" Clustering "Initial cluster state ('new' or 'existing').": initial_cluster_state, |text| one_of(text, ["new", "existing"]), String::clone;
    "initial-cluster-token" Clustering "Initial cluster token for the etcd cluster during bootstrap.": initial_cluster_token, text, String::clone;
    "pre-vote" Clustering "Whether to run an additional Raft election phase.": pre_vote, boolean, bool::to_string;
    "strict-reconfig-check" Clustering "Reject reconfiguration requests that would cause quorum loss.": strict_reconfig_check, boolean, bool::to_string;
    "max-learners" Clustering "Maximum number of learners allowed in the cluster membership.": learners_max, number, usize::to_string;
    "discovery-token" Clustering "V3 discovery: discovery token for the etcd cluster to be bootstrapped.": discovery.token, text, String::clone;
    "discovery-endpoints" Clustering "V3 discovery: list of gRPC endpoints of the discovery service.": discovery.endpoints, words, show_words;
    "discovery-dial-timeout" Clustering "V3 discovery: dial timeout for client connections.": discovery.dial_timeout, span, show_span;
    "discovery-request-timeout" Clustering "V3 discovery: timeout for discovery requests (excluding dial timeout).": discovery.request_timeout, span, show_span;
    "discovery-keepalive-time" Clustering "V3 discovery: keepalive time for client connections.": discovery.keepalive_time, span, show_span;
    "discovery-keepalive-timeout" Clustering "V3 discovery: keepalive timeout for client connections.": discovery.keepalive_timeout, span, show_span;
    "discovery-insecure-transport" Clustering "V3 discovery: disable transport security for client connections.": discovery.insecure_transport, boolean, bool::to_string;
    "discovery-insecure-skip-tls-verify" Clustering "V3 discovery: skip server certificate verification.": discovery.insecure_skip_tls_verify, boolean, bool::to_string;
    "discovery-cert" Clustering "V3 discovery: identify secure client using this TLS certificate file.": discovery.cert_file, path, show_path;
    "discovery-key" Clustering "V3 discovery: identify secure client using this TLS key file.": discovery.key_file, path, show_path;
    "discovery-cacert" Clustering "V3 discovery: verify certificates of TLS-enabled secure servers using this CA bundle.": discovery.trusted_ca_file, path, show_path;
    "discovery-user" Clustering "V3 discovery: username[:password] for authentication.": discovery.user, text, String::clone;
    "discovery-password" Clustering "V3 discovery: password for authentication (if this option is used, --discovery-user must not include the password).": discovery.password, text, String::clone;
    "discovery-fallback" Clustering "Expected behavior when discovery services fails ('exit').": discovery.fallback, |text| one_of(text, ["exit", "proxy"]), String::clone;
    "discovery-srv" Clustering "DNS srv domain used to bootstrap the cluster.": discovery.srv_domain, text, String::clone;
    "discovery-srv-name" Clustering "Suffix to the dns srv name queried when bootstrapping.": discovery.srv_name, text, String::clone;
    "auto-compaction-retention" Clustering "Auto compaction retention length (0 to disable).": auto_compaction_retention, text, String::clone;
    "auto-compaction-mode" Clustering "Interpret 'auto-compaction-retention' as one of 'periodic' or 'revision'.": auto_compaction_mode, text, String::clone;
    "v2-deprecation" Clustering "Phase of v2store deprecation (deprecated, ignored).": v2_deprecation, |text| one_of(text, ["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), String::clone;
    "cert-file" Security "Path to the client server TLS cert file.": client_tls.cert_file, path, show_path;
    "key-file" Security "Path to the client server TLS key file.": client_tls.key_file, path, show_path;
    "client-cert-file" Security "Path to an explicit client TLS cert file otherwise cert file will be used when client auth is required.": client_tls.client_cert_file, path, show_path;
    "client-key-file" Security "Path to an explicit client TLS key file otherwise key file will be used when client auth is required.": client_tls.client_key_file, path, show_path;
    "client-cert-auth" Security "Enable client cert authentication.": client_tls.client_cert_auth, boolean, bool::to_string;
    "client-crl-file" Security "Path to the client certificate revocation list file.": client_tls.crl_file, path, show_path;
    "client-cert-allowed-hostname" Security "Comma-separated list of SAN hostnames for client cert authentication.": client_tls.allowed_hostnames, words, show_words;
    "trusted-ca-file" Security "Path to the client server TLS trusted CA cert file.": client_tls.trusted_ca_file, path, show_path;
    "auto-tls" Security "Client TLS using generated certificates.": client_tls.auto, boolean, bool::to_string;
    "peer-cert-file" Security "Path to the peer server TLS cert file.": peer_tls.cert_file, path, show_path;
    "peer-key-file" Security "Path to the peer server TLS key file.": peer_tls.key_file, path, show_path;
    "peer-client-cert-file" Security "Path to an explicit peer client TLS cert file otherwise peer cert file will be used when client auth is required.": peer_tls.client_cert_file, path, show_path;
    "peer-client-key-file" Security "Path to an explicit peer client TLS key file otherwise peer key file will be used when client auth is required.": peer_tls.client_key_file, path, show_path;
    "peer-client-cert-auth" Security "Enable peer client cert authentication.": peer_tls.client_cert_auth, boolean, bool::to_string;
    "peer-trusted-ca-file" Security "Path to the peer server TLS trusted CA file.": peer_tls.trusted_ca_file, path, show_path;
    "peer-crl-file" Security "Path to the peer certificate revocation list file.": peer_tls.crl_file, path, show_path;
    "peer-auto-tls" Security "Peer TLS using self-generated certificates.": peer_tls.auto, boolean, bool::to_string;
    "peer-cert-allowed-cn" Security "Comma-separated list of allowed CNs for inter-peer TLS authentication.": peer_tls.allowed_cns, words, show_words;
    "peer-cert-allowed-hostname" Security "Comma-separated list of allowed SAN hostnames for inter-peer TLS authentication.": peer_tls.allowed_hostnames, words, show_words;
    "peer-skip-client-san-verification" Security "Skip verification of SAN field in client certificate for peer connections.": peer_tls.skip_client_san_verification, boolean, bool::to_string;
    "self-signed-cert-validity" Security "The validity period, in years, of the certificates that auto TLS generates.": self_signed_cert_validity_years, number, u32::to_string;
    "cipher-suites" Security "Comma-separated list of supported TLS cipher suites between client/server and peers (empty: all).": cipher_suites, words, show_words;
    "tls-min-version" Security "Minimum TLS version supported by etcd: TLS1.2 or TLS1.3.": tls_min_version, text, String::clone;
    "tls-max-version" Security "Maximum TLS version supported by etcd (empty: the newest).": tls_max_version, text, String::clone;
    "cors" Security "Comma-separated whitelist of origins for CORS, or cross-origin resource sharing (empty or *: all).": cors, text, String::clone;
    "host-whitelist" Security "Acceptable hostnames from HTTP client requests, if server is not secure (empty or *: all).": host_whitelist, text, String::clone;
    "auth-token" Security "Specify auth token type and its options.": auth_token, text, String::clone;
    "auth-token-ttl" Security "Time (in seconds) of the auth-token-ttl.": auth_token_ttl, seconds, |d: &std::time::Duration| d.as_secs().to_string();
    "bcrypt-cost" Security "Cost / strength of the bcrypt algorithm for hashing auth passwords (4 to 31).": bcrypt_cost, number, u32::to_string;
    "logger" Logging "Currently only supports 'zap' for structured logging.": logger, text, String::clone;
    "log-level" Logging "Log level: debug, info, warn, error, panic, or fatal.": log_level, |text| one_of(text, ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]), String::clone;
    "log-format" Logging "Log format: json or console.": log_format, |text| one_of(text, ["json", "console"]), String::clone;
    "log-outputs" Logging "Log output: default, stderr or stdout.": log_outputs, |text| one_of(text, ["default", "stderr", "stdout"]), String::clone;
    "memory-budget" Ours "Bytes for newest values, recent events, the log, memtables and blocks together (0: a quarter of the machine).": memory_budget_bytes, number, u64::to_string;
    "disk-reserve-bytes" Ours "Bytes of disk kept for deletes and compaction; with less than as much free beside them, writes stop with NOSPACE (0: off).": disk_reserve_bytes, number, u64::to_string;
    "lease-checkpoint-interval" Ours "How often the leader records what is left of leases, with the feature gate LeaseCheckpoint.": lease_checkpoint_interval, span, show_span;
    "force-new-cluster" Unsafe "Force to create a new one-member cluster.": force_new_cluster, boolean, bool::to_string;
    "unsafe-no-fsync" Unsafe "Disables fsync, unsafe, will cause data loss.": no_fsync, boolean, bool::to_string;
}

/// The flag of a name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The help text.
#[must_use]
pub fn usage() -> String {
    let mut text = String::from(
        "Usage:\n\n  etcd-rs [flags]\n    Start an etcd-rs server.\n\n  etcd-rs --version\n    Show the version of etcd-rs.\n\n  etcd-rs -h | --help\n    Show the help information about etcd-rs.\n",
    );
    let defaults = Config::default();
    for (group, heading) in Group::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{heading}:");
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            let default = (flag.get)(&defaults);
            let _ = writeln!(text, "  --{} '{default}'\n    {}", flag.name, flag.help);
        }
    }
    text
}
