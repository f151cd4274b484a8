//! The peer port as a stranger with a plain HTTP client sees it (operations.md §3.6, §3.7, §6.6),
//! and a peer that talks nonsense.

use etcdrs_tests::http::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A cluster with what its peers tell each other in headers.
pub(crate) struct Peers {
    pub(crate) cluster: Cluster,
    pub(crate) cluster_id: String,
    /// The ids of the members, in hex.
    pub(crate) ids: Vec<String>,
    term: u64,
}

impl Peers {
    async fn of(cluster: Cluster) -> Self {
        let mut ids = Vec::new();
        for at in 0..cluster.members.len() {
            ids.push(format!("{:x}", cluster.id(at).await));
        }
        let header = cluster.clients(0).await.status().await.header.unwrap();
        let cluster_id = format!("{:x}", header.cluster_id);
        let leader = cluster.leader().await;
        let term = cluster.clients(leader).await.status().await.raft_term;
        Self { cluster, cluster_id, ids, term }
    }

    fn port(&self) -> u16 {
        self.cluster.members[0].peer_port()
    }

    /// Headers of member 1 talking to member 0; those in `other` replace them.
    fn headers<'a>(&'a self, other: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let usual = [
            ("X-Etcd-Cluster-ID", &self.cluster_id[..]),
            ("X-Server-From", &self.ids[1]),
            ("X-Server-Version", "3.5.1"),
            ("X-Min-Cluster-Version", "3.0.0"),
            ("X-Raft-To", &self.ids[0]),
        ];
        let kept = usual.into_iter().filter(|(name, _)| other.iter().all(|(n, _)| n != name));
        kept.chain(other.iter().copied()).filter(|(_, value)| !value.is_empty()).collect()
    }

    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        other: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let headers = self.headers(other);
        http::exchange(self.port(), method, path, &headers, body).await.unwrap()
    }

    /// Fails unless the answer is this one.
    #[track_caller]
    pub(crate) fn check(answer: &Answer, status: u16, body: &str) {
        let told = answer.body.trim_end_matches('\n');
        assert_eq!((answer.status, told), (status, body), "{}", answer.head);
    }

    /// The same leader in the same term, and the members agree.
    pub(crate) async fn nobody_was_disturbed(&self) {
        let mut clients = self.cluster.clients(0).await;
        clients.put("after", "v").await;
        assert_eq!(clients.status().await.raft_term, self.term);
        self.cluster.wait_equal(&[0, 1, 2]).await;
    }
}

pub(crate) async fn three() -> Peers {
    Peers::of(Shape::new().flag("strict-reconfig-check", false).start().await).await
}

/// Operations §3.7, T10, T37: what a message to `/raft` is refused with.
#[tokio::test]
async fn t_37_messages_with_wrong_headers_or_bodies_are_refused() {
    let peers = three().await;
    let wrong_method = peers.ask("GET", "/raft", &[], b"").await;
    assert_eq!((wrong_method.status, wrong_method.header("Allow")), (405, Some("POST")));
    let bare = http::exchange(peers.port(), "POST", "/raft", &[], b"").await.unwrap();
    Peers::check(&bare, 412, "incompatible version");
    for version in [("X-Server-Version", "2.0.0"), ("X-Min-Cluster-Version", "9.0.0")] {
        let old = peers.ask("POST", "/raft", &[version], b"").await;
        Peers::check(&old, 412, "incompatible version");
    }
    let foreign = peers.ask("POST", "/raft", &[("X-Etcd-Cluster-ID", "abc")], b"").await;
    Peers::check(&foreign, 412, "cluster ID mismatch");
    assert_eq!(foreign.header("X-Etcd-Cluster-ID"), Some(&peers.cluster_id[..]));
    let garbage = peers.ask("POST", "/raft", &[], &[0xff; 40]).await;
    Peers::check(&garbage, 400, "error unmarshalling raft message");
    for path in ["/raft/", "/raft/bogus"] {
        assert_eq!(peers.ask("GET", path, &[], b"").await.status, 404, "{path}");
    }
    peers.nobody_was_disturbed().await;
}

/// Operations §3.7, T09, T37, U56: what a stream is refused with.
#[tokio::test]
async fn t_37_u_56_streams_with_wrong_headers_or_paths_are_refused() {
    let peers = three().await;
    let known = format!("/raft/stream/message/{}", peers.ids[1]);
    let wrong_method = peers.ask("POST", &known, &[], b"").await;
    assert_eq!((wrong_method.status, wrong_method.header("Allow")), (405, Some("GET")));
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(&str, Headers, u16, &str); 7] = [
        (&known, &[("X-Server-Version", "")], 412, "incompatible version"),
        (&known, &[("X-Etcd-Cluster-ID", "1")], 412, "cluster ID mismatch"),
        (&known, &[("X-Raft-To", "123")], 412, "to field mismatch"),
        ("/raft/stream/message/abc", &[("X-Server-From", "abc")], 404, "error sender not found"),
        ("/raft/stream/message/zz", &[], 404, "invalid from"),
        ("/raft/stream/bogus/abc", &[], 404, "invalid path"),
        ("/raft/stream/msgapp/abc", &[("X-Raft-To", "")], 404, "error sender not found"),
    ];
    for (path, headers, status, body) in cases {
        let answer = peers.ask("GET", path, headers, b"").await;
        assert_eq!(answer.body.trim_end(), body, "{path} {headers:?}");
        Peers::check(&answer, status, body);
        assert_eq!(answer.header("X-Etcd-Cluster-ID"), Some(&peers.cluster_id[..]), "{path}");
    }
    peers.nobody_was_disturbed().await;
}

