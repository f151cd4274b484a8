//! Damage, silence and full queues: each is noticed, and disturbs nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use common::raw::{self, GOOD, Proxy, fake_peer, frame, stream_answer};
use common::{Member, connected, numbered, numbers};
use etcdrs_rafthttp_transport::{
    Accept, BoxFuture, Config, Connect, Io, Lane, Limits, Listener, PeerUrl, PlainTcp, SendError,
    serve,
};
use etcdrs_types::MemberId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const FAKE: MemberId = MemberId(0xf);

fn quick(config: &mut Config) {
    config.read_timeout = Duration::from_millis(300);
    config.write_timeout = Duration::from_millis(300);
}

/// Adds a peer that is nobody but a port.
fn add_port(member: &Member, port: u16) {
    member.transport.add_peer(FAKE, &[format!("http://127.0.0.1:{port}")]).unwrap();
}

/// Two links work, a third peer sends what is not frames: only its connection is cut.
#[tokio::test]
async fn garbage_in_a_stream_cuts_it_and_nothing_else() {
    let members = connected(&[0xa, 0xb]).await;
    let (one, two) = (&members[0], &members[1]);
    let good = frame(1, b"the last good message");
    let bad = [good, b"these bytes are no frame at all".to_vec()].concat();
    let (port, mut asked) = fake_peer(stream_answer(FAKE.0, &bad)).await;
    add_port(one, port);
    asked.wait_for(|asked| *asked >= 8).await.unwrap();
    one.recorder.until("damage", |seen| seen.damaged >= 4).await;
    one.send(two.id, Lane::Append, numbered(Lane::Append, 0)).await;
    two.recorder.until("the message", |seen| !seen.messages.is_empty()).await;
    let seen = one.recorder.seen.borrow();
    assert!(seen.messages.iter().all(|(from, m)| *from == FAKE && m == "the last good message"));
    assert_eq!(seen.links, [(two.id, true)]);
}

/// One byte is damaged on the way, at many places: no damaged message comes through, and the
/// stream heals.
#[tokio::test]
async fn a_flipped_byte_is_never_delivered() {
    let (one, two) = (Member::start(0xa).await, Member::start(0xb).await);
    let proxy = Proxy::start(one.port).await;
    one.add(&two);
    two.add_at(&one, &proxy.url);
    one.until_up(two.id).await;
    let mut number = 0;
    for damage_after in [0, 1, 5, 9, 11, 12, 13, 100, 1000, 5000, 30_000] {
        proxy.damage_after.store(damage_after, Ordering::SeqCst);
        // Heartbeats and probes pass as well; enough is sent to reach the damage in any case.
        while proxy.damage_after.load(Ordering::SeqCst) != u64::MAX {
            one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
            number += 1;
            tokio::task::yield_now().await;
        }
        // It heals: something sent later arrives.
        let mark = number;
        loop {
            one.send(two.id, Lane::Append, numbered(Lane::Append, number)).await;
            number += 1;
            let arrived = two.recorder.until("a later message", |seen| {
                numbers(seen, one.id, Lane::Append).last().is_some_and(|last| *last >= mark)
            });
            if tokio::time::timeout(Duration::from_millis(200), arrived).await.is_ok() {
                break;
            }
        }
    }
    let came = numbers(&two.recorder.seen.borrow(), one.id, Lane::Append);
    assert!(came.is_sorted_by(|a, b| a < b), "in order, each once");
    assert!(two.recorder.seen.borrow().damaged > 0);
}

