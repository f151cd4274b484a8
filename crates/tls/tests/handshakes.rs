//! Who is let in and who is not (operations.md §2.14).

mod pki;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use etcdrs_tls::{
    ClientTls, ClientTlsInfo, HandshakeError, LookUp, Names, Protocol, ServerTls, ServerTlsInfo,
    TlsVersion,
};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::pki::{Leaf, Pki, client, params, server, shake, shake_from};

#[tokio::test]
async fn bytes_go_both_ways() {
    let pki = Pki::new();
    let mut shaken = shake(&pki.server(), &pki.client()).await;
    assert_eq!(shaken.agreed().peer, None);
    let (near, far) =
        (&mut shaken.server.as_mut().unwrap().stream, shaken.client.as_mut().unwrap());
    far.write_all(b"ping").await.unwrap();
    let mut read = [0; 4];
    near.read_exact(&mut read).await.unwrap();
    near.write_all(&read).await.unwrap();
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"ping");
}

#[tokio::test]
async fn the_client_says_which_http_it_speaks() {
    let pki = Pki::new();
    assert!(shake(&pki.server(), &pki.client()).await.agreed().is_http2);
    let old = ClientTlsInfo { protocol: Protocol::Http1, ..pki.client() };
    assert!(!shake(&pki.server(), &old).await.agreed().is_http2);
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_and_its_owner_known() {
    let pki = Pki::new();
    let server = pki.strict_server();
    let shaken = shake(&server, &pki.client_with(&client())).await;
    let owner = shaken.agreed().peer.clone().unwrap();
    assert_eq!(
        (owner.common_name.as_str(), owner.dns_names),
        ("root", vec!["client.example".into()])
    );
    let refusal = shake(&server, &pki.client()).await.refusal();
    assert_eq!(refusal, "tls: client didn't provide a certificate");
}

/// operations.md §1.5: naming a CA is enough to ask for certificates.
#[tokio::test]
async fn a_ca_alone_asks_for_certificates() {
    let pki = Pki::new();
    let server = ServerTlsInfo { client_cert_auth: false, ..pki.strict_server() };
    assert!(shake(&server, &pki.client()).await.server.is_err());
    shake(&server, &pki.client_with(&client())).await.agreed();
}

#[tokio::test]
async fn bad_client_certificates_are_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.strict_server();
    let (cert, key) = other.issue("client", &client());
    let stranger = ClientTlsInfo { cert_file: Some(cert), key_file: Some(key), ..pki.client() };
    let refusal = shake(&server, &stranger).await.refusal();
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(refusal.starts_with(unknown), "{refusal}");
    let lonely = params(&client()).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let mut other_name = pki.strict_server();
    other_name.trusted_ca_file = Some(pki.write("other.pem", lonely.pem()));
    assert_eq!(shake(&other_name, &stranger).await.refusal(), unknown);

    let expired = pki.client_with(&Leaf { expired: true, ..client() });
    let refusal = shake(&server, &expired).await.refusal();
    assert!(refusal.contains("x509: certificate has expired or is not yet valid"), "{refusal}");

    let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let wrong_use = pki.client_with(&Leaf { usages, ..client() });
    let refusal = shake(&server, &wrong_use).await.refusal();
    assert!(refusal.ends_with("specifies an incompatible key usage"), "{refusal}");
}

#[tokio::test]
async fn bad_server_certificates_are_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let complaint = shake(&other.server(), &pki.client()).await.complaint();
    assert!(complaint.contains("certificate signed by unknown authority"), "{complaint}");

    let (cert, key) = pki.issue("old", &Leaf { expired: true, ..server() });
    let expired = ServerTlsInfo { cert_file: Some(cert), key_file: Some(key), ..pki.server() };
    let complaint = shake(&expired, &pki.client()).await.complaint();
    assert!(complaint.contains("certificate has expired or is not yet valid"), "{complaint}");

    let name = Some("other.example".to_owned());
    let elsewhere = ClientTlsInfo { server_name: name, ..pki.client() };
    let shaken = shake(&pki.server(), &elsewhere).await;
    let text = "tls: failed to verify certificate: \
                x509: certificate is valid for localhost, 127.0.0.1, not other.example";
    assert_eq!(shaken.complaint(), text);
    assert_eq!(shaken.refusal(), "remote error: tls: bad certificate");

    let blind = ClientTlsInfo { insecure_skip_verify: true, ..elsewhere };
    shake(&other.server(), &blind).await.agreed();
}

