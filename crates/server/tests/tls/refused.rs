//! Peers with certificates that are not wanted (issue 3): each attempt is one line in the log with
//! its reason, and whoever is welcome notices nothing.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

use etcdrs_tls::{ClientTls, ClientTlsInfo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{LIMIT, Member, Setup, member, strict_member};
use crate::pki::{Leaf, Pki};

const REJECTED: &str = "rejected connection on peer endpoint";
/// How often each comes.
const TIMES: usize = 5;

/// Whether somebody with these settings gets an answer at the peer port.
async fn is_answered(setup: &Setup, info: &ClientTlsInfo) -> bool {
    let address = setup.peer.trim_start_matches("https://");
    let socket = TcpStream::connect(address).await.unwrap();
    let tls = ClientTls::new(info.clone()).unwrap();
    let Ok(mut stream) = tls.connect(socket, "127.0.0.1").await else { return false };
    let request = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    // A client of TLS 1.3 may send before it hears that it was refused.
    let _ = stream.write_all(request).await;
    let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    answer.starts_with(b"HTTP/1.1 200")
}

async fn refuses(member: &mut Member, setup: &Setup, info: &ClientTlsInfo, why: &str) {
    let before = member.log().matches(REJECTED).count();
    for _ in 0..TIMES {
        assert!(!is_answered(setup, info).await, "{why}");
    }
    member.logs_times(REJECTED, before + TIMES).await;
    let log = member.log();
    assert_eq!(log.matches(REJECTED).count(), before + TIMES, "{log}");
    let told = log.lines().filter(|line| line.contains(REJECTED) && line.contains(why));
    assert_eq!(told.count(), TIMES, "{why}: {log}");
}

#[tokio::test]
async fn t_37_bad_certificates_of_peers_are_told_once_each() {
    let (pki, other) = (Pki::new(), Pki::new());
    let crl = pki.write("revoked.crl", pki.revocations(&[66]));
    let info = etcdrs_tls::ServerTlsInfo {
        crl_file: Some(crl),
        ..strict_member(&pki, "member", &member())
    };
    let setup = Setup::with("http", "https").tls("peer-", &info);
    let setup = setup.flag("peer-cert-allowed-cn", "member");
    let mut server = setup.start().await;
    let trusting =
        |info: ClientTlsInfo| ClientTlsInfo { trusted_ca_file: Some(pki.path("ca.pem")), ..info };

    let stranger = trusting(other.client_with(&member()));
    refuses(&mut server, &setup, &stranger, "x509: certificate signed by unknown authority").await;
    let old = pki.client_with(&Leaf { expired: true, ..member() });
    refuses(&mut server, &setup, &old, "x509: certificate has expired").await;
    let revoked = pki.client_with(&Leaf { serial: 66, ..member() });
    refuses(&mut server, &setup, &revoked, "certificate serial 42 revoked").await;
    let somebody = pki.client_with(&Leaf { common_name: "other", ..member() });
    refuses(&mut server, &setup, &somebody, "client certificate authentication failed").await;
    refuses(&mut server, &setup, &pki.client(), "tls: client didn't provide a certificate").await;

    assert!(is_answered(&setup, &pki.client_with(&member())).await);
    server.serves(&ClientTlsInfo::default()).await.unwrap();
    let warnings = server.log();
    let warnings = warnings.lines().filter(|line| line.contains("\"level\":\"warn\""));
    let others: Vec<&str> = warnings.filter(|line| !line.contains(REJECTED)).collect();
    assert!(others.iter().all(|line| line.contains("insecure")), "{others:#?}");
}
