//! Who and what is refused, with which status and text (operations.md §3.7, §6.6).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::Member;
use common::raw::{GOOD, ask, fake_peer, frame, good_but};
use etcdrs_types::MemberId;

const STREAM: &str = "/raft/stream/message/b";

struct Case<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    want: (u16, &'a str),
}

async fn check(port: u16, case: Case<'_>) {
    let Case { method, path, headers, body, want } = case;
    let answer = ask(port, method, path, headers, body).await;
    let got = (answer.status, &*answer.body);
    assert_eq!(got, want, "{method} {path} {headers:?}");
    if path != "/raft/probing" && !(path.starts_with("/raft/") && answer.status == 405) {
        assert_eq!(answer.header("X-Etcd-Cluster-ID"), Some("c1"), "{method} {path}");
    }
}

/// A member `a` that knows `b`, though nobody is there.
async fn member() -> Member {
    let member = Member::start(0xa).await;
    member.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    member
}

/// T37: streams.
#[tokio::test]
async fn t37_streams_are_refused_as_by_etcd() {
    let member = member().await;
    member.recorder.removed.lock().insert(MemberId(0xdead));
    let get = async |path: &str, headers: &[(&str, &str)], want: (u16, &str)| {
        check(member.port, Case { method: "GET", path, headers, body: b"", want }).await;
    };
    get(STREAM, &[], (412, "incompatible version\n")).await;
    let old = good_but(&[("X-Server-Version", "2.3.8")]);
    get(STREAM, &old, (412, "incompatible version\n")).await;
    let newer = good_but(&[("X-Min-Cluster-Version", "3.8.0")]);
    get(STREAM, &newer, (412, "incompatible version\n")).await;
    let foreign = good_but(&[("X-Etcd-Cluster-ID", "c2")]);
    get(STREAM, &foreign, (412, "cluster ID mismatch\n")).await;
    let other = good_but(&[("X-Raft-To", "b")]);
    get(STREAM, &other, (412, "to field mismatch\n")).await;
    let go = good_but(&[("X-Etcdrs-Format", "")]);
    get(STREAM, &go, (412, "incompatible version\n")).await;
    get("/raft/stream/message/abc", GOOD, (404, "error sender not found\n")).await;
    get("/raft/stream/message/zz", GOOD, (404, "invalid from\n")).await;
    get("/raft/stream/bogus/abc", GOOD, (404, "invalid path\n")).await;
    get("/raft/stream/msgapp", GOOD, (404, "invalid from\n")).await;
    get("/raft/stream/message/dead", GOOD, (410, "removed member\n")).await;
    let post = ask(member.port, "POST", STREAM, GOOD, b"").await;
    assert_eq!((post.status, &*post.body), (405, "Method Not Allowed\n"));
    assert_eq!(post.header("Allow"), Some("GET"));
    let refused = ask(member.port, "GET", STREAM, &other, b"").await;
    assert_eq!(refused.header("X-Server-Version"), Some("3.7.1"));
    assert_eq!(refused.header("Content-Type"), Some("text/plain; charset=utf-8"));
}

/// T12, T37: messages.
#[tokio::test]
async fn t12_messages_are_refused_as_by_etcd() {
    let member = member().await;
    member.recorder.removed.lock().insert(MemberId(0xdead));
    let post = async |headers: &[(&str, &str)], body: &[u8], want: (u16, &str)| {
        check(member.port, Case { method: "POST", path: "/raft", headers, body, want }).await;
    };
    post(&[], b"", (412, "incompatible version\n")).await;
    let foreign = good_but(&[("X-Etcd-Cluster-ID", "c2")]);
    post(&foreign, b"", (412, "cluster ID mismatch\n")).await;
    let malformed = (400, "error unmarshalling raft message\n");
    post(GOOD, b"garbage that is longer than a header", malformed).await;
    post(GOOD, b"short", malformed).await;
    post(GOOD, &frame(3, b"a chunk"), malformed).await;
    let nobody = good_but(&[("X-Server-From", "")]);
    post(&nobody, &frame(1, b"message"), malformed).await;
    let removed = good_but(&[("X-Server-From", "dead")]);
    let text = r#"{"message":"cannot process message from removed member"}"#;
    post(&removed, &frame(1, b"message"), (403, text)).await;
    let other = good_but(&[("X-Raft-To", "b")]);
    let text = r#"{"message":"cannot process message to mismatch member"}"#;
    post(&other, &frame(1, b"message"), (403, text)).await;
    assert!(member.recorder.seen.borrow().messages.is_empty());
    post(GOOD, &[frame(1, b"one"), frame(1, b"two")].concat(), (204, "")).await;
    assert_eq!(member.recorder.seen.borrow().messages.len(), 2);
    let get = ask(member.port, "GET", "/raft", GOOD, b"").await;
    assert_eq!((get.status, get.header("Allow")), (405, Some("POST")));
}

