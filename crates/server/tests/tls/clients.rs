//! Client ports: who is let in, what follows the files, and what the schemes mean.

use std::fs;
use std::io::{Read as _, Write as _};

use etcdrs_client::WatchOptions;
use etcdrs_server::{Config, Server, Url};
use etcdrs_tls::{ClientTlsInfo, ServerTlsInfo, TlsVersion};
use rcgen::ExtendedKeyUsagePurpose as Usage;

use crate::harness::{LIMIT, Setup, connect, free_port, works};
use crate::pki::{Leaf, Pki, client, server};

const REJECTED: &str = "rejected connection on client endpoint";

/// Row 63 of reliability.md §5.
#[tokio::test]
async fn bad_certificates_are_refused_while_others_go_on() {
    let (pki, other) = (Pki::new(), Pki::new());
    let crl = pki.write("revoked.crl", pki.revocations(&[66]));
    let info = ServerTlsInfo { crl_file: Some(crl), ..pki.strict_server() };
    let setup =
        Setup::secure().tls("", &info).flag("client-cert-allowed-hostname", "client.example");
    let mut member = setup.start().await;
    let good = member.client(&pki.client_with(&client())).await;
    works(&good).await.unwrap();
    let mut watcher = good.watch(WatchOptions::key("key")).await.unwrap();

    let trusting =
        |info: ClientTlsInfo| ClientTlsInfo { trusted_ca_file: Some(pki.path("ca.pem")), ..info };
    let stranger = trusting(other.client_with(&client()));
    member.refuses(&stranger, "x509: certificate signed by unknown authority").await;
    let old = Leaf { expired: true, ..client() };
    member.refuses(&pki.client_with(&old), "x509: certificate has expired").await;
    let revoked = Leaf { serial: 66, ..client() };
    member.refuses(&pki.client_with(&revoked), "certificate serial 42 revoked").await;
    let elsewhere = Leaf { names: vec!["other.example"], ..client() };
    member.refuses(&pki.client_with(&elsewhere), "client certificate authentication failed").await;
    let for_servers = Leaf { usages: vec![Usage::ServerAuth], ..client() };
    member.refuses(&pki.client_with(&for_servers), "incompatible key usage").await;
    member.refuses(&pki.client(), "tls: client didn't provide a certificate").await;
    assert!(
        member
            .log()
            .lines()
            .filter(|line| line.contains("\"level\":\"warn\""))
            .all(|line| line.contains(REJECTED) && line.contains("\"remote-addr\":\"127.0.0.1:"))
    );

    works(&good).await.unwrap();
    let event = tokio::time::timeout(LIMIT, watcher.next()).await.unwrap().unwrap();
    assert!(event.is_some_and(|answer| !answer.events.is_empty()));
}

#[tokio::test]
async fn files_that_are_replaced_count_without_a_restart() {
    let pki = Pki::new();
    let crl = pki.write("revoked.crl", pki.revocations(&[1]));
    let info = ServerTlsInfo { crl_file: Some(crl.clone()), ..pki.strict_server() };
    let mut member = Setup::secure().tls("", &info).start().await;
    let tls = pki.client_with(&client());
    let early = member.client(&tls).await;
    works(&early).await.unwrap();

    // The client is revoked: new connections are refused, the one that is there stays.
    fs::write(&crl, pki.revocations(&[1, client().serial])).unwrap();
    member.refuses(&tls, "certificate serial 2a revoked").await;
    works(&early).await.unwrap();
    fs::write(&crl, pki.revocations(&[1])).unwrap();
    member.serves(&tls).await.unwrap();

    // Another certificate of the server, for another name.
    let renamed = Leaf { names: vec!["renamed.example", "127.0.0.1"], ..server() };
    pki.issue("server", &renamed);
    let name = Some("renamed.example".to_owned());
    member.serves(&ClientTlsInfo { server_name: name, ..tls.clone() }).await.unwrap();
    // One without its key changes nothing.
    fs::write(pki.path("server.key"), "no key").unwrap();
    member.serves(&tls).await.unwrap();
}

