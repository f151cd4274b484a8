//! Members over loopback, somebody who writes down what they receive, and a meddler in between.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]

pub mod api;
pub mod lines;
pub mod raw;
pub mod tap;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_rafthttp_transport::{
    BoxFuture, Config, Handler, Lane, Limits, Listener, Observer, PlainTcp, SendError,
    SnapshotBody, SnapshotRefused, Transport, serve,
};
use etcdrs_types::{ClusterId, MemberId};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const CLUSTER: ClusterId = ClusterId(0xc1);
/// Longest time a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a member has seen.
#[derive(Default)]
pub struct Seen {
    pub messages: Vec<(MemberId, Bytes)>,
    pub links: Vec<(MemberId, bool)>,
    pub removed_by: Vec<MemberId>,
    pub unknown: Vec<(MemberId, Vec<String>)>,
    /// Heads and sizes of snapshots, or the error that ended them.
    pub snapshots: Vec<Result<(Bytes, u64), String>>,
    pub damaged: usize,
    pub probed: usize,
    /// Bytes of snapshots, as they come.
    pub snapshot_bytes: u64,
}

impl Seen {
    pub fn is_up(&self, peer: MemberId) -> bool {
        self.links.iter().rev().find(|(id, _)| *id == peer).is_some_and(|(_, up)| *up)
    }
}

/// Writes down everything.
pub struct Recorder {
    pub seen: watch::Sender<Seen>,
    pub removed: Mutex<HashSet<MemberId>>,
}

impl Recorder {
    fn new() -> Arc<Self> {
        Arc::new(Self { seen: watch::Sender::new(Seen::default()), removed: Mutex::default() })
    }

    /// Waits for something to have been seen.
    pub async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let found = seen.wait_for(|seen| condition(seen));
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok(), "never saw: {what}");
    }
}

impl Handler for Recorder {
    fn receive(&self, from: MemberId, messages: &mut Vec<Bytes>) {
        self.seen.send_modify(|seen| seen.messages.extend(messages.drain(..).map(|m| (from, m))));
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.removed.lock().contains(&member)
    }

    fn link_changed(&self, peer: MemberId, up: bool) {
        self.seen.send_modify(|seen| seen.links.push((peer, up)));
    }

    fn removed_by_peer(&self, peer: MemberId) {
        self.seen.send_modify(|seen| seen.removed_by.push(peer));
    }

    fn receive_snapshot<'a>(
        &'a self,
        _from: MemberId,
        head: Bytes,
        body: SnapshotBody,
    ) -> BoxFuture<'a, Result<Bytes, SnapshotRefused>> {
        Box::pin(async move {
            let mut chunks = Box::pin(body.into_stream());
            let mut bytes = 0;
            let result = loop {
                match chunks.next().await {
                    Some(Ok(chunk)) => {
                        bytes += chunk.len() as u64;
                        self.seen.send_modify(|seen| seen.snapshot_bytes += chunk.len() as u64);
                    }
                    None => break Ok((head, bytes)),
                    Some(Err(error)) => break Err(error.to_string()),
                }
            };
            self.seen.send_modify(|seen| seen.snapshots.push(result.clone()));
            match result {
                Ok((_, bytes)) => Ok(Bytes::from(format!("took {bytes}"))),
                Err(text) => Err(SnapshotRefused::Malformed(text)),
            }
        })
    }

    fn unknown_sender(&self, from: MemberId, urls: Vec<String>) {
        self.seen.send_modify(|seen| seen.unknown.push((from, urls)));
    }
}

impl Observer for Recorder {
    fn receive_failed(&self, _from: MemberId) {
        self.seen.send_modify(|seen| seen.damaged += 1);
    }

    fn round_trip(&self, _to: MemberId, _took: Duration) {
        self.seen.send_modify(|seen| seen.probed += 1);
    }
}

/// A member on its own port.
pub struct Member {
    pub id: MemberId,
    pub transport: Transport,
    pub recorder: Arc<Recorder>,
    pub url: String,
    pub port: u16,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Member {
    pub async fn start(id: u64) -> Self {
        Self::start_with(id, |_| {}).await
    }

    /// A member whose settings were changed by `change`.
    pub async fn start_with(id: u64, change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::start_on(id, listener, port, change).await
    }

    pub async fn start_on(
        id: u64,
        listener: TcpListener,
        port: u16,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let recorder = Recorder::new();
        let url = format!("http://127.0.0.1:{port}");
        let mut config = Config::new(MemberId(id), CLUSTER, Arc::new(PlainTcp::default()));
        config.peer_urls = vec![url.clone()];
        config.observer = recorder.clone();
        change(&mut config);
        let limits = Limits { write_timeout: config.write_timeout, ..Limits::default() };
        let transport = Transport::new(config, recorder.clone());
        let router = transport.router(Arc::new(api::Fake));
        let (stop, stopping) = watch::channel(false);
        let server = tokio::spawn(serve(Listener::Tcp(listener), router, None, limits, stopping));
        Self { id: MemberId(id), transport, recorder, url, port, stop, server }
    }

    /// Makes `other` a peer of this member.
    pub fn add(&self, other: &Self) {
        self.add_at(other, &other.url);
    }

    /// Makes `other` a peer that is reached at `url`.
    pub fn add_at(&self, other: &Self, url: &str) {
        self.transport.add_peer(other.id, &[url.to_owned()]).unwrap();
    }

    pub async fn until_up(&self, peer: MemberId) {
        self.recorder.until("the link comes up", |seen| seen.is_up(peer)).await;
    }

    /// Sends a message, as soon as there is room for it.
    pub async fn send(&self, to: MemberId, lane: Lane, message: Bytes) {
        loop {
            match self.transport.send(to, lane, message.clone()) {
                Ok(()) => return,
                Err(SendError::Full) => tokio::task::yield_now().await,
                Err(SendError::Inactive) => self.until_up(to).await,
                Err(SendError::Unknown) => panic!("{to} is unknown"),
            }
        }
    }

    pub async fn stop(self) {
        self.transport.stop().await;
        self.stop.send_replace(true);
        self.server.await.unwrap();
    }
}

/// Peers of each other, with their links up.
pub async fn connected(ids: &[u64]) -> Vec<Member> {
    let mut members = Vec::new();
    for id in ids {
        members.push(Member::start(*id).await);
    }
    for one in &members {
        for other in members.iter().filter(|other| other.id != one.id) {
            one.add(other);
        }
    }
    for one in &members {
        for other in members.iter().filter(|other| other.id != one.id) {
            one.until_up(other.id).await;
        }
    }
    members
}

/// Message `number` of a lane. Some are large enough to take the way without copies.
pub fn numbered(lane: Lane, number: u64) -> Bytes {
    let padding = if number % 1000 == 999 { 40_000 } else { number as usize % 300 };
    let mut bytes = vec![0; 9 + padding];
    bytes[0] = u8::from(lane == Lane::Append);
    bytes[1..9].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

/// The numbers of the messages from `from` on `lane`, in the order they came.
pub fn numbers(seen: &Seen, from: MemberId, lane: Lane) -> Vec<u64> {
    let of_lane = |(id, message): &&(MemberId, Bytes)| {
        *id == from && message[0] == u8::from(lane == Lane::Append)
    };
    let number = |(_, message): &(MemberId, Bytes)| {
        let number = u64::from_be_bytes(message[1..9].try_into().unwrap());
        assert_eq!(*message, numbered(lane, number));
        number
    };
    seen.messages.iter().filter(of_lane).map(number).collect()
}