/// U61: certificates that list addresses serve who dials those addresses.
#[tokio::test]
async fn u61_addresses_are_names_too() {
    let pki = Pki::new();
    let (near, far) =
        (ServerTls::new(pki.server()).unwrap(), ClientTls::new(pki.client()).unwrap());
    shake_from(&near, &far, "127.0.0.1", None).await.agreed();
    let complaint = shake_from(&near, &far, "127.0.0.2", None).await.complaint();
    assert!(complaint.ends_with("not 127.0.0.2"), "{complaint}");
    let complaint = shake_from(&near, &far, "not a name", None).await.complaint();
    assert_eq!(complaint, "\"not a name\" is neither a DNS name nor an IP address");
}

#[tokio::test]
async fn revoked_serials_are_refused_whoever_issued_them() {
    let pki = Pki::new();
    for list in [pki.revocations(&[7, 0x2a]), Pki::new().revocations(&[0x2a])] {
        let crl_file = Some(pki.write("list.crl", list));
        let server = ServerTlsInfo { crl_file, ..pki.strict_server() };
        let refusal = shake(&server, &pki.client_with(&client())).await.refusal();
        assert_eq!(refusal, "transport: certificate serial 2a revoked");
        let other = pki.client_with(&Leaf { serial: 0x2b, ..client() });
        shake(&server, &other).await.agreed();
    }
}

#[tokio::test]
async fn common_names_and_host_names_may_be_limited() {
    let pki = Pki::new();
    let denied = "client certificate authentication failed";
    let by_name = |names: &[&str]| ServerTlsInfo {
        allowed_common_names: names.iter().map(ToString::to_string).collect(),
        ..pki.strict_server()
    };
    let me = pki.client_with(&client());
    shake(&by_name(&["admin", "root"]), &me).await.agreed();
    assert_eq!(shake(&by_name(&["admin"]), &me).await.refusal(), denied);

    let by_host = |names: &[&str]| ServerTlsInfo {
        allowed_hostnames: names.iter().map(ToString::to_string).collect(),
        ..pki.strict_server()
    };
    shake(&by_host(&["other.example", "client.example"]), &me).await.agreed();
    assert_eq!(shake(&by_host(&["other.example"]), &me).await.refusal(), denied);
    let wide = pki.client_with(&Leaf { names: vec!["*.peers.example"], ..client() });
    shake(&by_host(&["any.peers.example"]), &wide).await.agreed();
}

/// Peers check in both directions.
#[tokio::test]
async fn a_client_may_limit_servers_too() {
    let pki = Pki::new();
    let of =
        |name: &str| ClientTlsInfo { allowed_common_names: vec![name.to_owned()], ..pki.client() };
    shake(&pki.server(), &of("server")).await.agreed();
    let complaint = shake(&pki.server(), &of("member")).await.complaint();
    assert_eq!(complaint, "client certificate authentication failed");
}

/// One certificate that is CA, server and client at once is enough for Go, and so for us.
#[tokio::test]
async fn a_certificate_in_the_ca_file_is_trusted_itself() {
    let pki = Pki::new();
    let leaf = Leaf { usages: vec![], ..server() };
    for (is_ca, expired) in [
        (IsCa::Ca(BasicConstraints::Unconstrained), false),
        (IsCa::NoCa, false),
        (IsCa::Ca(BasicConstraints::Unconstrained), true),
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = params(&Leaf { expired, ..leaf.clone() });
        params.is_ca = is_ca;
        let cert = pki.write("all.crt", params.self_signed(&key).unwrap().pem());
        let key = pki.write("all.key", key.serialize_pem());
        let [cert, key] = [cert, key].map(Some);
        let server = ServerTlsInfo {
            cert_file: cert.clone(),
            key_file: key.clone(),
            trusted_ca_file: cert.clone(),
            ..ServerTlsInfo::default()
        };
        let client = ClientTlsInfo {
            cert_file: cert.clone(),
            key_file: key,
            trusted_ca_file: cert,
            ..ClientTlsInfo::default()
        };
        let shaken = shake(&server, &client).await;
        if expired {
            let complaint = shaken.complaint();
            assert!(complaint.contains("expired or is not yet valid"), "{complaint}");
            let blind = ClientTlsInfo { insecure_skip_verify: true, ..client };
            let refusal = shake(&server, &blind).await.refusal();
            assert!(refusal.contains("expired or is not yet valid"), "{refusal}");
            continue;
        }
        assert_eq!(shaken.agreed().peer.as_ref().unwrap().common_name, "server");
        let elsewhere = ClientTlsInfo { server_name: Some("elsewhere".to_owned()), ..client };
        let complaint = shake(&server, &elsewhere).await.complaint();
        assert!(complaint.ends_with("not elsewhere"), "{complaint}");
    }
}