/// Operations §6.6, U57: what a snapshot is refused with.
#[tokio::test]
async fn u_57_snapshots_with_wrong_headers_or_bodies_are_refused() {
    let peers = three().await;
    let wrong_method = peers.ask("GET", "/raft/snapshot", &[], b"").await;
    assert_eq!((wrong_method.status, wrong_method.header("Allow")), (405, Some("POST")));
    let old = peers.ask("POST", "/raft/snapshot", &[("X-Server-Version", "")], b"").await;
    Peers::check(&old, 412, "incompatible version");
    let foreign = peers.ask("POST", "/raft/snapshot", &[("X-Etcd-Cluster-ID", "9")], b"").await;
    Peers::check(&foreign, 412, "cluster ID mismatch");
    for body in [&b""[..], &[0xff; 64], &[0, 0, 0, 0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]] {
        let garbage = peers.ask("POST", "/raft/snapshot", &[], body).await;
        assert_eq!(garbage.status, 400, "{garbage:?}");
    }
    peers.nobody_was_disturbed().await;
}

/// T12, operations §3.7: a removed member is turned away at every door.
#[tokio::test]
async fn t_12_removed_senders_are_turned_away() {
    let peers = three().await;
    let mut clients = peers.cluster.clients(0).await;
    let added = clients.try_member_add(add_request("http://127.0.0.1:1", true)).await.unwrap();
    let gone = added.member.unwrap().id;
    clients.try_member_remove(gone).await.unwrap();
    let from = format!("{gone:x}");
    for stream in ["message", "msgapp"] {
        let path = format!("/raft/stream/{stream}/{from}");
        let answer = peers.ask("GET", &path, &[("X-Server-From", &from)], b"").await;
        Peers::check(&answer, 410, "removed member");
    }
    // A heartbeat of raftpb: type 8, to member 0, from the removed one.
    let to = u64::from_str_radix(&peers.ids[0], 16).unwrap();
    let mut body = vec![0x08, 8, 0x10];
    varint(to, &mut body);
    body.push(0x18);
    varint(gone, &mut body);
    let answer = peers.ask("POST", "/raft", &[("X-Server-From", &from)], &body).await;
    match peers.cluster.members[0].flavour() {
        Flavour::Current => {
            let told = r#"{"message":"cannot process message from removed member"}"#;
            Peers::check(&answer, 403, told);
        }
        // 3.5.1 means to answer the same, but its error lost the method that would write it.
        Flavour::Etcd35 => Peers::check(&answer, 500, "error processing raft message"),
    }
    peers.nobody_was_disturbed().await;
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
}

