//! Tests of the checks: each refusal, and which one comes first.

use std::time::Duration;

use super::*;
use crate::config::FLAGS;

/// What the check says of the defaults with these flags set.
fn check(settings: &[(&str, &str)]) -> Result<(), String> {
    let mut config = Config::default();
    for (name, value) in settings {
        let flag = flags::find(name).unwrap_or_else(|| panic!("no flag {name}"));
        (flag.set)(&mut config, value)?;
    }
    config.check()
}

#[track_caller]
fn refused(settings: &[(&str, &str)], why: &str) {
    assert_eq!(check(settings), Err(why.to_owned()), "{settings:?}");
}

#[test]
fn the_defaults_and_what_articles_use_are_fine() {
    assert_eq!(check(&[]), Ok(()));
    let three = "a=http://localhost:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380";
    assert_eq!(
        check(&[
            ("name", "a"),
            ("initial-cluster", three),
            ("initial-cluster-token", "tkn"),
            ("initial-cluster-state", "existing"),
            ("logger", "zap"),
            ("log-outputs", "stderr"),
            ("v2-deprecation", "gone"),
        ]),
        Ok(())
    );
}

#[test]
fn every_scheme_can_be_listened_on() {
    for scheme in ["unix:///run/a", "unixs:///run/a", "https://127.0.0.1:1"] {
        assert_eq!(check(&[("listen-peer-urls", scheme), ("listen-client-urls", scheme)]), Ok(()));
    }
}

#[test]
fn urls_that_nobody_can_bind_or_reach() {
    refused(
        &[("listen-peer-urls", "http://foo.bar:33301")],
        "expected IP in URL for binding (http://foo.bar:33301)",
    );
    refused(
        &[("initial-advertise-peer-urls", "http://:33302")],
        "--initial-advertise-peer-urls \"http://:33302\" must be \"host:port\" (unexpected empty host (http://:33302))",
    );
    refused(
        &[("advertise-client-urls", "http://a:1,http://:2")],
        "--advertise-client-urls \"http://:2,http://a:1\" must be \"host:port\" (unexpected empty host (http://:2))",
    );
}

#[test]
fn one_way_to_find_the_members() {
    let conflict = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"";
    let initial = ("initial-cluster", "default=http://localhost:2380");
    let token = ("discovery-token", "t");
    let endpoints = ("discovery-endpoints", "http://d:2379");
    let srv = ("discovery-srv", "example.com");
    refused(&[initial, srv], conflict);
    refused(&[initial, token, endpoints], conflict);
    refused(&[srv, token, endpoints], conflict);
    let both = "both --discovery-token and --discovery-endpoints must be set";
    refused(&[token], both);
    refused(&[endpoints], both);
    refused(
        &[token, ("discovery-endpoints", "http://d:2379, ")],
        "--discovery-endpoints must not contain empty endpoints",
    );
    refused(
        &[("discovery-fallback", "proxy")],
        "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
    );
    let config = Config { initial_cluster_state: "x".into(), ..Config::default() };
    assert_eq!(config.check(), Err("unexpected clusterState \"x\"".into()));
}

#[test]
fn compaction_mode_logger_and_tls() {
    refused(&[("auto-compaction-mode", "foo")], "unknown auto-compaction-mode \"foo\"");
    refused(&[("auto-compaction-mode", "")], "undefined auto-compaction-mode");
    refused(&[("logger", "capnslog")], "unknown logger option \"capnslog\"");
    refused(
        &[("tls-min-version", "TLS1.1")],
        "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
    );
    refused(
        &[("tls-min-version", "TLS1.3"), ("tls-max-version", "TLS1.2")],
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    );
    refused(
        &[("tls-min-version", "TLS1.3"), ("cipher-suites", "TLS_AES_128_GCM_SHA256")],
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    );
    refused(
        &[("self-signed-cert-validity", "0"), ("auto-tls", "true")],
        "selfSignedCertValidity is invalid,it should be greater than 0",
    );
}

#[test]
fn the_first_failure_in_etcds_order_wins() {
    // Each of these fails by itself; taking away the first lets the next one speak.
    let mut all = vec![
        ("logger", "x", "unknown logger option"),
        ("listen-client-urls", "http://foo:1", "expected IP in URL"),
        ("initial-advertise-peer-urls", "http://:1", "--initial-advertise-peer-urls"),
        ("discovery-token", "t", "both --discovery-token"),
        ("heartbeat-interval", "0", "--heartbeat-interval must be >0"),
        ("advertise-client-urls", "", "--advertise-client-urls is required"),
        ("auto-compaction-mode", "x", "unknown auto-compaction-mode"),
        ("tls-min-version", "x", "unexpected TLS version"),
        ("max-txn-ops", "0", "--max-txn-ops"),
    ];
    while let Some((_, _, text)) = all.first() {
        let settings: Vec<_> = all.iter().map(|(name, value, _)| (*name, *value)).collect();
        let error = check(&settings).expect_err("refused");
        assert!(error.starts_with(text), "{error}");
        all.remove(0);
    }
}

#[test]
fn what_nothing_acts_upon_is_refused_by_name() {
    for name in NOT_YET {
        assert!(FLAGS.iter().any(|flag| flag.name == *name), "{name} is no flag");
    }
    refused(&[("cors", "http://a")], "--cors is not available in this version");
    // To say the default aloud is fine.
    assert_eq!(check(&[("cors", "*"), ("raft-read-timeout", "5s")]), Ok(()));
}

#[test]
fn the_initial_cluster_of_the_flags() {
    let urls = Url::parse_list("http://10.0.0.1:2380").expect("urls");
    let mut config =
        Config { name: "a".into(), initial_advertise_peer_urls: urls.clone(), ..Config::default() };
    let alone = super::super::InitialCluster::of("a", &urls);
    assert_eq!(config.initial_cluster(), Ok((alone.clone(), "etcd-cluster")));
    config.discovery.endpoints = vec!["http://d:1".into()];
    config.discovery.token = "tk".into();
    assert_eq!(config.initial_cluster(), Ok((alone, "tk")));
    config.discovery =
        super::super::DiscoveryFlags { dial_timeout: Duration::from_secs(1), ..Default::default() };
    config.initial_cluster = "a=nothing".into();
    assert_eq!(
        config.initial_cluster(),
        Err("error setting up initial cluster: URL scheme must be http, https, unix, or unixs: nothing".into())
    );
}
