//! Connections: which are opened, how often, over what, and how their end is found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::raw::{self, GOOD, fake_peer, frame};
use common::tap::Tap;
use common::{CLUSTER, Member, numbered, numbers};
use etcdrs_platform::{Clock as _, SystemClock};
use etcdrs_rafthttp_transport::{Config, Lane, Limits, Listener, PlainTcp, Proxies, serve};
use etcdrs_types::MemberId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

fn quick(config: &mut Config) {
    config.read_timeout = Duration::from_millis(300);
    config.write_timeout = Duration::from_millis(300);
}

/// T03, T04, T06, T31: the times that nobody changes without a flag.
#[test]
fn t_03_the_times_are_etcds() {
    let config = Config::new(MemberId(1), CLUSTER, Arc::new(PlainTcp::default()));
    assert_eq!(config.read_timeout, Duration::from_secs(5));
    assert_eq!(config.write_timeout, Duration::from_secs(5));
    assert_eq!(config.dial_timeout, Duration::from_secs(2));
    assert_eq!(config.queue_messages, 4096);
    assert_eq!(Limits::default().handshake_timeout, Duration::from_secs(10));
    assert_eq!(Limits::default().write_timeout, Duration::from_secs(5));
}

/// T04: a network that loses everything in both directions, without a word: the reader of a stream
/// finds out by its read time-out, the link counts as down, and connections are made anew.
#[tokio::test]
async fn t_04_a_link_that_goes_silent_is_down() {
    let one = Member::start_with(0xa, quick).await;
    let two = Member::start_with(0xb, quick).await;
    let mut tap = Tap::to(one.port).await;
    one.add(&two);
    two.add_at(&one, &tap.url);
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    tap.freeze(true);
    two.recorder.until("the link goes down", |seen| !seen.is_up(one.id)).await;
    assert_eq!(two.transport.active_since(one.id), None);
    let before = *tap.opened.borrow();
    tap.opened.wait_for(|opened| *opened >= before + 2).await.unwrap();
    assert!(!two.recorder.seen.borrow().is_up(one.id), "a connection alone proves nothing");
    tap.freeze(false);
    two.until_up(one.id).await;
    one.until_up(two.id).await;
    for (from, to) in [(&one, &two), (&two, &one)] {
        from.send(to.id, Lane::Append, numbered(Lane::Append, 0)).await;
        to.recorder.until("the message", |seen| !seen.messages.is_empty()).await;
    }
}

/// T05: a large message may take longer than the read time-out, as long as it moves; a connection
/// for posts serves many of them.
#[tokio::test]
async fn t_05_posts_take_their_time_and_share_a_connection() {
    let impatient = |config: &mut Config| config.read_timeout = Duration::from_millis(300);
    let (one, two) =
        (Member::start_with(0xa, impatient).await, Member::start_with(0xb, impatient).await);
    let tap = Tap::to(two.port).await;
    // A remote has no streams, and is only posted to.
    one.transport.add_remote(two.id, std::slice::from_ref(&tap.url)).unwrap();
    for number in 0..40 {
        one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
        let came = |seen: &common::Seen| seen.messages.len() as u64 == number + 1;
        two.recorder.until("the message", came).await;
    }
    assert_eq!(*tap.opened.borrow(), 1);
    tap.slow(250);
    let large = Bytes::from(vec![7; 4 << 20]);
    let begun = Instant::now();
    one.send(two.id, Lane::Append, large.clone()).await;
    let came = |seen: &common::Seen| seen.messages.last().is_some_and(|(_, m)| *m == large);
    two.recorder.until("the large message", came).await;
    assert!(begun.elapsed() > Duration::from_millis(600), "{:?}", begun.elapsed());
    one.send(two.id, Lane::Append, numbered(Lane::Append, 0)).await;
    two.recorder.until("one more", |seen| seen.messages.len() == 42).await;
    assert_eq!(one.recorder.seen.borrow().links, [(two.id, true)], "it was up all the time");
}