#[tokio::test]
async fn versions_can_be_limited() {
    let pki = Pki::new();
    let with = |min, max| ClientTlsInfo { min_version: min, max_version: max, ..pki.client() };
    let (old, new) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    let setup = Setup::secure().tls("", &pki.server());
    let member = setup.clone().flag("tls-max-version", "TLS1.2").start().await;
    member.serves(&with(old, None)).await.unwrap();
    member.serves(&with(new, None)).await.unwrap_err();
    drop(member);
    let mut member = setup.clone().flag("tls-min-version", "TLS1.3").start().await;
    member.serves(&with(None, new)).await.unwrap();
    member.refuses(&with(None, old), REJECTED).await;
    drop(member);
    let suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
    let member = setup.clone().flag("cipher-suites", suite).start().await;
    member.serves(&with(None, old)).await.unwrap();
    let bad = setup.flag("cipher-suites", "TLS_RSA_WITH_AES_128_CBC_SHA").spawn().ended().await;
    assert!(bad.contains("TLS_RSA_WITH_AES_128_CBC_SHA\\\" is not supported"), "{bad}");
}

#[tokio::test]
async fn auto_tls_encrypts_for_whoever_takes_the_certificate() {
    let member = Setup::secure().flag("auto-tls", true).start().await;
    member
        .serves(&ClientTlsInfo { insecure_skip_verify: true, ..ClientTlsInfo::default() })
        .await
        .unwrap();
    let cert = member.dir().join("data/fixtures/client/cert.pem");
    let told = ClientTlsInfo { trusted_ca_file: Some(cert), ..ClientTlsInfo::default() };
    member.serves(&told).await.unwrap();
}

#[tokio::test]
async fn one_port_can_be_both_and_sockets_work_like_ports() {
    let pki = Pki::new();
    let mut setup = Setup::secure().tls("", &pki.server());
    let secure = setup.client.clone();
    let plain = secure.replace("https", "http");
    setup.client = format!("{secure},{plain},unix://localhost:1,unixs://localhost");
    let member = setup.start().await;
    for endpoint in [&secure, &plain] {
        works(&connect(endpoint, &pki.client()).await).await.unwrap();
    }
    let socket = |scheme: &str, name: &str| format!("{scheme}://{}/{name}", member.dir().display());
    for endpoint in [socket("unix", "localhost:1"), socket("unixs", "localhost")] {
        works(&connect(&endpoint, &pki.client()).await).await.unwrap();
    }
}

/// U04, U06.
#[tokio::test]
async fn u04_u06_http_with_files_warns_and_https_without_files_is_refused() {
    let pki = Pki::new();
    let setup = Setup::with("http", "http");
    let setup = setup.tls("", &pki.strict_server()).tls("peer-", &pki.strict_server());
    let member = setup.start().await;
    let log = member.log();
    for (url, text) in [
        (
            "client-url",
            "scheme is http or unix while key and cert files are present; ignoring key and cert files",
        ),
        (
            "client-url",
            "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
        ),
        (
            "peer-url",
            "scheme is HTTP while key and cert files are present; ignoring key and cert files",
        ),
        (
            "peer-url",
            "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
        ),
    ] {
        let found = log.lines().any(|line| line.contains(text) && line.contains(url));
        assert!(found, "{text}:\n{log}");
    }
    member.serves(&pki.client()).await.unwrap();
    let peer = setup.peer.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(peer).unwrap();
    let request = "GET /raft/probing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let bare = Setup::secure();
    let log = bare.spawn().ended().await;
    let text = format!(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url {} with HTTPS scheme",
        bare.client
    );
    assert!(log.contains(&text), "{log}");
}

/// U10: what was bound before something failed is free again, and so is a socket's file.
#[tokio::test]
async fn u10_a_failed_start_leaves_no_port_bound() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = |text: String| vec![text.parse::<Url>().unwrap()];
    let (peer, socket) = (free_port(), dir.path().join("s"));
    let config = Config {
        data_dir: dir.path().join("data"),
        listen_peer_urls: url(format!("http://127.0.0.1:{peer}")),
        listen_client_urls: url(format!("unix://{}", socket.display())),
        listen_metrics_urls: url(format!("http://{}", taken.local_addr().unwrap())),
        ..Config::default()
    };
    let error = Server::start(config.clone()).await.err().expect("a port is taken").to_string();
    let text = format!("listen tcp {}: bind: address already in use", taken.local_addr().unwrap());
    assert_eq!(error, text);
    std::net::TcpListener::bind(("127.0.0.1", peer)).unwrap();
    assert!(!socket.exists() && !dir.path().join("data").exists());

    // Everything was bound, but the data cannot be where it should.
    std::fs::write(dir.path().join("data"), "").unwrap();
    let later = Config { listen_metrics_urls: Vec::new(), ..config };
    Server::start(later).await.err().expect("no directory");
    std::net::TcpListener::bind(("127.0.0.1", peer)).unwrap();
    assert!(!socket.exists());
}
