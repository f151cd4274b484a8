//! What single values cannot show: whether they fit together (operations.md §1.12).

use std::time::Duration;

use etcdrs_types::limits;

use super::flags;
use super::{Config, Url};

/// Flags that are read but that nothing acts upon yet. They are refused when they are set to
/// anything but their default: to ignore them would be to promise what is not kept. Whoever makes
/// one work takes its name off.
const NOT_YET: &[&str] = &[
    "initial-election-tick-advance",
    "cors",
    "host-whitelist",
    "auth-token",
    "auth-token-ttl",
    "bcrypt-cost",
];

/// What is left of a lease is recorded in whole seconds.
const LEASE_CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(1);

impl Config {
    /// Checks what single values cannot show, in etcd's words and order where it has some: the
    /// first failure wins.
    ///
    /// # Errors
    ///
    /// A text that names the flags and what to change.
    pub fn check(&self) -> Result<(), String> {
        if self.logger != "zap" {
            return Err(format!("unknown logger option {:?}", self.logger));
        }
        self.check_urls()?;
        self.check_bootstrap()?;
        self.check_timing()?;
        if self.advertise_client_urls.is_empty() {
            return Err(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                    .into(),
            );
        }
        self.retention()?;
        self.feature_gates.check()?;
        self.check_tls()?;
        self.check_ours()
    }

    fn check_urls(&self) -> Result<(), String> {
        let bound = [&self.listen_peer_urls, &self.listen_client_urls, &self.listen_metrics_urls];
        bound.into_iter().flatten().try_for_each(Url::check_listen)?;
        for (flag, urls) in [
            ("initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
            ("advertise-client-urls", &self.advertise_client_urls),
        ] {
            urls.iter().try_for_each(Url::check_advertise).map_err(|why| {
                let urls = urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",");
                format!("--{flag} {urls:?} must be \"host:port\" ({why})")
            })?;
        }
        Ok(())
    }

    /// How the first members are found: by one way only.
    fn check_bootstrap(&self) -> Result<(), String> {
        if !matches!(self.initial_cluster_state.as_str(), "new" | "existing") {
            return Err(format!("unexpected clusterState {:?}", self.initial_cluster_state));
        }
        let discovery = &self.discovery;
        let ways = [
            !self.initial_cluster.is_empty(),
            !discovery.endpoints.is_empty(),
            !discovery.srv_domain.is_empty(),
        ];
        if ways.into_iter().filter(|&used| used).count() > 1 {
            return Err("multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"".into());
        }
        if discovery.token.is_empty() != discovery.endpoints.is_empty() {
            return Err("both --discovery-token and --discovery-endpoints must be set".into());
        }
        if discovery.endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
            return Err("--discovery-endpoints must not contain empty endpoints".into());
        }
        if discovery.fallback == "proxy" {
            return Err(
                "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\""
                    .into(),
            );
        }
        Ok(())
    }

    fn check_timing(&self) -> Result<(), String> {
        let (heartbeat, election) = (self.heartbeat.as_millis(), self.election.as_millis());
        if heartbeat == 0 {
            return Err("--heartbeat-interval must be >0 (set to 0ms)".into());
        }
        if election == 0 {
            return Err("--election-timeout must be >0 (set to 0ms)".into());
        }
        if 5 * heartbeat > election {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > u128::from(limits::ELECTION_MS_MAX) {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {}ms",
                limits::ELECTION_MS_MAX
            ));
        }
        Ok(())
    }

    /// Files and names are for those who open and use them to check.
    fn check_tls(&self) -> Result<(), String> {
        for version in [&self.tls_min_version, &self.tls_max_version] {
            if !matches!(version.as_str(), "" | "TLS1.2" | "TLS1.3") {
                return Err(format!(
                    "unexpected TLS version {version:?} (must be one of: TLS1.2, TLS1.3)"
                ));
            }
        }
        let (least, most) = (&self.tls_min_version, &self.tls_max_version);
        if !most.is_empty() && least > most {
            return Err(format!("min version ({least}) is greater than max version ({most})"));
        }
        if least == "TLS1.3" && !self.cipher_suites.is_empty() {
            return Err("cipher suites cannot be configured when only TLS1.3 is enabled".into());
        }
        let makes_own = self.client_tls.auto || self.peer_tls.auto;
        if makes_own && self.self_signed_cert_validity_years == 0 {
            return Err("selfSignedCertValidity is invalid,it should be greater than 0".into());
        }
        Ok(())
    }

    /// What etcd has no words for.
    fn check_ours(&self) -> Result<(), String> {
        if self.progress_interval < limits::WATCH_PROGRESS_INTERVAL_MIN {
            return Err("--watch-progress-notify-interval must be at least 100ms".into());
        }
        if self.txn_ops_max == 0 || self.request_bytes_max == 0 || self.compaction_batch == 0 {
            return Err(
                "--max-txn-ops, --max-request-bytes and --compaction-batch-limit must be >0".into(),
            );
        }
        if self.lease_checkpoint_interval < LEASE_CHECKPOINT_INTERVAL_MIN {
            return Err("--lease-checkpoint-interval must be at least 1s".into());
        }
        if self.listen_client_urls.is_empty() {
            return Err("--listen-client-urls names no URL".into());
        }
        let default = Self::default();
        for flag in NOT_YET.iter().filter_map(|name| flags::find(name)) {
            if (flag.get)(self) != (flag.get)(&default) {
                return Err(format!("--{} is not available in this version", flag.name));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
