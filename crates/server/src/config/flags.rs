//! The table of flags: the parser, the help text and the environment all read it.

use std::fmt::Write as _;

use super::{Config, Url, duration};

/// Headings of the help text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What a member is and does.
    Member,
    /// How a cluster comes to be.
    Clustering,
    /// What is logged.
    Logging,
    /// What etcd does not have.
    Ours,
    /// What is better left alone.
    Unsafe,
}

impl Group {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Member, "Member"),
        (Self::Clustering, "Clustering"),
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

fn boolean(text: &str) -> Result<bool, String> {
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
    ($($name:literal $group:ident $help:literal: $field:ident, $parse:expr, $show:expr;)*) => {
        /// Every flag there is.
        pub const FLAGS: &[Flag] = &[$(
            Flag {
                name: $name,
                group: Group::$group,
                help: $help,
                boolean: is_boolean($name),
                get: |config| $show(&config.$field),
                set: |config, text| { config.$field = $parse(text)?; Ok(()) },
            },
        )*];
    };
}

const fn is_boolean(name: &str) -> bool {
    matches!(name.as_bytes(), b"pre-vote" | b"unsafe-no-fsync")
}

fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

fn path(value: &str) -> Result<std::path::PathBuf, String> {
    Ok(value.into())
}

fn show_path(path: &std::path::Path) -> String {
    path.display().to_string()
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
    "data-dir" Member "Path to the data directory (empty: '${name}.etcd').": data_dir, path, |dir: &std::path::PathBuf| show_path(dir);
    "wal-dir" Member "Path to the dedicated wal directory.": wal_dir, path, |dir: &std::path::PathBuf| show_path(dir);
    "snapshot-count" Member "Number of committed transactions to trigger a snapshot to disk.": snapshot_count, number, u64::to_string;
    "snapshot-catchup-entries" Member "Number of entries for a slow follower to catch up after compacting the raft storage entries.": snapshot_catchup_entries, number, u64::to_string;
    "heartbeat-interval" Member "Time (in milliseconds) of a heartbeat interval.": heartbeat, millis, |d: &std::time::Duration| d.as_millis().to_string();
    "election-timeout" Member "Time (in milliseconds) for an election to timeout.": election, millis, |d: &std::time::Duration| d.as_millis().to_string();
    "listen-peer-urls" Member "List of URLs to listen on for peer traffic.": listen_peer_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "listen-client-urls" Member "List of URLs to listen on for client grpc and http traffic.": listen_client_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "listen-metrics-urls" Member "List of URLs to listen on for the /metrics, /health, /livez and /readyz endpoints.": listen_metrics_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "max-snapshots" Member "Maximum number of snapshot files to retain (0 is unlimited).": snapshots_max, number, usize::to_string;
    "max-wals" Member "Maximum number of wal files to retain (0 is unlimited).": wals_max, number, usize::to_string;
    "quota-backend-bytes" Member "Size of the backend reported as quota (0 defaults to 2147483648).": quota_bytes, |text: &str| text.parse().map_err(|_| "parse error".to_owned()), i64::to_string;
    "max-txn-ops" Member "Maximum number of operations permitted in a transaction.": txn_ops_max, number, usize::to_string;
    "max-request-bytes" Member "Maximum client request size in bytes the server will accept.": request_bytes_max, number, usize::to_string;
    "max-concurrent-streams" Member "Maximum concurrent streams that each client can open at a time.": concurrent_streams_max, number, u32::to_string;
    "grpc-keepalive-interval" Member "Frequency duration of server-to-client ping to check if a connection is alive (0 to disable).": keepalive_interval, span, |d: &std::time::Duration| duration::format(*d);
    "grpc-keepalive-timeout" Member "Additional duration of wait before closing a non-responsive connection (0 to disable).": keepalive_timeout, span, |d: &std::time::Duration| duration::format(*d);
    "watch-progress-notify-interval" Member "Duration of periodic watch progress notifications.": progress_interval, span, |d: &std::time::Duration| duration::format(*d);
    "compaction-batch-limit" Member "Maximum revisions deleted in each compaction batch.": compaction_batch, number, usize::to_string;
    "compaction-sleep-interval" Member "Sleep interval between two compaction batches.": compaction_pause, span, |d: &std::time::Duration| duration::format(*d);
    "warning-apply-duration" Member "Time above which applying a batch is logged as slow.": warn_apply, span, |d: &std::time::Duration| duration::format(*d);
    "initial-advertise-peer-urls" Clustering "List of this member's peer URLs to advertise to the rest of the cluster.": initial_advertise_peer_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "advertise-client-urls" Clustering "List of this member's client URLs to advertise to the public.": advertise_client_urls, Url::parse_list, |urls: &Vec<Url>| list(urls);
    "initial-cluster" Clustering "Initial cluster configuration for bootstrapping (empty: this member alone).": initial_cluster, text, String::clone;
    "initial-cluster-state" Clustering "Initial cluster state ('new' or 'existing').": initial_cluster_state, |text| one_of(text, ["new", "existing"]), String::clone;
    "initial-cluster-token" Clustering "Initial cluster token for the etcd cluster during bootstrap.": initial_cluster_token, text, String::clone;
    "pre-vote" Clustering "Whether to run an additional Raft election phase.": pre_vote, boolean, bool::to_string;
    "log-level" Logging "Log level: debug, info, warn, error, panic, or fatal.": log_level, |text| one_of(text, ["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]), String::clone;
    "log-format" Logging "Log format: json or console.": log_format, |text| one_of(text, ["json", "console"]), String::clone;
    "log-outputs" Logging "Log output: default, stderr or stdout.": log_outputs, |text| one_of(text, ["default", "stderr", "stdout"]), String::clone;
    "memory-budget" Ours "Bytes for newest values, recent events, the log, memtables and blocks together (0: a quarter of the machine).": memory_budget_bytes, number, u64::to_string;
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
