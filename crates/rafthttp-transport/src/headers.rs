//! The headers of the peer protocol, and the checks of who is talking (operations.md §6.1, §6.6).

use std::collections::HashSet;

use etcdrs_types::{ClusterId, MemberId};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;

use crate::config::Config;
use crate::url::PeerUrl;

pub(crate) const CLUSTER_ID: &str = "x-etcd-cluster-id";
pub(crate) const SERVER_FROM: &str = "x-server-from";
pub(crate) const SERVER_VERSION: &str = "x-server-version";
pub(crate) const MIN_CLUSTER_VERSION: &str = "x-min-cluster-version";
pub(crate) const RAFT_TO: &str = "x-raft-to";
pub(crate) const PEER_URLS: &str = "x-peerurls";
/// Names the layout of our frames. A Go member does not send it and could not read them.
pub(crate) const FORMAT: &str = "x-etcdrs-format";
pub(crate) const FORMAT_NOW: &str = "1";
/// Place of a stream or `POST` in the order of its lane.
pub(crate) const PLACE: &str = "x-etcdrs-place";
/// Lane of a `POST`.
pub(crate) const LANE: &str = "x-etcdrs-lane";

pub(crate) const INCOMPATIBLE_VERSION: &str = "incompatible version";
pub(crate) const CLUSTER_ID_MISMATCH: &str = "cluster ID mismatch";

/// Most refusals that are remembered in order to log each once.
const REFUSALS_MAX: usize = 1024;

/// Major and minor version; patches don't matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-', '+']);
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next()?.parse::<u64>().ok()?;
        Some(Self(major, minor))
    }

    /// A member that says nothing is as old as the header.
    fn of(headers: &HeaderMap, name: &str) -> Option<Self> {
        Self::parse(headers.get(name).map_or(Ok("2.0.0"), HeaderValue::to_str).ok()?)
    }
}

/// Who we are, and what we accept.
pub(crate) struct Identity {
    pub(crate) member: MemberId,
    cluster: ClusterId,
    base: HeaderMap,
    server: Version,
    min_cluster: Version,
    refusals: Mutex<HashSet<(MemberId, &'static str)>>,
}

impl Identity {
    /// Versions that are no versions count as the oldest: everybody refuses them.
    pub(crate) fn new(config: &Config) -> Self {
        let mut base = HeaderMap::new();
        let mut set = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                base.insert(name, value);
            }
        };
        set(SERVER_FROM, &config.member.to_string());
        set(SERVER_VERSION, &config.server_version);
        set(MIN_CLUSTER_VERSION, &config.min_cluster_version);
        set(CLUSTER_ID, &config.cluster.to_string());
        set(FORMAT, FORMAT_NOW);
        if !config.peer_urls.is_empty() {
            set(PEER_URLS, &config.peer_urls.join(","));
        }
        Self {
            member: config.member,
            cluster: config.cluster,
            base,
            server: Version::parse(&config.server_version).unwrap_or(Version(0, 0)),
            min_cluster: Version::parse(&config.min_cluster_version).unwrap_or(Version(0, 0)),
            refusals: Mutex::default(),
        }
    }

    /// Headers of a request to `to` at `url`.
    pub(crate) fn request(&self, to: MemberId, url: &PeerUrl) -> HeaderMap {
        let mut headers = self.base.clone();
        if let Ok(host) = HeaderValue::from_str(&url.authority()) {
            headers.insert(header::HOST, host);
        }
        let to = HeaderValue::from_str(&to.to_string()).expect("hex digits are a header value");
        headers.insert(RAFT_TO, to);
        headers
    }

    /// Adds what every answer carries.
    pub(crate) fn mark_answer(&self, headers: &mut HeaderMap) {
        headers.insert(CLUSTER_ID, self.base[CLUSTER_ID].clone());
    }

    /// Adds what the answer to a stream's request carries.
    pub(crate) fn mark_stream(&self, headers: &mut HeaderMap) {
        self.mark_answer(headers);
        for name in [SERVER_VERSION, FORMAT] {
            if let Some(value) = self.base.get(name) {
                headers.insert(name, value.clone());
            }
        }
    }

    /// Whether the sender's version and cluster fit ours; the text of the refusal if not.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let versions =
            Version::of(headers, SERVER_VERSION).zip(Version::of(headers, MIN_CLUSTER_VERSION));
        let fits =
            |(server, min): (Version, Version)| server >= self.min_cluster && self.server >= min;
        let sender = member(headers, SERVER_FROM).unwrap_or_default();
        if !versions.is_some_and(fits) {
            self.log_refusal(sender, INCOMPATIBLE_VERSION, headers);
            return Err(INCOMPATIBLE_VERSION);
        }
        if headers.get(CLUSTER_ID) != self.base.get(CLUSTER_ID) {
            self.log_refusal(sender, CLUSTER_ID_MISMATCH, headers);
            return Err(CLUSTER_ID_MISMATCH);
        }
        Ok(())
    }

    /// Whether a request that names its target means us.
    pub(crate) fn is_target(&self, headers: &HeaderMap) -> bool {
        member(headers, RAFT_TO) == Some(self.member)
    }

    /// Logs the first refusal of a sender for a reason. It will try again ten times a second.
    pub(crate) fn log_refusal(&self, from: MemberId, reason: &'static str, headers: &HeaderMap) {
        let mut refusals = self.refusals.lock();
        if refusals.len() >= REFUSALS_MAX || !refusals.insert((from, reason)) {
            return;
        }
        drop(refusals);
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        tracing::warn!(
            local_member_id = %self.member,
            local_member_cluster_id = %self.cluster,
            remote_peer_id = %from,
            remote_peer_cluster_id = text(CLUSTER_ID),
            remote_peer_server_version = text(SERVER_VERSION),
            remote_peer_server_minimum_cluster_version = text(MIN_CLUSTER_VERSION),
            error = reason,
            "refused a request of a remote peer"
        );
    }

    /// Forgets the refusals of a sender that was just accepted, so that the next one is news.
    pub(crate) fn accepted(&self, from: MemberId) {
        let mut refusals = self.refusals.lock();
        if !refusals.is_empty() {
            refusals.retain(|(member, _)| *member != from);
        }
    }
}

