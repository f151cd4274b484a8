//! Clients that do not mean it: garbage, silence, and a lot of both.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{LIMIT, Setup, member, strict_member};
use crate::pki::{Pki, client};

#[tokio::test]
async fn garbage_is_refused_and_logged_once() {
    let pki = Pki::new();
    let info = strict_member(&pki, "member", &member());
    let setup = Setup::with("https", "https").tls("", &info).tls("peer-", &info);
    let mut member = setup.start().await;
    for (url, text) in [
        (&setup.client, "rejected connection on client endpoint"),
        (&setup.peer, "rejected connection on peer endpoint"),
    ] {
        let mut socket = TcpStream::connect(url.trim_start_matches("https://")).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut rest)).await.unwrap();
        member.logs(text).await;
        // A look whether the port is open is no news.
        drop(TcpStream::connect(url.trim_start_matches("https://")).await.unwrap());
    }
    member.serves(&pki.client_with(&client())).await.unwrap();
    let log = member.log();
    let first = "tls: first record does not look like a TLS handshake";
    assert_eq!((log.matches(first).count(), log.matches("rejected").count()), (2, 2), "{log}");
}

/// CVE-2026-73500: a handshake has a time limit, and many of them take no place from anybody.
#[tokio::test]
async fn stalled_handshakes_keep_nobody_out() {
    const STALLED: usize = 200;
    let pki = Pki::new();
    let info = strict_member(&pki, "member", &member());
    let setup = Setup::with("https", "https").tls("", &info).tls("peer-", &info);
    let mut member = setup.start().await;
    let mut stalled = Vec::new();
    for n in 0..STALLED {
        let url = if n % 2 == 0 { &setup.client } else { &setup.peer };
        let mut socket = TcpStream::connect(url.trim_start_matches("https://")).await.unwrap();
        // Some say nothing at all, some begin a record and do not go on.
        socket.write_all(&[0x16, 3, 1, 2, 0][..n % 6]).await.unwrap();
        stalled.push(socket);
    }
    member.serves(&pki.client_with(&client())).await.unwrap();
    // Each is let go by itself.
    for mut socket in stalled {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut rest)).await.unwrap();
    }
    member.logs_times("TLS handshake not done within 10s", STALLED).await;
    member.serves(&pki.client_with(&client())).await.unwrap();
}
