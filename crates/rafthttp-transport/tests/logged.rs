//! What is logged, in which words, and how often: once for what goes on and on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::lines::Lines;
use common::raw::{self, GOOD, fake_peer, frame, good_but, stream_answer};
use common::tap::Tap;
use common::{CLUSTER, Member, numbered};
use etcdrs_platform::{Clock, SystemClock};
use etcdrs_rafthttp_transport::{
    BoxFuture, Config, Handler, Lane, Observer, PlainTcp, SnapshotBody, SnapshotRefused, Transport,
};
use etcdrs_types::MemberId;

/// Sends a request twenty times and returns the last answer.
async fn insist(port: u16, (method, path): (&str, &str), headers: &[(&str, &str)]) -> raw::Answer {
    let mut last = None;
    for _ in 0..20 {
        last = Some(raw::ask(port, method, path, headers, &frame(1, b"message")).await);
    }
    last.unwrap()
}

/// T12, T37, and "logged once": each refusal, with both ids, however often it is asked for. One of
/// a sender that was taken meanwhile is news again.
#[tokio::test]
async fn t_12_t_37_a_refusal_is_logged_once_with_both_ids() {
    let (lines, _listening) = Lines::listen();
    let member = Member::start(0xa).await;
    member.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    member.recorder.removed.lock().insert(MemberId(0xdead));
    let old = good_but(&[("X-Server-Version", "2.3.8")]);
    let foreign = good_but(&[("X-Etcd-Cluster-ID", "c2"), ("X-Server-From", "c")]);
    let other = good_but(&[("X-Raft-To", "d"), ("X-Server-From", "d")]);
    let removed = good_but(&[("X-Server-From", "dead")]);
    const STREAM: &str = "/raft/stream/message/";
    let (of_b, of_d, of_dead) =
        (format!("{STREAM}b"), format!("{STREAM}d"), format!("{STREAM}dead"));
    member.transport.add_peer(MemberId(0xd), &["http://127.0.0.1:1".to_owned()]).unwrap();
    for (request, headers, status, from, text) in [
        (("POST", "/raft"), &old, 412, "b", "incompatible version"),
        (("GET", &of_b[..]), &old, 412, "b", "incompatible version"),
        (("POST", "/raft"), &foreign, 412, "c", "cluster ID mismatch"),
        (("POST", "/raft/snapshot"), &foreign, 412, "c", "cluster ID mismatch"),
        (("POST", "/raft"), &other, 403, "d", "rejected Raft message to mismatch member"),
        (("GET", &of_d[..]), &other, 412, "d", "to field mismatch"),
        (("POST", "/raft"), &removed, 403, "dead", "rejected Raft message from removed member"),
        (("GET", &of_dead[..]), &removed, 410, "dead", "because it was removed"),
    ] {
        assert_eq!(insist(member.port, request, headers).await.status, status, "{request:?}");
        let ids = ["local_member_id=a", &format!("remote_peer_id={from} ")];
        let told = lines.with(&["WARN", ids[0], ids[1], text]);
        assert_eq!(told.len(), 1, "{request:?}: {told:?}");
    }
    assert_eq!(insist(member.port, ("POST", "/raft"), GOOD).await.status, 204);
    insist(member.port, ("POST", "/raft"), &old).await;
    assert_eq!(lines.count(&["remote_peer_id=b ", "incompatible version"]), 2);
}

/// T24, and "a garbage byte in a stream": it is told once for each stream, however often the peer
/// comes back with the same.
#[tokio::test]
async fn t_24_garbage_in_a_stream_is_logged_once() {
    let (lines, _listening) = Lines::listen();
    let one = Member::start(0xa).await;
    let mut bad = frame(1, b"a message");
    bad[15] ^= 1;
    let (port, mut asked) = fake_peer(stream_answer(0xf, &bad)).await;
    one.transport.add_peer(MemberId(0xf), &[format!("http://127.0.0.1:{port}")]).unwrap();
    asked.wait_for(|asked| *asked >= 10).await.unwrap();
    one.recorder.until("damage", |seen| seen.damaged >= 6).await;
    let told = lines.with(&["WARN", "lost TCP streaming connection", "frame checksum mismatch"]);
    assert_eq!(told.len(), 2, "once for each stream: {told:?}");
    assert!(told.iter().all(|line| line.contains("remote_peer_id=f")), "{told:?}");
    assert!(one.recorder.seen.borrow().messages.is_empty());
}

