//! What a request over TLS carries, and where it goes.

use bytes::Bytes;
use etcdrs_tls::{
    ClientStream, ClientTls, ClientTlsInfo, Protocol, SelfSigned, SelfSignedUse, ServerTls,
    ServerTlsInfo,
};
use http_body_util::{BodyExt as _, Empty};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::guard::Side;
use super::*;

/// Answers with its way and with the client's name.
#[derive(Clone)]
struct Echo;

fn told(way: &str, request: &Request<Incoming>) -> Response<Body> {
    let client = request.extensions().get::<SecureClient>();
    let name = client.map_or("nobody", |client| &*client.common_name);
    let text = axum::body::Body::from(format!("{way} {name}"));
    Response::new(Body::http(text))
}

impl Serve for Echo {
    async fn grpc(&self, request: Request<Incoming>) -> Response<Body> {
        told("grpc", &request)
    }

    async fn http(&self, request: Request<Incoming>) -> Response<Body> {
        told("http", &request)
    }
}

/// A port that asks for certificates and takes those that vouch for themselves in `ca.pem`.
struct Door {
    dir: tempfile::TempDir,
    url: Url,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Door {
    async fn open() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let own = SelfSigned::create_or_reuse(
            &dir.path().join("server"),
            &["127.0.0.1".to_owned()],
            1,
            SelfSignedUse::Server,
        );
        let own = own.expect("a certificate");
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate").pem();
        let write = |name: &str, content: String| {
            std::fs::write(dir.path().join(name), content).expect("written");
        };
        write("alice.crt", cert.clone());
        write("alice.key", key.serialize_pem());
        write("ca.pem", cert);
        let tls = ServerTls::new(ServerTlsInfo {
            cert_file: Some(own.cert_file),
            key_file: Some(own.key_file),
            trusted_ca_file: Some(dir.path().join("ca.pem")),
            ..ServerTlsInfo::default()
        });
        let guard = Guard::new(tls.expect("settings"), Side::Client);
        let url = Url::parse("https://127.0.0.1:0").expect("a URL");
        let port = bind(&[url], Some(&guard)).await.expect("bound").remove(0);
        let url = port.urls[0].clone();
        let (stop, stopping) = watch::channel(false);
        let limits = Limits {
            connections_max: 100,
            max_concurrent_streams: 10,
            keepalive_interval: Duration::ZERO,
            keepalive_timeout: Duration::ZERO,
        };
        let serving = tokio::spawn(serve(port, Echo, limits, stopping));
        Self { dir, url, stop, serving }
    }

    async fn connect(&self, protocol: Protocol) -> ClientStream<TcpStream> {
        let tls = ClientTls::new(ClientTlsInfo {
            cert_file: Some(self.dir.path().join("alice.crt")),
            key_file: Some(self.dir.path().join("alice.key")),
            trusted_ca_file: Some(self.dir.path().join("server/cert.pem")),
            protocol,
            ..ClientTlsInfo::default()
        });
        let socket = TcpStream::connect(self.url.address()).await.expect("connected");
        tls.expect("settings").connect(socket, "127.0.0.1").await.expect("let in")
    }
}

fn request(content_type: &str) -> Request<Empty<Bytes>> {
    let request = Request::post("https://127.0.0.1/x").header("content-type", content_type);
    request.header("host", "127.0.0.1").body(Empty::new()).expect("a request")
}

async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

/// Row 2 of v3-api.md §7: over TLS the content type tells gRPC from everything else.
#[tokio::test]
async fn a_request_over_tls_brings_the_name_of_its_client() {
    let door = Door::open().await;
    let io = TokioIo::new(door.connect(Protocol::Http2).await);
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    let driver = tokio::spawn(driver);
    for (kind, answer) in [
        ("application/grpc", "grpc alice"),
        ("application/grpc+proto", "grpc alice"),
        ("application/json", "http alice"),
    ] {
        let answered = sender.send_request(request(kind)).await.expect("an answer");
        assert_eq!(text(answered).await, answer);
    }
    let io = TokioIo::new(door.connect(Protocol::Http1).await);
    let (mut other, other_driver) =
        hyper::client::conn::http1::handshake(io).await.expect("HTTP/1");
    let other_driver = tokio::spawn(other_driver);
    let answered = other.send_request(request("application/grpc")).await.expect("an answer");
    assert_eq!(text(answered).await, "http alice");

    // A stop closes what is idle, in order.
    door.stop.send_replace(true);
    door.serving.await.expect("it ends");
    drop((sender, other));
    driver.await.expect("no panic").expect("closed in order");
    other_driver.await.expect("no panic").expect("closed in order");
}

/// Whoever has not shaken hands has nothing to finish: a stop does not wait for it.
#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let door = Door::open().await;
    let mut silent = TcpStream::connect(door.url.address()).await.expect("connected");
    door.connect(Protocol::Http2).await;
    door.stop.send_replace(true);
    door.serving.await.expect("it ends");
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut rest).await;
    assert_eq!(read.expect("closed"), 0);
}
