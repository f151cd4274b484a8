//! Files that are missing, wrong, or replaced while we run.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

mod pki;

use std::fs;
use std::path::PathBuf;

use etcdrs_tls::{ClientTls, ClientTlsInfo, SelfSigned, SelfSignedUse, ServerTls, ServerTlsInfo};

use crate::pki::{Leaf, Pki, Shaken, client, server, shake, shake_from};

/// A server that goes on while its files change, and a client that trusts anything it shows.
struct Running {
    server: ServerTls,
    client: ClientTls,
}

impl Running {
    fn new(server: ServerTlsInfo, client: ClientTlsInfo) -> Self {
        let server = ServerTls::new(server).unwrap();
        Self { server, client: ClientTls::new(client).unwrap() }
    }

    async fn shake(&self) -> Shaken {
        shake_from(&self.server, &self.client, "localhost", None).await
    }

    /// The server's certificate, as the client sees it.
    async fn certificate(&self) -> Vec<u8> {
        let shaken = self.shake().await;
        shaken.agreed();
        let stream = shaken.client.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

#[tokio::test]
async fn a_new_key_pair_counts_without_a_restart() {
    let pki = Pki::new();
    let running = Running::new(pki.server(), pki.client());
    let first = running.certificate().await;
    assert_eq!(first, running.certificate().await);
    pki.server();
    let second = running.certificate().await;
    assert_ne!(first, second);

    // Rotation in two steps: in between, certificate and key do not fit.
    let (cert, key) = pki.sign(&server());
    pki.write("server.crt", &cert[..cert.len() / 2]);
    assert_eq!(second, running.certificate().await, "half a certificate");
    pki.write("server.crt", &cert);
    assert_eq!(second, running.certificate().await, "a certificate without its key");
    pki.write("server.key", key);
    assert_ne!(second, running.certificate().await);
    fs::remove_file(pki.path("server.key")).unwrap();
    running.certificate().await;
}

#[tokio::test]
async fn a_new_revocation_counts_without_a_restart() {
    let pki = Pki::new();
    let crl_file = Some(pki.write("list.crl", pki.revocations(&[])));
    let server = ServerTlsInfo { crl_file, ..pki.strict_server() };
    let running = Running::new(server, pki.client_with(&client()));
    running.shake().await.agreed();
    let list = pki.revocations(&[0x2a]);
    pki.write("list.crl", &list[..list.len() - 3]);
    running.shake().await.agreed();
    pki.write("list.crl", list);
    let refusal = running.shake().await.refusal();
    assert_eq!(refusal, "transport: certificate serial 2a revoked");
}

#[tokio::test]
async fn new_authorities_count_without_a_restart() {
    let (pki, next) = (Pki::new(), Pki::new());
    let running = Running::new(pki.strict_server(), pki.client_with(&client()));
    running.shake().await.agreed();
    // The client's CA changes, its certificate does not.
    pki.write("ca.pem", next.ca_pem() + &pki.ca_pem());
    running.shake().await.agreed();
    let (cert, key) = next.sign(&client());
    pki.write("client.crt", cert);
    pki.write("client.key", key);
    running.shake().await.agreed();
    let (cert, key) = next.sign(&server());
    pki.write("server.crt", cert);
    pki.write("server.key", key);
    pki.write("ca.pem", next.ca_pem());
    running.shake().await.agreed();
    let (cert, key) = pki.sign(&client());
    pki.write("client.crt", cert);
    pki.write("client.key", key);
    running.shake().await.refusal();
}

/// The texts are those of etcdctl 3.5.1, tried.
#[test]
fn wrong_files_are_named_in_etcds_words() {
    let pki = Pki::new();
    let (cert, key) = pki.issue("good", &client());
    let (_, other_key) = pki.issue("other", &client());
    let missing = pki.path("missing.pem");
    let dir = pki.dir().to_owned();
    let junk = pki.write("junk.pem", "junk\n");
    let bad =
        pki.write("bad.pem", "-----BEGIN CERTIFICATE-----\nMTIz\n-----END CERTIFICATE-----\n");
    let check =
        |cert: Option<&PathBuf>, key: Option<&PathBuf>, ca: Option<&PathBuf>, want: &str| {
            let info = ClientTlsInfo {
                cert_file: cert.cloned(),
                key_file: key.cloned(),
                trusted_ca_file: ca.cloned(),
                ..ClientTlsInfo::default()
            };
            assert_eq!(ClientTls::new(info).unwrap_err().etcdctl_text(), want);
        };
    let shown = |path: &PathBuf| path.display().to_string();
    let half = format!("KeyFile and CertFile must both be present[key: , cert: {}]", shown(&cert));
    check(Some(&cert), None, None, &half);
    let no_file = format!("open {}: no such file or directory", shown(&missing));
    check(None, None, Some(&missing), &no_file);
    check(Some(&missing), Some(&key), None, &no_file);
    check(Some(&cert), Some(&missing), None, &no_file);
    check(None, None, Some(&dir), &format!("read {}: is a directory", shown(&dir)));
    let pem = "tls: failed to find any PEM data in certificate input";
    check(Some(&junk), Some(&key), None, pem);
    check(Some(&cert), Some(&junk), None, "tls: failed to find any PEM data in key input");
    let switched = "tls: failed to find certificate PEM data in certificate input, but did find a \
                    private key; PEM inputs may have been switched";
    check(Some(&key), Some(&cert), None, switched);
    let mismatch = "tls: private key does not match public key";
    check(Some(&cert), Some(&other_key), None, mismatch);
    let no_key = "tls: found a certificate rather than a key in the PEM for the private key";
    check(Some(&cert), Some(&cert), None, no_key);
    check(Some(&bad), Some(&key), None, "x509: malformed certificate");
    check(None, None, Some(&bad), "x509: malformed certificate");
    check(None, None, Some(&junk), "no certificate found");
}

#[test]
fn wrong_settings_of_a_server_are_errors_at_start() {
    let pki = Pki::new();
    let check = |info: ServerTlsInfo, want: &str| {
        let error = ServerTls::new(info).unwrap_err().to_string();
        assert!(error.ends_with(want), "{error}");
    };
    let none = "KeyFile and CertFile must both be present[key: , cert: ]";
    check(ServerTlsInfo::default(), none);
    let lists = ServerTlsInfo {
        allowed_common_names: vec!["a".to_owned()],
        allowed_hostnames: vec!["b".to_owned()],
        ..pki.strict_server()
    };
    let exclusive =
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\"], hostnames=[\"b\"])";
    check(lists, exclusive);
    let crl_file = Some(pki.write("junk.crl", "junk"));
    check(ServerTlsInfo { crl_file, ..pki.strict_server() }, "junk.crl: x509: malformed crl");
    let cert_file = Some(pki.path("ca.pem"));
    let mismatch = "server.key: tls: private key does not match public key";
    check(ServerTlsInfo { cert_file, ..pki.server() }, mismatch);
}

/// Peers with `--peer-auto-tls` use one certificate both ways and do not verify each other.
#[tokio::test]
async fn self_signed_peers_understand_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let dir = dir.path().join(name);
        let hosts = ["127.0.0.1:2380".to_owned()];
        SelfSigned::create_or_reuse(&dir, &hosts, 1, SelfSignedUse::Peer).unwrap()
    };
    let (near, far) = (make("near"), make("far"));
    let server = ServerTlsInfo {
        cert_file: Some(near.cert_file.clone()),
        key_file: Some(near.key_file),
        ..ServerTlsInfo::default()
    };
    let peer = ClientTlsInfo {
        cert_file: Some(far.cert_file),
        key_file: Some(far.key_file),
        insecure_skip_verify: true,
        ..ClientTlsInfo::default()
    };
    shake(&server, &peer).await.agreed();
    // Who has the certificate can check it.
    let near_tls = ServerTls::new(server).unwrap();
    let trusting =
        ClientTlsInfo { trusted_ca_file: Some(near.cert_file), ..ClientTlsInfo::default() };
    let trusting = ClientTls::new(trusting).unwrap();
    shake_from(&near_tls, &trusting, "127.0.0.1", None).await.agreed();
    shake_from(&near_tls, &trusting, "127.0.0.2", None).await.complaint();
}

/// Chains with a certificate between CA and server.
#[tokio::test]
async fn intermediates_are_sent_along() {
    use rcgen::{BasicConstraints, CertifiedIssuer, IsCa, KeyPair};
    let pki = Pki::new();
    let root = Pki::new();
    let mut between = pki::params(&Leaf { names: vec![], usages: vec![], ..server() });
    between.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let between =
        CertifiedIssuer::signed_by(between, KeyPair::generate().unwrap(), root.issuer()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = pki::params(&server()).signed_by(&key, &between).unwrap();
    let info = ServerTlsInfo {
        cert_file: Some(pki.write("chain.crt", leaf.pem() + &between.pem())),
        key_file: Some(pki.write("chain.key", key.serialize_pem())),
        ..ServerTlsInfo::default()
    };
    shake(&info, &root.client()).await.agreed();
}