/// T24: a peer that takes its streams but does not read: the queue fills, messages are dropped and
/// counted, and the connection is found dead.
#[tokio::test]
async fn t24_a_stalled_reader_fills_its_queue_and_is_cut() {
    let one = Member::start_with(0xa, quick).await;
    let two = Member::start_with(0xb, quick).await;
    one.add(&two);
    two.add(&one);
    one.until_up(two.id).await;
    one.transport.add_peer(MemberId(0xb0b), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let headers = raw::good_but(&[("X-Server-From", "b0b")]);
    let append = raw::open(one.port, "GET", "/raft/stream/msgapp/b0b", &headers, b"").await;
    let control = raw::open(one.port, "GET", "/raft/stream/message/b0b", &headers, b"").await;
    one.until_up(MemberId(0xb0b)).await;
    let large = Bytes::from(vec![0; 1 << 20]);
    let error = loop {
        if let Err(error) = one.transport.send(MemberId(0xb0b), Lane::Append, large.clone()) {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error, SendError::Full);
    let status = one.transport.peers().into_iter().find(|peer| peer.id.0 == 0xb0b).unwrap();
    assert!(status.dropped >= 1 && status.queued_bytes > 0);
    one.recorder.until("the link is dead", |seen| !seen.is_up(MemberId(0xb0b))).await;
    // The other peer noticed nothing.
    one.send(two.id, Lane::Append, numbered(Lane::Append, 0)).await;
    two.recorder.until("the message", |seen| !seen.messages.is_empty()).await;
    assert!(one.recorder.seen.borrow().is_up(two.id));
    drop((append, control));
}

/// T04: a stream that opens and then brings nothing is given up and opened again.
#[tokio::test]
async fn t04_a_silent_stream_is_found_dead() {
    let one = Member::start_with(0xa, quick).await;
    let (port, mut asked) = fake_peer(stream_answer(FAKE.0, &frame(0, b""))).await;
    add_port(&one, port);
    asked.wait_for(|asked| *asked >= 8).await.unwrap();
}

/// A peer that takes connections and never answers costs a time-out, not a task for ever.
#[tokio::test]
async fn a_mute_peer_makes_the_link_inactive() {
    let one = Member::start_with(0xa, quick).await;
    let (port, mut asked) = fake_peer(Vec::new()).await;
    add_port(&one, port);
    one.transport.send(FAKE, Lane::Append, Bytes::from_static(b"message")).unwrap();
    asked.wait_for(|asked| *asked >= 4).await.unwrap();
    while one.transport.send(FAKE, Lane::Append, Bytes::new()) != Err(SendError::Inactive) {
        tokio::task::yield_now().await;
    }
    assert_eq!(one.transport.active_since(FAKE), None);
    let status = &one.transport.peers()[0];
    assert!(status.dropped >= 1);
}

/// T27: a newer stream takes the place of an older one, which may have held messages.
#[tokio::test]
async fn t27_a_newer_stream_replaces_the_older() {
    let one = Member::start(0xa).await;
    one.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let mut older = raw::open(one.port, "GET", "/raft/stream/message/b", GOOD, b"").await;
    let _append = raw::open(one.port, "GET", "/raft/stream/msgapp/b", GOOD, b"").await;
    one.until_up(MemberId(0xb)).await;
    let _newer = raw::open(one.port, "GET", "/raft/stream/message/b", GOOD, b"").await;
    let mut all = Vec::new();
    older.read_to_end(&mut all).await.unwrap();
    assert!(all.ends_with(b"0\r\n\r\n"), "the older stream was ended in good order");
    let links = [true, false, true].map(|up| (MemberId(0xb), up));
    assert_eq!(one.recorder.seen.borrow().links, links);
}

/// A stream whose reader sleeps is cut; what follows comes by `POST`, and what the reader finds in
/// its socket when it wakes up comes too late.
#[tokio::test]
async fn what_was_overtaken_is_not_delivered() {
    let one = Member::start(0xa).await;
    one.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let post = async |place: &str, text: &[u8]| {
        let place = raw::place(place, 0xb, 0xa);
        let order = [("X-Etcdrs-Lane", "msgapp"), ("X-Etcdrs-Place", &place[..])];
        let headers = raw::good_but(&order);
        raw::ask(one.port, "POST", "/raft", &headers, &frame(1, text)).await.status
    };
    assert_eq!(post("7.1.2", b"second").await, 204);
    assert_eq!(post("7.1.1", b"first").await, 409);
    assert_eq!(post("7.2.3", b"third").await, 204);
    assert_eq!(post("8.0.1", b"after a restart").await, 204);
    assert_eq!(post("7.3.4", b"before the restart").await, 409);
    let seen = one.recorder.seen.borrow();
    let texts: Vec<&[u8]> = seen.messages.iter().map(|(_, message)| &message[..]).collect();
    assert_eq!(texts, [&b"second"[..], b"third", b"after a restart"]);
}

/// A damaged place is refused, and spoils nothing for what comes after it.
#[tokio::test]
async fn a_damaged_place_is_no_place() {
    let one = Member::start(0xa).await;
    one.transport.add_peer(MemberId(0xb), &["http://127.0.0.1:1".to_owned()]).unwrap();
    let post = async |place: &str| {
        let headers = raw::good_but(&[("X-Etcdrs-Lane", "msgapp"), ("X-Etcdrs-Place", place)]);
        raw::ask(one.port, "POST", "/raft", &headers, &frame(1, b"message")).await.status
    };
    let good = raw::place("7.1.1", 0xb, 0xa);
    assert_eq!(post(&good.replacen("7.1", "7.f", 1)).await, 400);
    // Whole, but of another sender.
    assert_eq!(post(&raw::place("9.1.1", 0xc, 0xa)).await, 400);
    assert_eq!(post(&good).await, 204);
}

/// The same for a stream that is still open, or is opened again by a sender that has gone on.
#[tokio::test]
async fn an_overtaken_stream_is_given_up() {
    let one = Member::start_with(0xa, quick).await;
    let (port, mut asked) = fake_peer(stream_answer(0xb, &frame(1, b"late"))).await;
    one.transport.add_peer(MemberId(0xb), &[format!("http://127.0.0.1:{port}")]).unwrap();
    one.recorder.until("both streams", |seen| seen.messages.len() >= 2).await;
    for lane in ["msgapp", "message"] {
        let place = raw::place("1.1.1", 0xb, 0xa);
        let headers = raw::good_but(&[("X-Etcdrs-Lane", lane), ("X-Etcdrs-Place", &place)]);
        let answer = raw::ask(one.port, "POST", "/raft", &headers, &frame(1, b"new")).await;
        assert_eq!(answer.status, 204);
    }
    let came = one.recorder.seen.borrow().messages.len();
    let before = *asked.borrow();
    asked.wait_for(|asked| *asked >= before + 6).await.unwrap();
    assert_eq!(one.recorder.seen.borrow().messages.len(), came);
}

/// T07: the same over unix sockets.
#[tokio::test]
async fn t07_unix_sockets_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer");
    let one = Member::start(0xa).await;
    let router = one.transport.router(Arc::new(common::api::Fake));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::Unix(listener);
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    tokio::spawn(serve(listener, router, None, Limits::default(), stopping));
    let two = Member::start(0xb).await;
    one.add(&two);
    two.add_at(&one, &format!("unix://{}", path.display()));
    one.until_up(two.id).await;
    one.send(two.id, Lane::Append, numbered(Lane::Append, 0)).await;
    two.recorder.until("the message", |seen| seen.messages.len() == 1).await;
    // TLS needs a connector from outside.
    let https = "https://127.0.0.1:1".to_owned();
    one.transport.add_peer(FAKE, &[https]).unwrap();
    one.transport.send(FAKE, Lane::Append, Bytes::new()).unwrap();
    while one.transport.send(FAKE, Lane::Append, Bytes::new()) != Err(SendError::Inactive) {
        tokio::task::yield_now().await;
    }
}

/// Stands for TLS: a connection begins with a word from either side.
struct Word;

const WORD: &[u8] = b"sesame";

impl Connect for Word {
    fn connect<'a>(&'a self, url: &'a PeerUrl) -> BoxFuture<'a, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            let mut io = PlainTcp::default().dial(url).await?;
            io.write_all(WORD).await?;
            let mut answer = [0; WORD.len()];
            io.read_exact(&mut answer).await?;
            Ok(io)
        })
    }
}