/// A proxy that knows where every name leads.
async fn proxy_to(port: u16) -> (String, watch::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:word@{}", listener.local_addr().unwrap());
    let (asked, asking) = watch::channel(Vec::new());
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let mut near = BufReader::new(near);
            let mut head = Vec::new();
            while head.last().is_none_or(|line: &String| !line.is_empty()) {
                let mut line = String::new();
                if near.read_line(&mut line).await.unwrap_or(0) == 0 {
                    break;
                }
                head.push(line.trim_end().to_owned());
            }
            asked.send_modify(|asked| asked.push(head.join("\n")));
            let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (url, asking)
}

/// T06: peers are reached through the proxy that the environment names, except on this machine.
#[tokio::test]
async fn t_06_peers_are_reached_through_a_proxy() {
    let one = Member::start(0xa).await;
    let (proxy, asked) = proxy_to(one.port).await;
    let proxies = Proxies::from_variables(|name| (name == "HTTP_PROXY").then(|| proxy.clone()));
    let tcp = PlainTcp { proxies, ..PlainTcp::default() };
    let two = Member::start_with(0xb, |config| config.connector = Arc::new(tcp)).await;
    one.add(&two);
    two.add_at(&one, "http://one.example:2380");
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    one.send(two.id, Lane::Append, numbered(Lane::Append, 0)).await;
    two.recorder.until("the message", |seen| seen.messages.len() == 1).await;
    let told = asked.borrow()[0].clone();
    let mut lines = told.lines();
    assert_eq!(lines.next(), Some("CONNECT one.example:2380 HTTP/1.1"));
    assert!(told.contains("\nProxy-Authorization: Basic dXNlcjp3b3Jk"), "{told}");
    // What is near is reached without.
    let so_far = asked.borrow().len();
    let three = Member::start(0xc).await;
    two.add(&three);
    three.add(&two);
    two.until_up(three.id).await;
    three.until_up(two.id).await;
    let later = asked.borrow()[so_far..].join("\n");
    assert!(!later.contains("127.0.0.1"), "{later}");
}

/// T07: connections to unix sockets are closed when they have done their work.
#[tokio::test]
async fn t_07_connections_to_sockets_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer");
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let near = tokio::net::UnixListener::bind(&path).unwrap();
    let inner = dir.path().join("inner");
    let far = Listener::Unix(tokio::net::UnixListener::bind(&inner).unwrap());
    let (_stop, stopping) = watch::channel(false);
    let router = two.transport.router(Arc::new(common::api::Fake));
    tokio::spawn(serve(far, router, None, Limits::default(), stopping));
    let (count, opened) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            let (mut from, _) = near.accept().await.unwrap();
            let mut to = tokio::net::UnixStream::connect(&inner).await.unwrap();
            count.send_modify(|count| *count += 1);
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let url = format!("unix://{}", path.display());
    one.transport.add_remote(two.id, &[url]).unwrap();
    for number in 0..10 {
        one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
        let came = |seen: &common::Seen| seen.messages.len() as u64 == number + 1;
        two.recorder.until("the message", came).await;
    }
    assert_eq!(*opened.borrow(), 10);
}

/// T08, T09: a stream that is cut is opened again, and goes on.
#[tokio::test]
async fn t_09_a_stream_that_is_cut_is_back() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let tap = Tap::to(one.port).await;
    one.add(&two);
    two.add_at(&one, &tap.url);
    one.until_up(two.id).await;
    for round in 1..=5 {
        tap.cut();
        let changes = |up: bool| {
            move |seen: &common::Seen| seen.links.iter().filter(|link| link.1 == up).count() > round
        };
        let came_up = changes(true);
        one.recorder.until("the link comes up again", came_up).await;
        one.send(two.id, Lane::Control, numbered(Lane::Control, round as u64)).await;
        let arrived = |seen: &common::Seen| {
            numbers(seen, one.id, Lane::Control).last() == Some(&(round as u64))
        };
        two.recorder.until("the message", arrived).await;
    }
}

