//! Encrypted connections, to a real etcd where there is one.

mod harness;

use std::fs;
use std::path::Path;
use std::time::Duration;

use etcdrs_client::tls::{ClientTls, ClientTlsInfo, ServerTls, ServerTlsInfo};
use etcdrs_client::{Client, Config, ErrorKind, Get, Put};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::harness::{Server, config};

/// Writes `ca.crt`, and `<name>.crt` and `<name>.key` for a server and a client.
fn pki() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let write = |name: &str, content: String| {
        fs::write(dir.path().join(name), content).expect("a file");
    };
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key");
    let ca = CertifiedIssuer::self_signed(params, key()).expect("a CA");
    write("ca.crt", ca.pem());
    for name in ["server", "client"] {
        let names = ["localhost", "127.0.0.1", "etcd.sock"].map(String::from);
        let params = CertificateParams::new(names).expect("names");
        let key = key();
        write(&format!("{name}.crt"), params.signed_by(&key, &ca).expect("a certificate").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    dir
}

fn client_tls(dir: &Path, with_certificate: bool) -> ClientTls {
    let file = |name: &str| Some(dir.join(name));
    let mut info = ClientTlsInfo { trusted_ca_file: file("ca.crt"), ..ClientTlsInfo::default() };
    if with_certificate {
        (info.cert_file, info.key_file) = (file("client.crt"), file("client.key"));
    }
    ClientTls::new(info).expect("the files are right")
}

/// What a client says when its time is up.
async fn failure(config: Config) -> String {
    let config = Config { call_timeout: Some(Duration::from_millis(700)), ..config };
    let client = Client::connect(config).await.expect("nothing is asked yet");
    let error = client.get(Get::key("a")).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    error.connect_failure().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn etcd_answers_who_has_a_certificate() {
    let dir = pki();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let flags = [
        format!("--cert-file={}", path("server.crt")),
        format!("--key-file={}", path("server.key")),
        format!("--trusted-ca-file={}", path("ca.crt")),
        "--client-cert-auth".to_owned(),
    ];
    let Some(server) = Server::start_with(&flags) else { return };
    let tls = Some(client_tls(dir.path(), true));
    // With a configuration for it, no scheme means encryption too.
    for endpoint in [format!("https://{}", server.endpoint()), server.endpoint()] {
        let config = Config { tls: tls.clone(), ..config([endpoint.clone()]) };
        let client = Client::connect(config).await.expect("nothing is asked yet");
        client.put(Put::new("a", endpoint.clone())).await.expect("it is written");
        let answer = client.get(Get::key("a")).await.expect("it is read");
        assert_eq!(answer.kvs[0].value, endpoint);
        let status = client.at(&endpoint).await.expect("a client of one").status().await;
        status.expect("it tells its status");
    }
    // http says otherwise, whatever is configured.
    let plain = format!("http://{}", server.endpoint());
    let client = Client::connect(Config { tls, ..config([plain]) }).await.expect("a client");
    client.get(Get::key("a")).await.expect_err("the server wants TLS");
    // Without a certificate the server hangs up once it has seen that.
    let tls = Some(client_tls(dir.path(), false));
    let config = Config {
        tls,
        call_timeout: Some(Duration::from_secs(2)),
        ..Config::new([server.endpoint()])
    };
    let client = Client::connect(config).await.expect("a client");
    client.get(Get::key("a")).await.expect_err("the server wants a certificate");
}

/// etcd's own auto-TLS: a P-521 certificate that is its own CA.
#[tokio::test]
async fn etcds_self_signed_certificate_serves_as_its_own_ca() {
    let Some(server) = Server::start_with(&["--auto-tls".to_owned()]) else { return };
    let endpoint = format!("https://{}", server.endpoint());
    let blind = ClientTlsInfo { insecure_skip_verify: true, ..ClientTlsInfo::default() };
    let tls = Some(ClientTls::new(blind).expect("no files"));
    let client = Client::connect(Config { tls, ..config([endpoint.clone()]) }).await;
    client.expect("a client").put(Put::new("a", "1")).await.expect("it is written");

    let trusted_ca_file = Some(server.data("fixtures/client/cert.pem"));
    let info = ClientTlsInfo { trusted_ca_file, ..ClientTlsInfo::default() };
    let tls = Some(ClientTls::new(info).expect("etcd made the file"));
    let client = Client::connect(Config { tls, ..config([endpoint.clone()]) }).await;
    client.expect("a client").get(Get::key("a")).await.expect("it is read");

    // The system's CAs do not know it.
    let why = failure(Config::new([endpoint])).await;
    let text = "transport: authentication handshake failed: tls: failed to verify certificate: \
                x509: certificate signed by unknown authority";
    assert_eq!(why, text);

    // Our servers take such files over.
    let [cert_file, key_file] =
        ["cert.pem", "key.pem"].map(|name| Some(server.data(&format!("fixtures/client/{name}"))));
    ServerTls::new(ServerTlsInfo { cert_file, key_file, ..ServerTlsInfo::default() })
        .expect("etcd's files are read");
}

/// Needs no etcd: only the handshake matters.
#[tokio::test]
async fn sockets_are_encrypted_too_and_refused_servers_left_alone() {
    let (dir, other) = (pki(), pki());
    let path = dir.path().join("etcd.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let file = |name: &str| Some(dir.path().join(name));
    let server = ServerTls::new(ServerTlsInfo {
        cert_file: file("server.crt"),
        key_file: file("server.key"),
        ..ServerTlsInfo::default()
    })
    .expect("the files are right");
    let (handshakes, mut seen) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let result = server.accept(socket, None).await;
            let done = result.map(|accepted| accepted.is_http2).map_err(|error| error.to_string());
            if handshakes.send(done).is_err() {
                return;
            }
        }
    });
    let endpoint = format!("unixs://{}", path.display());
    let tls = Some(client_tls(other.path(), false));
    let why = failure(Config { tls, ..Config::new([endpoint.clone()]) }).await;
    assert!(why.starts_with("transport: authentication handshake failed: tls:"), "{why}");
    seen.recv().await.expect("the server runs").expect_err("the client refuses");
    assert!(seen.try_recv().is_err(), "the second attempt waits for longer than the call");

    let tls = Some(client_tls(dir.path(), false));
    // Nobody serves what is inside; the connection is cut after the handshake.
    let config =
        Config { tls, call_timeout: Some(Duration::from_secs(5)), ..Config::new([endpoint]) };
    let client = Client::connect(config).await.expect("a client");
    let call = tokio::spawn(async move { client.get(Get::key("a")).await.map(|_| ()) });
    assert_eq!(seen.recv().await.expect("the server runs"), Ok(true));
    call.abort();
}