/// U52, U58, operations §3.6: what the peer port serves beside raft.
#[tokio::test]
async fn u_52_u_58_the_other_routes_of_the_peer_port() {
    let peers = three().await;
    let port = peers.port();
    let probe = http::get(port, "/raft/probing").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&probe.body).unwrap();
    assert_eq!((probe.status, &json["OK"]), (200, &true.into()), "{}", probe.body);
    assert!(json["Now"].as_str().unwrap().ends_with('Z'), "{json}");

    let list = http::get(port, "/members").await.unwrap();
    assert_eq!(list.status, 200);
    assert_eq!(list.header("X-Etcd-Cluster-ID"), Some(&peers.cluster_id[..]));
    let json: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    let members = json.as_array().unwrap();
    let ids: Vec<u64> = members.iter().map(|member| member["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted() && ids.len() == 3, "{json}");
    for (at, place) in peers.cluster.places.iter().enumerate() {
        let id = u64::from_str_radix(&peers.ids[at], 16).unwrap();
        let member = members.iter().find(|member| member["id"] == id).unwrap();
        assert_eq!(member["name"], place.name[..]);
        assert_eq!(member["peerURLs"][0], place.peer_url());
        assert_eq!(member["clientURLs"][0], peers.cluster.members[at].endpoint());
        assert!(member.get("isLearner").is_none(), "{member}");
    }
    assert_eq!(http::send(port, "POST", "/members").await.unwrap().status, 405);
    assert_eq!(http::get(port, "/members/x").await.unwrap().status, 404);
    assert_eq!(http::get(port, "/nothing").await.unwrap().status, 404);
    assert_eq!(http::get(port, "/health").await.unwrap().status, 404);
    let version = http::get(port, "/version").await.unwrap();
    assert!(version.status == 200 && version.body.contains("\"etcdserver\":\"3."));
    let downgrade = http::get(port, "/downgrade/enabled").await.unwrap();
    assert_eq!((downgrade.status, &downgrade.body[..]), (200, "false"));
}

/// Operations §3.6: promotion, leases and hashes as members ask each other for them.
#[tokio::test]
async fn what_members_ask_each_other_for() {
    let peers = three().await;
    let cluster = &peers.cluster;
    let leader = cluster.leader().await;
    let port = cluster.members[leader].peer_port();
    let voter = cluster.id(leader).await;
    let post = |path: String| async move { http::send(port, "POST", &path).await.unwrap() };
    Peers::check(&post("/members/promote/zz".into()).await, 404, "member zz not found in cluster");
    let unknown = post("/members/promote/12345".into()).await;
    Peers::check(&unknown, 404, "membership: ID not found");
    let answer = post(format!("/members/promote/{voter}")).await;
    Peers::check(&answer, 412, "membership: can only promote a learner member");
    assert_eq!(http::get(port, "/members/promote/1").await.unwrap().status, 405);

    cluster.clients(0).await.grant(300, 60).await;
    let renew = http::exchange(port, "POST", "/leases", &[], &[0x08, 0xac, 0x02]).await.unwrap();
    assert_eq!(renew.status, 200, "{renew:?}");
    let gone = http::exchange(port, "POST", "/leases", &[], &[0x08, 1]).await.unwrap();
    Peers::check(&gone, 404, "lease not found");
    assert_eq!(http::get(port, "/leases").await.unwrap().status, 405);
    let garbage = http::exchange(port, "POST", "/leases", &[], &[0xff; 9]).await.unwrap();
    assert_eq!(garbage.status, 400);

    let body = br#"{"revision":0}"#;
    let header = [("X-Etcd-Cluster-ID", "abc")];
    let foreign = http::exchange(port, "GET", "/members/hashkv", &header, body).await.unwrap();
    if cluster.members[0].flavour() == Flavour::Current {
        Peers::check(&foreign, 412, "cluster ID mismatch");
    }
    let hash = http::exchange(port, "GET", "/members/hashkv", &[], body).await.unwrap();
    assert_eq!(hash.status, 200, "{hash:?}");
    let json: serde_json::Value = serde_json::from_str(&hash.body).unwrap();
    let expected = cluster.clients(leader).await.try_hash_kv(0).await.unwrap();
    assert_eq!(json["hash"], expected.hash, "{json}");
    let future = http::exchange(port, "GET", "/members/hashkv", &[], br#"{"revision":99}"#).await;
    Peers::check(&future.unwrap(), 400, "mvcc: required revision is a future revision");
    let bad = http::exchange(port, "GET", "/members/hashkv", &[], b"x").await.unwrap();
    assert_eq!(bad.status, 400);
    assert_eq!(post("/members/hashkv".into()).await.status, 405);
}

/// T24, issue 3: a peer that answers streams with garbage is dropped and dialled again; nobody
/// else notices.
#[tokio::test]
async fn t_24_garbage_in_a_stream_disturbs_nobody() {
    let peers = three().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut clients = peers.cluster.clients(0).await;
    let added = clients.try_member_add(add_request(&url, true)).await.unwrap();
    let liar = added.member.unwrap().id;
    let mut streams = 0;
    // Each of three members dials two streams, and comes again after it lost them.
    while streams < 12 {
        let accepted = tokio::time::timeout(LIMIT, listener.accept()).await.unwrap();
        let (connection, _) = accepted.unwrap();
        if talk_nonsense(connection, &peers.cluster_id).await {
            streams += 1;
        }
    }
    clients.put("meanwhile", "v").await;
    clients.try_member_remove(liar).await.unwrap();
    drop(listener);
    peers.nobody_was_disturbed().await;
    for member in &peers.cluster.members {
        let text = member.log().text();
        assert!(text.contains("lost TCP streaming connection with remote peer"));
    }
}

/// Answers one request; true if it was for a stream.
async fn talk_nonsense(mut connection: TcpStream, cluster_id: &str) -> bool {
    let mut request = [0; 2048];
    let length = connection.read(&mut request).await.unwrap_or(0);
    let asks = String::from_utf8_lossy(&request[..length]).into_owned();
    let stream = asks.starts_with("GET /raft/stream/");
    let body: &[u8] = if stream { &[0xff; 100] } else { b"?" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: {cluster_id}\r\nX-Server-Version: 3.5.1\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    );
    let _ = connection.write_all(head.as_bytes()).await;
    let _ = connection.write_all(body).await;
    let _ = connection.write_all(b"\r\n").await;
    stream
}
