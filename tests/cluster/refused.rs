//! Peers that do not belong here and come again and again (issue 3): each is refused with etcd's
//! status and text, told in the log once, and nobody else is disturbed.

use tokio::net::TcpListener;

use crate::peer_port::{Peers, three};
use crate::support::*;

/// How often each comes.
const TIMES: usize = 8;

impl Peers {
    /// Lines of member 0 that hold all of these texts.
    fn lines(&self, texts: &[&str]) -> Vec<String> {
        let log = self.cluster.members[0].log().text();
        let holds = |line: &&str| texts.iter().all(|text| line.contains(text));
        log.lines().filter(holds).map(str::to_owned).collect()
    }

    /// Fails unless the log has exactly so many lines about a sender and a reason.
    async fn told(&self, from: &str, reason: &str, times: usize) {
        // etcd says it each time.
        if self.cluster.members[0].flavour() != Flavour::Current {
            return;
        }
        let texts = ["\"level\":\"warn\"", &format!("\"{from}\""), reason];
        eventually("it is in the log", || async {
            (self.lines(&texts).len() >= times).then_some(())
        })
        .await;
        let lines = self.lines(&texts);
        assert_eq!(lines.len(), times, "{lines:#?}");
    }

    async fn insist(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        (status, text): (u16, &str),
    ) {
        for _ in 0..TIMES {
            let answer = self.ask(method, path, headers, b"").await;
            Self::check(&answer, status, text);
        }
    }
}

#[tokio::test]
async fn t_37_a_wrong_cluster_or_version_is_told_once() {
    let peers = three().await;
    for (from, header, text) in [
        ("abc1", ("X-Etcd-Cluster-ID", "abc"), "cluster ID mismatch"),
        ("abc2", ("X-Server-Version", "2.3.8"), "incompatible version"),
        ("abc3", ("X-Min-Cluster-Version", "9.0.0"), "incompatible version"),
    ] {
        let path = format!("/raft/stream/message/{from}");
        let headers = [("X-Server-From", from), header];
        for request in [("GET", &path[..]), ("POST", "/raft"), ("POST", "/raft/snapshot")] {
            peers.insist(request, &headers, (412, text)).await;
        }
        peers.told(from, text, 1).await;
    }
    peers.nobody_was_disturbed().await;
}

#[tokio::test]
async fn t_37_a_wrong_target_is_told_once() {
    let peers = three().await;
    let from = peers.ids[1].clone();
    let path = format!("/raft/stream/msgapp/{from}");
    let headers = [("X-Raft-To", "123")];
    peers.insist(("GET", &path), &headers, (412, "to field mismatch")).await;
    peers.told(&from, "to field mismatch", 1).await;
    if peers.cluster.members[0].flavour() == Flavour::Current {
        // etcd looks at the message for whom it is.
        let told = r#"{"message":"cannot process message to mismatch member"}"#;
        peers.insist(("POST", "/raft"), &headers, (403, told)).await;
        peers.told(&from, "rejected Raft message to mismatch member", 1).await;
    }
    peers.nobody_was_disturbed().await;
}

#[tokio::test]
async fn t_12_a_removed_member_is_told_once() {
    let peers = three().await;
    let mut clients = peers.cluster.clients(0).await;
    let added = clients.try_member_add(add_request("http://127.0.0.1:1", true)).await.unwrap();
    let gone = added.member.unwrap().id;
    clients.try_member_remove(gone).await.unwrap();
    let from = format!("{gone:x}");
    let headers = [("X-Server-From", &from[..])];
    for lane in ["message", "msgapp"] {
        let path = format!("/raft/stream/{lane}/{from}");
        peers.insist(("GET", &path), &headers, (410, "removed member")).await;
    }
    peers.told(&from, "because it was removed", 1).await;
    if peers.cluster.members[0].flavour() == Flavour::Current {
        let told = r#"{"message":"cannot process message from removed member"}"#;
        peers.insist(("POST", "/raft"), &headers, (403, told)).await;
        peers.insist(("POST", "/raft/snapshot"), &headers, (403, told)).await;
        peers.told(&from, "rejected Raft message from removed member", 1).await;
    }
    peers.nobody_was_disturbed().await;
}

/// A stream that is right but for one byte: its connection is given up, it is told once for each
/// of the two streams, and what was in it is never seen.
#[tokio::test]
async fn t_24_a_garbage_byte_in_a_stream_is_told_once() {
    let peers = three().await;
    if peers.cluster.members[0].flavour() != Flavour::Current {
        // The frames are ours; `t_24_garbage_in_a_stream_disturbs_nobody` is for both.
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut clients = peers.cluster.clients(0).await;
    let added = clients.try_member_add(add_request(&url, true)).await.unwrap();
    let liar = added.member.unwrap().id;
    let mut streams = 0;
    while streams < 8 * peers.ids.len() {
        let accepted = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap();
        let (connection, _) = accepted.unwrap();
        if almost_right(connection, liar).await {
            streams += 1;
        }
    }
    clients.try_member_remove(liar).await.unwrap();
    let (liar, reason) = (format!("{liar:x}"), "damaged frame header");
    peers.told(&liar, reason, 2).await;
    peers.nobody_was_disturbed().await;
}

/// Answers one request; true if it was for a stream, which then has a frame with one wrong byte.
async fn almost_right(mut connection: tokio::net::TcpStream, from: u64) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut request = [0; 2048];
    let length = connection.read(&mut request).await.unwrap_or(0);
    let asks = String::from_utf8_lossy(&request[..length]).into_owned();
    let to = asks.split("\r\n").next().unwrap_or_default();
    let Some(to) = to.strip_prefix("GET /raft/stream/").and_then(|rest| rest.split('/').nth(1))
    else {
        return false;
    };
    let to = to.split(' ').next().unwrap_or_default();
    let place = format!("1.1.0 {from:x} {to}");
    let sum = crc32c(place.as_bytes());
    // A heartbeat: no payload, checksum of nothing, kind 0, and three bytes of the checksum of
    // all that; one of these is wrong.
    let mut frame = vec![0; 9];
    let check = crc32c(&frame).to_be_bytes();
    frame.extend_from_slice(&check[1..]);
    frame[11] ^= 0x10;
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Etcdrs-Format: 1\r\nX-Etcdrs-Place: 1.1.0.{sum:08x}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        frame.len()
    );
    let _ = connection.write_all(head.as_bytes()).await;
    let _ = connection.write_all(&frame).await;
    let _ = connection.write_all(b"\r\n").await;
    // The other side hangs up when it has seen the byte.
    let _ = connection.read(&mut request).await;
    true
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