/// T19, T23: what a member opens to a peer: a stream for each lane, and probes.
#[tokio::test]
async fn t_19_a_peer_is_dialled_for_both_streams_and_probes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let one = Member::start(0xa).await;
    one.transport.add_peer(MemberId(0xf), &[url]).unwrap();
    let mut asked = BTreeSet::new();
    let mut open = Vec::new();
    while asked.len() < 3 {
        let (connection, _) = listener.accept().await.unwrap();
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        asked.insert(line.trim_end().to_owned());
        open.push(reader);
    }
    let expected = [
        "GET /raft/probing HTTP/1.1",
        "GET /raft/stream/message/a HTTP/1.1",
        "GET /raft/stream/msgapp/a HTTP/1.1",
    ];
    assert_eq!(asked.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// T23: a peer that refuses is asked ten times a second at most for each stream, and ever less.
#[tokio::test]
async fn t_23_a_peer_that_refuses_is_asked_ever_less() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (port, mut asked) = fake_peer(answer).await;
    let one = Member::start(0xa).await;
    let begun = Instant::now();
    one.transport.add_peer(MemberId(0xf), &[format!("http://127.0.0.1:{port}")]).unwrap();
    for wanted in [4, 6, 8, 10] {
        let asked = *asked.wait_for(|asked| *asked >= wanted).await.unwrap();
        // Looked at after the count, so that a slow machine makes this no less true. The first
        // ones, and a probe, come at once.
        let tenths = begun.elapsed().as_millis() as usize / 100;
        assert!(asked <= 3 + 2 * tenths, "{asked} in {tenths} tenths of a second");
    }
    // 100, 200, 400, 800 ms: ten requests are more than a second apart.
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
}

/// T33: since when a peer is active, by this member's clock; nothing while it is not.
#[tokio::test]
async fn t_33_active_since_is_the_time_of_the_change() {
    let clock = SystemClock::new();
    let watch = Arc::new(clock);
    let one = Member::start_with(0xa, |config| config.clock = watch).await;
    let two = Member::start(0xb).await;
    let tap = Tap::to(one.port).await;
    one.add(&two);
    assert_eq!(one.transport.active_since(two.id), None);
    assert_eq!(one.transport.active_since(MemberId(99)), None);
    let begun = clock.now();
    two.add_at(&one, &tap.url);
    one.until_up(two.id).await;
    let first = one.transport.active_since(two.id).unwrap();
    assert!(first >= begun && first <= clock.now(), "{begun:?} {first:?}");
    one.send(two.id, Lane::Append, Bytes::new()).await;
    assert_eq!(one.transport.active_since(two.id), Some(first), "work changes nothing");
    assert_eq!(one.transport.peers().iter().filter(|p| p.active_since.is_some()).count(), 1);
    tokio::time::sleep(Duration::from_millis(5)).await;
    tap.cut();
    one.recorder.until("up again", |seen| seen.links.len() == 3).await;
    assert!(one.transport.active_since(two.id).unwrap() > first);
    one.transport.remove_peer(two.id);
    assert_eq!(one.transport.active_since(two.id), None);
}

/// T17, T36: who was stopped takes nothing more, although its port still answers.
#[tokio::test]
async fn t_36_after_a_stop_nothing_is_taken() {
    let one = Member::start(0xa).await;
    one.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    assert!(one.transport.add_remote(MemberId(0xc), &["no url".to_owned()]).is_err());
    let mut stream = raw::open(one.port, "GET", "/raft/stream/message/b", GOOD, b"").await;
    one.transport.stop().await;
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
    let message = raw::ask(one.port, "POST", "/raft", GOOD, &frame(1, b"message")).await;
    assert_eq!((message.status, &*message.body), (503, "transport stopped\n"));
    let again = raw::ask(one.port, "GET", "/raft/stream/message/b", GOOD, b"").await;
    assert_eq!(again.status, 404);
    let snapshot = raw::ask(one.port, "POST", "/raft/snapshot", GOOD, &frame(2, b"head")).await;
    assert_eq!((snapshot.status, &*snapshot.body), (503, "transport stopped\n"));
    assert!(one.recorder.seen.borrow().messages.is_empty());
    assert!(one.transport.peers().is_empty());
}