/// A member's id in a header.
pub(crate) fn member(headers: &HeaderMap, name: &str) -> Option<MemberId> {
    parse_member(headers.get(name)?.to_str().ok()?)
}

/// A member's id as etcd writes it: hex.
pub(crate) fn parse_member(text: &str) -> Option<MemberId> {
    // `from_str_radix` would take a sign.
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok().map(MemberId)
}

/// The URLs the sender can be reached at.
pub(crate) fn peer_urls(headers: &HeaderMap) -> Option<Vec<String>> {
    let text = headers.get(PEER_URLS)?.to_str().ok()?;
    (!text.is_empty()).then(|| text.split(',').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connect::PlainTcp;

    fn config(server: &str, min: &str, cluster: u64) -> Config {
        let mut config =
            Config::new(MemberId(0xa), ClusterId(cluster), Arc::new(PlainTcp::default()));
        config.server_version = server.into();
        config.min_cluster_version = min.into();
        config
    }

    #[track_caller]
    fn check(sender: (&str, &str, u64), want: Result<(), &str>) {
        let ours = Identity::new(&config("3.7.1", "3.0.0", 7));
        let sender = Identity::new(&config(sender.0, sender.1, sender.2));
        let url = "http://a:1".parse().unwrap();
        assert_eq!(ours.check(&sender.request(MemberId(0xa), &url)), want);
    }

    /// T37: operations.md §6.6.
    #[test]
    fn t37_versions_and_clusters_must_fit() {
        check(("3.7.1", "3.0.0", 7), Ok(()));
        check(("3.0.0", "3.0.0", 7), Ok(()));
        check(("3.8.0-alpha.1", "3.7.9", 7), Ok(()));
        check(("2.3.8", "2.1.0", 7), Err(INCOMPATIBLE_VERSION));
        check(("3.8.0", "3.8.0", 7), Err(INCOMPATIBLE_VERSION));
        check(("three", "3.0.0", 7), Err(INCOMPATIBLE_VERSION));
        check(("3.7.1", "3.0.0", 8), Err(CLUSTER_ID_MISMATCH));
        check(("2.3.8", "2.1.0", 8), Err(INCOMPATIBLE_VERSION));
    }

    #[test]
    fn ids_are_hex_without_sign() {
        assert_eq!(parse_member("8e9e05c52164694d"), Some(MemberId(0x8e9e_05c5_2164_694d)));
        for text in ["", "zz", "+1", "-1", "11112222333344445"] {
            assert_eq!(parse_member(text), None, "{text}");
        }
    }
}