/// Names that lead nowhere.
struct NoNames;

impl Names for NoNames {
    fn addresses<'a>(&'a self, host: &'a str) -> LookUp<'a, IpAddr> {
        Box::pin(async move { Err(io::Error::other(format!("lookup {host}: no such host"))) })
    }

    fn hosts(&self, _address: IpAddr) -> LookUp<'_, String> {
        Box::pin(async { Ok(vec![]) })
    }
}

#[tokio::test]
async fn a_peer_has_to_come_from_where_its_certificate_says() {
    let pki = Pki::new();
    let info = ServerTlsInfo { check_source: true, ..pki.strict_server() };
    let far = ClientTls::new(pki.client_with(&client())).unwrap();
    let near = ServerTls::with_names(info.clone(), Arc::new(NoNames)).unwrap();
    let from = "10.0.0.9".parse().ok();
    let rejected = shake_from(&near, &far, "localhost", from).await.server.unwrap_err();
    let text = "tls: \"10.0.0.9\" does not match any of DNSNames [\"client.example\"] \
                (lookup client.example: no such host)";
    assert_eq!(rejected.to_string(), text);
    assert_eq!(rejected.server_name, "localhost");
    assert_eq!(rejected.dns_names, ["client.example"]);
    // A unix socket has no address to compare.
    shake_from(&near, &far, "localhost", None).await.agreed();

    let by_address = Leaf { names: vec!["10.0.0.9"], ..client() };
    let far = ClientTls::new(pki.client_with(&by_address)).unwrap();
    shake_from(&near, &far, "localhost", from).await.agreed();
    let lenient = ServerTls::new(ServerTlsInfo { check_source: false, ..info }).unwrap();
    shake_from(&lenient, &far, "localhost", "10.0.0.8".parse().ok()).await.agreed();
}

#[tokio::test]
async fn versions_and_suites_can_be_limited() {
    let pki = Pki::new();
    let (old, new) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    let only =
        |min_version, max_version| ServerTlsInfo { min_version, max_version, ..pki.server() };
    let client =
        |version| ClientTlsInfo { min_version: version, max_version: version, ..pki.client() };
    for version in [old, new] {
        let shaken = shake(&only(version, version), &pki.client()).await;
        let session = shaken.agreed().stream.get_ref().1;
        let spoken = format!("{:?}", session.protocol_version().unwrap());
        assert_eq!(spoken, if version == old { "TLSv1_2" } else { "TLSv1_3" });
    }
    assert!(shake(&only(new, None), &client(old)).await.server.is_err());
    assert!(shake(&only(None, old), &client(new)).await.server.is_err());

    let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let cipher_suites = vec![suite.to_owned()];
    let narrow = ServerTlsInfo { cipher_suites, ..only(None, old) };
    let shaken = shake(&narrow, &pki.client()).await;
    let session = shaken.agreed().stream.get_ref().1;
    assert_eq!(format!("{:?}", session.negotiated_cipher_suite().unwrap().suite()), suite);
    let cipher_suites = vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned()];
    let other = ServerTlsInfo { cipher_suites, ..narrow };
    assert!(shake(&other, &pki.client()).await.server.is_err(), "the key is no RSA key");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_let_go() {
    let pki = Pki::new();
    let server = ServerTls::new(pki.server()).unwrap();
    let (near, _far) = tokio::io::duplex(64);
    let rejected = server.accept(near, None).await.unwrap_err();
    assert!(matches!(rejected.error, HandshakeError::TimedOut), "{rejected}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    let pki = Pki::new();
    let client = ClientTls::new(pki.client()).unwrap();
    let (_near, far) = tokio::io::duplex(1 << 16);
    let error = client.connect(far, "localhost").await.unwrap_err();
    assert!(matches!(error, HandshakeError::TimedOut), "{error}");
}

#[tokio::test]
async fn garbage_and_hang_ups_are_told_apart() {
    let pki = Pki::new();
    let server = ServerTls::new(pki.server()).unwrap();
    let (near, mut far) = tokio::io::duplex(1 << 16);
    far.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let rejected = server.accept(near, None).await.unwrap_err();
    assert_eq!(rejected.to_string(), "tls: first record does not look like a TLS handshake");
    assert!(!rejected.is_hang_up());
    let (near, far) = tokio::io::duplex(64);
    drop(far);
    let rejected = server.accept(near, None).await.unwrap_err();
    assert!(rejected.is_hang_up());
    assert_eq!(rejected.to_string(), "EOF");
}