/// T18, T20: what an operator reads when a peer is added, and when it is removed.
#[tokio::test]
async fn t_18_t_20_adding_a_peer_is_logged_once() {
    let (lines, _listening) = Lines::listen();
    let one = Member::start(0xa).await;
    let urls = ["http://127.0.0.1:1".to_owned()];
    for _ in 0..3 {
        one.transport.add_peer(MemberId(0xb), &urls).unwrap();
        one.transport.add_remote(MemberId(0xb), &urls).unwrap();
        one.transport.add_peer(one.id, &urls).unwrap();
    }
    for text in [
        "starting remote peer",
        "started HTTP pipelining with remote peer",
        "started remote peer",
        "added remote peer",
    ] {
        assert_eq!(lines.count(&["INFO", text, "remote_peer_id=b"]), 1, "{text}");
    }
    assert_eq!(lines.count(&["added new remote peer"]), 0);
    one.transport.add_remote(MemberId(0xc), &urls).unwrap();
    one.transport.add_remote(MemberId(0xc), &urls).unwrap();
    assert_eq!(lines.count(&["INFO", "added new remote peer", "remote_peer_id=c"]), 1);
    one.transport.remove_peer(MemberId(0xb));
    one.transport.remove_peer(MemberId(0xb));
    assert_eq!(lines.count(&["removed remote peer", "removed_remote_peer_id=b"]), 1);
}

/// T30: a change of a peer's state is one line, whatever goes on.
#[tokio::test]
async fn t_30_a_change_of_state_is_logged_once() {
    let (lines, _listening) = Lines::listen();
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let tap = Tap::to(one.port).await;
    let active = |up: &str| lines.count(&[up, "peer_id=b"]);
    one.add(&two);
    two.add_at(&one, &tap.url);
    one.until_up(two.id).await;
    for number in 0..100 {
        one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
    }
    assert_eq!((active("peer became active"), active("peer became inactive")), (1, 0));
    // Nobody is there any more: both streams break, and posts fail again and again.
    let port = two.port;
    two.stop().await;
    one.recorder.until("the link is down", |seen| !seen.is_up(MemberId(0xb))).await;
    for _ in 0..100 {
        let _ = one.transport.send(MemberId(0xb), Lane::Append, Bytes::new());
        tokio::task::yield_now().await;
    }
    assert_eq!((active("peer became active"), active("peer became inactive")), (1, 1));
    let text = "peer became inactive (message send to peer failed)";
    assert_eq!(lines.count(&["WARN", text, "peer_id=b"]), 1);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let again = Member::start_on(0xb, listener, port, |_| {}).await;
    again.add_at(&one, &tap.url);
    one.until_up(again.id).await;
    assert_eq!(active("INFO peer became active"), 2);
}

/// A clock that is ahead of the world's.
#[derive(Debug)]
struct Ahead {
    clock: SystemClock,
    by_ms: AtomicU64,
}

impl Clock for Ahead {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn wall_unix_ms(&self) -> u64 {
        self.clock.wall_unix_ms() + self.by_ms.load(Ordering::SeqCst)
    }
}