/// T37: snapshots.
#[tokio::test]
async fn t37_snapshots_are_refused_as_by_etcd() {
    let member = member().await;
    member.recorder.removed.lock().insert(MemberId(0xdead));
    let post = async |headers: &[(&str, &str)], body: &[u8], want: (u16, &str)| {
        check(member.port, Case { method: "POST", path: "/raft/snapshot", headers, body, want })
            .await;
    };
    let head = frame(2, b"head");
    let chunk = frame(3, b"chunk");
    let end = |bytes: u64, of: &[u8]| {
        frame(4, &[&bytes.to_be_bytes()[..], &crc32c::crc32c(of).to_be_bytes()].concat())
    };
    post(&[], b"", (412, "incompatible version\n")).await;
    let foreign = good_but(&[("X-Etcd-Cluster-ID", "c2")]);
    post(&foreign, &head, (412, "cluster ID mismatch\n")).await;
    let removed = good_but(&[("X-Server-From", "dead")]);
    let text = r#"{"message":"cannot process message from removed member"}"#;
    post(&removed, &head, (403, text)).await;
    let malformed = (400, "error unmarshalling raft message\n");
    post(GOOD, b"garbage that is longer than a header", malformed).await;
    post(GOOD, &chunk, malformed).await;
    post(GOOD, b"", (400, "error reading raft message\n")).await;
    // From here on the receiver sees the head, and finds out by itself.
    let early = (400, "snapshot ended early: the body ended\n");
    post(GOOD, &[head.clone(), chunk.clone()].concat(), early).await;
    let missing = (400, "snapshot is damaged: chunks are missing\n");
    post(GOOD, &[head.clone(), chunk.clone(), end(10, b"chunkchunk")].concat(), missing).await;
    let mut flipped = [head.clone(), chunk.clone(), end(5, b"chunk")].concat();
    flipped[head.len() + 13] ^= 1;
    let damaged = (400, "snapshot is damaged: frame checksum mismatch\n");
    post(GOOD, &flipped, damaged).await;
    let whole = [head, chunk, end(5, b"chunk")].concat();
    let answer = ask(member.port, "POST", "/raft/snapshot", GOOD, &whole).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("took 5"));
}

#[tokio::test]
async fn probes_are_answered_and_other_paths_are_not() {
    let member = member().await;
    let probe = ask(member.port, "GET", "/raft/probing", &[], b"").await;
    assert_eq!(probe.status, 200);
    assert!(probe.body.starts_with(r#"{"OK":true,"Now":"20"#), "{}", probe.body);
    for path in ["/", "/raft/other", "/members/x", "/v3/kv/range"] {
        let answer = ask(member.port, "GET", path, GOOD, b"").await;
        assert_eq!((answer.status, &*answer.body), (404, "404 page not found\n"), "{path}");
    }
}

/// A removed member learns it from its peers, whichever way it asks (operations.md §6.6).
#[tokio::test]
async fn a_removed_member_is_told_once() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    one.recorder.removed.lock().insert(two.id);
    two.add(&one);
    two.recorder.until("the news", |seen| seen.removed_by == [one.id]).await;
    // By a message, from another member that opens no streams.
    let three = Member::start(0xc).await;
    one.recorder.removed.lock().insert(three.id);
    three.transport.add_remote(one.id, std::slice::from_ref(&one.url)).unwrap();
    let told = three.recorder.until("the news", |seen| seen.removed_by == [one.id]);
    tokio::pin!(told);
    // It is said several times before it counts.
    loop {
        let message = bytes::Bytes::from_static(b"message");
        // Refused while the pause after a failure lasts.
        let _ = three.transport.send(one.id, etcdrs_rafthttp_transport::Lane::Append, message);
        tokio::select! {
            () = &mut told => break,
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
        }
    }
    assert!(one.recorder.seen.borrow().messages.is_empty());
    // Both of its streams were refused several times by now, or will be: it is told once.
    assert_eq!(two.recorder.seen.borrow().removed_by, [one.id]);
}

/// A request whose target was damaged on the way is refused with the status of a removal.
#[tokio::test]
async fn a_refusal_for_another_reason_is_no_removal() {
    let one = Member::start(0xa).await;
    let body = r#"{"message":"cannot process message to mismatch member"}"#;
    let length = body.len();
    let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\n\r\n{body}");
    let (port, mut asked) = fake_peer(answer.into_bytes()).await;
    let peer = MemberId(0xb);
    one.transport.add_remote(peer, &[format!("http://127.0.0.1:{port}")]).unwrap();
    while *asked.borrow_and_update() < 6 {
        let message = bytes::Bytes::from_static(b"message");
        // Refused while the pause after a failure lasts.
        let _ = one.transport.send(peer, etcdrs_rafthttp_transport::Lane::Append, message);
        let next = asked.changed();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(20), next).await;
    }
    assert!(one.recorder.seen.borrow().removed_by.is_empty());
}

/// Peers of another cluster, version or program exchange nothing, and keep nobody else busy.
#[tokio::test]
async fn t37_a_foreign_cluster_gets_no_data() {
    let one = Member::start(0xa).await;
    let two = Member::start_with(0xb, |config| {
        config.cluster = etcdrs_types::ClusterId(0xc2);
    })
    .await;
    let (go, mut asked) = fake_peer(b"HTTP/1.1 200 OK\r\n\r\nstream of Go".to_vec()).await;
    one.add(&two);
    two.add(&one);
    one.transport.add_peer(MemberId(0xc), &[format!("http://127.0.0.1:{go}")]).unwrap();
    asked.wait_for(|asked| *asked >= 6).await.unwrap();
    let three = Member::start(0xd).await;
    one.add(&three);
    three.add(&one);
    one.until_up(three.id).await;
    let seen = one.recorder.seen.borrow();
    assert!(seen.links.iter().all(|(peer, _)| *peer == three.id));
    assert!(seen.messages.is_empty() && seen.unknown.is_empty());
}
