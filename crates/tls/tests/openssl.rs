//! Against another TLS, openssl's; without the program the tests only say so.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod pki;

use std::process::Stdio;
use std::time::Duration;

use etcdrs_tls::{ClientTls, ClientTlsInfo, ServerTls, ServerTlsInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::pki::{Pki, client};

/// No step of these tests takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs openssl in the directory; `None` where there is none.
async fn openssl(pki: &Pki, arguments: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(arguments.split(' ')).current_dir(pki.dir()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(child) = command.spawn() else {
        println!("skipped: no openssl");
        return None;
    };
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("openssl ends").unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Takes one connection and closes it after a word.
async fn serve_once(tls: ServerTls) -> (u16, tokio::task::JoinHandle<Result<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (socket, from) = listener.accept().await.unwrap();
        let mut accepted =
            tls.accept(socket, Some(from.ip())).await.map_err(|rejected| rejected.to_string())?;
        accepted.stream.write_all(b"hello from etcd-rs\n").await.unwrap();
        accepted.stream.shutdown().await.unwrap();
        Ok(accepted.peer.map(|peer| peer.common_name).unwrap_or_default())
    });
    (port, task)
}

#[tokio::test]
async fn openssl_is_let_in_by_its_certificate() {
    let pki = Pki::new();
    pki.client_with(&client());
    for (version, certificate, let_in) in [
        ("-tls1_2", " -cert client.crt -key client.key", true),
        ("-tls1_3", " -cert client.crt -key client.key", true),
        ("-tls1_3", "", false),
        ("-tls1_1", " -cert client.crt -key client.key", false),
    ] {
        let (port, served) = serve_once(ServerTls::new(pki.strict_server()).unwrap()).await;
        let line = format!(
            "s_client -quiet -verify_return_error -CAfile ca.pem -alpn h2 {version} \
             -connect 127.0.0.1:{port}{certificate}"
        );
        let Some(output) = openssl(&pki, &line).await else { return };
        assert_eq!(output.contains("hello from etcd-rs"), let_in, "{line}\n{output}");
        let served = served.await.unwrap();
        assert_eq!(served.is_ok(), let_in, "{line}: {served:?}");
        if let Ok(name) = served {
            assert_eq!(name, "root");
        }
    }
}

/// Keys come in several wrappings and kinds: those that openssl makes are all read.
#[tokio::test]
async fn keys_of_openssl_are_read() {
    let pki = Pki::new();
    for make in [
        "ecparam -name prime256v1 -genkey -noout -out any.key",
        "ecparam -name secp384r1 -genkey -noout -out any.key",
        // What etcd's auto-TLS makes.
        "ecparam -name secp521r1 -genkey -noout -out any.key",
        "genpkey -algorithm ed25519 -out any.key",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out any.key",
        "genrsa -traditional -out any.key 2048",
    ] {
        if openssl(&pki, make).await.is_none() {
            return;
        }
        let sign = "req -x509 -new -key any.key -out any.crt -days 2 -subj /CN=any \
                    -addext subjectAltName=DNS:localhost";
        openssl(&pki, sign).await;
        let [cert, key] = ["any.crt", "any.key"].map(|name| Some(pki.path(name)));
        let info =
            ServerTlsInfo { cert_file: cert.clone(), key_file: key, ..ServerTlsInfo::default() };
        let server = ServerTls::new(info).unwrap_or_else(|error| panic!("{make}: {error}"));
        let trusting = ClientTlsInfo { trusted_ca_file: cert, ..ClientTlsInfo::default() };
        let trusting = ClientTls::new(trusting).unwrap();
        pki::shake_from(&server, &trusting, "localhost", None).await.agreed();
    }
}

/// The other direction: our client and openssl's server, which asks for a certificate.
#[tokio::test]
async fn openssl_lets_us_in() {
    let pki = Pki::new();
    pki.server();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let line = format!(
        "s_server -accept 127.0.0.1:{port} -naccept 1 -cert server.crt -key server.key \
         -CAfile ca.pem -Verify 1 -verify_return_error -rev"
    );
    let mut command = Command::new("openssl");
    command.args(line.split(' ')).current_dir(pki.dir()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut server) = command.spawn() else {
        println!("skipped: no openssl");
        return;
    };
    // It says ACCEPT when it listens.
    let mut says = server.stdout.take().expect("it is piped");
    let mut seen = String::new();
    while !seen.contains("ACCEPT") {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, says.read(&mut byte)).await.unwrap().unwrap();
        assert_eq!(read, 1, "openssl ended: {seen}");
        seen.push(char::from(byte[0]));
    }
    let tls = ClientTls::new(pki.client_with(&client())).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut stream = tls.connect(socket, "localhost").await.unwrap();
    stream.write_all(b"abc\n").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"cba\n");
}