/// T31: clocks more than a second apart are worth a warning, less are not; the round trips are
/// measured either way.
#[tokio::test]
async fn t_31_a_clock_that_is_wrong_is_told() {
    let (lines, _listening) = Lines::listen();
    for (id, ahead_ms, warned) in [(0xb, 0, 0), (0xc, 500, 0), (0xd, 5000, 1)] {
        let by_ms = AtomicU64::new(ahead_ms);
        let clock = Arc::new(Ahead { clock: SystemClock::new(), by_ms });
        let wrong = Member::start_with(id, |config| config.clock = clock).await;
        let one = Member::start(0xa).await;
        one.add(&wrong);
        one.recorder.until("a probe", |seen| seen.probed > 0).await;
        let drift = one.transport.peers()[0].clock_drift_ms.unwrap();
        assert!((drift - ahead_ms as i64).abs() < 500, "{drift} of {ahead_ms}");
        assert!(one.transport.peers()[0].rtt.is_some());
        let told = lines.with(&["WARN", "prober found high clock drift"]);
        let of_peer = told.iter().filter(|line| line.contains(&format!("remote_peer_id={id:x}")));
        assert_eq!(of_peer.count(), warned, "{told:?}");
    }
}

/// A user of the transport that has no room.
struct Full;

impl Handler for Full {
    fn receive(&self, _: MemberId, _: &mut Vec<Bytes>) {}

    fn is_removed(&self, _: MemberId) -> bool {
        false
    }

    fn link_changed(&self, _: MemberId, _: bool) {}

    fn removed_by_peer(&self, _: MemberId) {}

    fn receive_snapshot<'a>(
        &'a self,
        _: MemberId,
        _: Bytes,
        _: SnapshotBody,
    ) -> BoxFuture<'a, Result<Bytes, SnapshotRefused>> {
        Box::pin(std::future::ready(Err(SnapshotRefused::Failed("full".into()))))
    }

    fn unknown_sender(&self, _: MemberId, _: Vec<String>) {}
}

#[derive(Default)]
struct Failures(AtomicU64);

impl Observer for Failures {
    fn receive_failed(&self, _: MemberId) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// T24: what finds no room is dropped, counted each, and told once, with a word on whether the
/// peer is active.
#[tokio::test]
async fn t_24_what_finds_no_room_is_counted_and_told() {
    let (lines, _listening) = Lines::listen();
    let failures = Arc::new(Failures::default());
    let mut config = Config::new(MemberId(0xa), CLUSTER, Arc::new(PlainTcp::default()));
    config.observer = failures.clone();
    let transport = Transport::new(config, Arc::new(Full));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = transport.router(Arc::new(common::api::Fake));
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let limits = etcdrs_rafthttp_transport::Limits::default();
    let listener = etcdrs_rafthttp_transport::Listener::Tcp(listener);
    tokio::spawn(etcdrs_rafthttp_transport::serve(listener, router, None, limits, stopping));
    transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let two = [frame(1, b"one"), frame(1, b"two")].concat();
    for _ in 0..5 {
        let answer = raw::ask(port, "POST", "/raft", GOOD, &two).await;
        assert_eq!(answer.status, 204, "the sender is not to blame");
    }
    assert_eq!(failures.0.load(Ordering::SeqCst), 10);
    let text = "Raft message since receiving buffer is full (overloaded network)";
    assert_eq!(lines.count(&[text, "remote_peer_id=b"]), 1);
    assert_eq!(lines.count(&["WARN dropped Raft message"]), 1, "{:?}", lines.with(&[text]));

    // One that has its streams from here.
    transport.add_peer(MemberId(0xc), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let from_c = good_but(&[("X-Server-From", "c")]);
    let mut open = Vec::new();
    for lane in ["message", "msgapp"] {
        let path = format!("/raft/stream/{lane}/c");
        open.push(raw::open(port, "GET", &path, &from_c, b"").await);
    }
    while transport.active_since(MemberId(0xc)).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let post = raw::ask(port, "POST", "/raft", &from_c, &two).await;
    assert_eq!(post.status, 204);
    let told = lines.with(&["WARN dropped internal", text, "remote_peer_id=c"]);
    assert_eq!(told.len(), 1, "{:?}", lines.with(&[text]));
    drop(open);
}