impl Accept for Word {
    fn accept(
        &self,
        mut io: Box<dyn Io>,
        remote: Option<SocketAddr>,
    ) -> BoxFuture<'_, io::Result<Box<dyn Io>>> {
        Box::pin(async move {
            assert!(remote.is_some_and(|remote| remote.ip().is_loopback()));
            let mut word = [0; WORD.len()];
            io.read_exact(&mut word).await?;
            if word != WORD {
                return Err(io::Error::other("wrong word"));
            }
            io.write_all(WORD).await?;
            Ok(io)
        })
    }
}

/// T06: what TLS needs is in place, and a connection that never shakes hands is closed.
#[tokio::test]
async fn t06_connections_can_be_secured_from_outside() {
    let one = Member::start_with(0xa, |config| config.connector = Arc::new(Word)).await;
    let two = Member::start_with(0xb, |config| config.connector = Arc::new(Word)).await;
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut ports = Vec::new();
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    for member in [&one, &two] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        ports.push(listener.local_addr().unwrap().port());
        let router = member.transport.router(Arc::new(common::api::Fake));
        let acceptor: Arc<dyn Accept> = Arc::new(Word);
        tokio::spawn(serve(
            Listener::Tcp(listener),
            router,
            Some(acceptor),
            limits,
            stopping.clone(),
        ));
    }
    let mut silent = tokio::net::TcpStream::connect(("127.0.0.1", ports[0])).await.unwrap();
    let mut strange = tokio::net::TcpStream::connect(("127.0.0.1", ports[0])).await.unwrap();
    strange.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    one.add_at(&two, &format!("https://127.0.0.1:{}", ports[1]));
    two.add_at(&one, &format!("https://127.0.0.1:{}", ports[0]));
    one.until_up(two.id).await;
    two.until_up(one.id).await;
    let mut end = [0];
    assert!(matches!(silent.read(&mut end).await, Ok(0) | Err(_)));
    assert!(matches!(strange.read(&mut end).await, Ok(0) | Err(_)));
}
