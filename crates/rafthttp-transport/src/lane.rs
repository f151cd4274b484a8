//! One direction of one kind of traffic: a bounded queue, and the stream that empties it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use etcdrs_platform::Tick;
use http::HeaderValue;
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};

use crate::config::{GATHER_BYTES, HEARTBEAT_MIN, POST_QUEUE_MESSAGES};
use crate::frame::{Encoder, HEADER_BYTES, Kind};
use crate::order::Place;
use crate::peer::Peer;

/// What a message is, so that a long one does not hold up a short one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Log entries; etcd's `/raft/stream/msgapp`.
    Append,
    /// Everything else; etcd's `/raft/stream/message`.
    Control,
}

impl Lane {
    /// The lane with this path.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.path() == path)
    }

    pub(crate) const ALL: [Self; 2] = [Self::Append, Self::Control];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Append => 0,
            Self::Control => 1,
        }
    }

    /// The last part of the stream's path.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Append => "msgapp",
            Self::Control => "message",
        }
    }

    /// The name in etcd's logs.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Append => "stream MsgApp v2",
            Self::Control => "stream Message",
        }
    }
}

/// Limits of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The messages of a lane that wait, and who takes them: a stream if one is attached, else a task
/// that posts them. One queue for both keeps the order when the way changes.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Wakes an idle poster.
    pub(crate) more: Notify,
}

/// Invariants: `bytes` is the size of `messages`; `posting` implies `poster`; at most one of
/// stream and poster takes messages at a time.
#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// The attached stream, by its number.
    stream: Option<u64>,
    streams_seen: u64,
    posts_seen: u64,
    waker: Option<Waker>,
    /// A task that posts exists.
    poster: bool,
    /// A `POST` is under way; what follows it has to wait.
    posting: bool,
    posts_failed: u32,
    /// No `POST` before this time.
    post_again_at: Tick,
    closed: bool,
}

/// What [`Queue::push`] did.
pub(crate) enum Pushed {
    /// Somebody will send it.
    Queued,
    /// The caller has to start a poster.
    NeedsPoster,
    /// There is no link, and it is too early to try again.
    Inactive,
    Full,
    Closed,
}

/// A stream that was attached.
#[derive(Clone, Copy)]
pub(crate) struct Attached {
    number: u64,
    /// There was an older one.
    replaced: bool,
}

/// What a poster has to do.
pub(crate) enum Work {
    Post {
        batch: Vec<Bytes>,
        streams_seen: u64,
        posts_seen: u64,
    },
    Wait,
    /// End: there is a stream now, or no peer any more.
    Leave,
}

enum Taken {
    Some,
    Nothing,
    Replaced,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), more: Notify::new() }
    }

    pub(crate) fn push(
        &self,
        message: Bytes,
        limits: QueueLimits,
        now: impl FnOnce() -> Tick,
    ) -> Pushed {
        let mut state = self.state.lock();
        if state.closed {
            return Pushed::Closed;
        }
        let streaming = state.stream.is_some();
        if !streaming && state.post_again_at > Tick(0) && now() < state.post_again_at {
            return Pushed::Inactive;
        }
        let messages_max =
            if streaming { limits.messages } else { limits.messages.min(POST_QUEUE_MESSAGES) };
        let fits = state.bytes + message.len() <= limits.bytes || state.messages.is_empty();
        if state.messages.len() >= messages_max || !fits {
            return Pushed::Full;
        }
        state.bytes += message.len();
        state.messages.push_back(message);
        if streaming {
            let waker = if state.posting { None } else { state.waker.take() };
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        } else if !std::mem::replace(&mut state.poster, true) {
            return Pushed::NeedsPoster;
        } else {
            self.more.notify_one();
        }
        Pushed::Queued
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.state.lock().stream.is_some()
    }

    /// Messages and bytes that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.messages.len(), state.bytes)
    }

    /// Attaches a new stream, and ends an older one. `None` once closed.
    pub(crate) fn attach(&self) -> Option<Attached> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.streams_seen += 1;
        let number = state.streams_seen;
        let replaced = state.stream.replace(number).is_some();
        state.posts_failed = 0;
        state.post_again_at = Tick(0);
        let older = state.waker.take();
        drop(state);
        wake(older);
        self.more.notify_one();
        Some(Attached { number, replaced })
    }

    /// The end of stream `number`. `Some` if it was the attached one: then whether a poster has to
    /// be started for what it left behind.
    pub(crate) fn detach(&self, number: u64) -> Option<bool> {
        let mut state = self.state.lock();
        if state.stream != Some(number) {
            return None;
        }
        state.stream = None;
        state.waker = None;
        let left = !state.messages.is_empty() && !state.closed && !state.poster;
        state.poster |= left;
        Some(left)
    }

    /// Lets nothing in or out any more.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.messages = VecDeque::new();
        state.bytes = 0;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        self.more.notify_one();
    }

    fn take(&self, stream: u64, batch: &mut Vec<Bytes>, cx: &Context<'_>) -> Taken {
        let mut state = self.state.lock();
        if state.closed || state.stream != Some(stream) {
            return Taken::Replaced;
        }
        if state.posting || state.messages.is_empty() {
            let known = state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            if !known {
                state.waker = Some(cx.waker().clone());
            }
            return Taken::Nothing;
        }
        state.drain(batch);
        Taken::Some
    }

    pub(crate) fn next_work(&self) -> Work {
        let mut state = self.state.lock();
        if state.closed || state.stream.is_some() {
            state.poster = false;
            return Work::Leave;
        }
        if state.messages.is_empty() {
            return Work::Wait;
        }
        state.posting = true;
        let mut batch = Vec::new();
        state.drain(&mut batch);
        state.posts_seen += 1;
        let State { streams_seen, posts_seen, .. } = *state;
        Work::Post { batch, streams_seen, posts_seen }
    }

    /// Ends an idle poster unless there is work again; whether it has ended.
    pub(crate) fn leave_if_idle(&self) -> bool {
        let mut state = self.state.lock();
        let idle = state.messages.is_empty() || state.closed || state.stream.is_some();
        state.poster = !idle;
        idle
    }

    pub(crate) fn posted(&self) {
        let mut state = self.state.lock();
        state.posts_failed = 0;
        state.posting = false;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }

    /// A `POST` failed and its poster ends. Without a stream what waits is dropped, as nobody is
    /// there to take it; returns how many messages that were. `pause` follows from how often this
    /// happened in a row.
    pub(crate) fn post_failed(&self, pause_until: impl FnOnce(u32) -> Tick) -> usize {
        let mut state = self.state.lock();
        state.posting = false;
        state.poster = false;
        let mut dropped = 0;
        if state.stream.is_none() {
            dropped = state.messages.len();
            state.messages.clear();
            state.bytes = 0;
            state.posts_failed = state.posts_failed.saturating_add(1);
            state.post_again_at = pause_until(state.posts_failed);
        }
        let waker = state.waker.take();
        drop(state);
        wake(waker);
        dropped
    }
}

impl State {
    /// Moves messages out until there is enough to write.
    fn drain(&mut self, batch: &mut Vec<Bytes>) {
        let mut bytes = 0;
        while bytes < GATHER_BYTES
            && let Some(message) = self.messages.pop_front()
        {
            bytes += message.len() + HEADER_BYTES;
            self.bytes -= message.len();
            batch.push(message);
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Moves a batch into frames.
pub(crate) fn encode(encoder: &mut Encoder, batch: &mut Vec<Bytes>) {
    let small = batch.iter().map(|message| HEADER_BYTES + message.len()).sum::<usize>();
    encoder.reserve(small.min(2 * GATHER_BYTES));
    for message in batch.drain(..) {
        encoder.push(Kind::Message, &message);
    }
}

/// The body of a stream's answer: the lane's queue as frames, with heartbeats in between. It is
/// polled by the connection whenever that can take more, so there is no task of its own.
pub(crate) struct StreamBody {
    peer: Arc<Peer>,
    lane: Lane,
    number: u64,
    batch: Vec<Bytes>,
    encoder: Encoder,
    heartbeat: Interval,
}

impl StreamBody {
    /// Attaches a stream to a lane of `peer`; `None` if the peer is gone.
    pub(crate) fn attach(peer: Arc<Peer>, lane: Lane) -> Option<Self> {
        let Attached { number, replaced } = peer.queue(lane).attach()?;
        // The first tick is due at once: the other side sees that the stream works.
        let period = (peer.context.config.read_timeout / 3).max(HEARTBEAT_MIN);
        let mut heartbeat = tokio::time::interval(period);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        peer.stream_attached(lane, replaced);
        Some(Self { peer, lane, number, batch: Vec::new(), encoder: Encoder::default(), heartbeat })
    }
}

impl StreamBody {
    /// The header that says where this stream stands in the order of its lane.
    pub(crate) fn place(&self) -> HeaderValue {
        let place = Place { run: self.peer.run, stream: self.number, post: 0 };
        place.header(self.peer.way_out())
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        if let Some(needs_poster) = self.peer.queue(self.lane).detach(self.number) {
            self.peer.stream_lost(self.lane, needs_poster);
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.encoder.pop() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match this.peer.queue(this.lane).take(this.number, &mut this.batch, cx) {
                Taken::Replaced => return Poll::Ready(None),
                Taken::Some => {
                    encode(&mut this.encoder, &mut this.batch);
                    this.peer.sent(this.encoder.remaining());
                }
                Taken::Nothing => {
                    std::task::ready!(this.heartbeat.poll_tick(cx));
                    this.encoder.push(Kind::Heartbeat, &Bytes::new());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits { messages: 100, bytes: 10 };

    fn push(queue: &Queue, bytes: usize) -> Pushed {
        queue.push(Bytes::from(vec![0; bytes]), LIMITS, || Tick(5))
    }

    #[test]
    fn a_queue_is_bounded_by_bytes_but_takes_one_large_message() {
        let queue = Queue::new();
        queue.attach().unwrap();
        assert!(matches!(push(&queue, 11), Pushed::Queued));
        assert!(matches!(push(&queue, 0), Pushed::Full));
        let mut batch = Vec::new();
        queue.take(1, &mut batch, &Context::from_waker(Waker::noop()));
        assert_eq!((batch.len(), queue.waiting()), (1, (0, 0)));
        assert!(matches!(push(&queue, 10), Pushed::Queued));
        assert!(matches!(push(&queue, 1), Pushed::Full));
    }

    /// T20: 64 messages wait for a `POST`.
    #[test]
    fn t20_without_a_stream_few_messages_wait() {
        let queue = Queue::new();
        assert!(matches!(push(&queue, 0), Pushed::NeedsPoster));
        for _ in 1..POST_QUEUE_MESSAGES {
            assert!(matches!(push(&queue, 0), Pushed::Queued));
        }
        assert!(matches!(push(&queue, 0), Pushed::Full));
    }

    #[test]
    fn a_stream_waits_for_the_post_before_it() {
        let queue = Queue::new();
        let cx = Context::from_waker(Waker::noop());
        let mut batch = Vec::new();
        push(&queue, 1);
        assert!(matches!(queue.next_work(), Work::Post { batch, .. } if batch.len() == 1));
        push(&queue, 2);
        let stream = queue.attach().unwrap().number;
        assert!(matches!(queue.take(stream, &mut batch, &cx), Taken::Nothing));
        queue.posted();
        assert!(matches!(queue.take(stream, &mut batch, &cx), Taken::Some));
        assert_eq!(batch[0].len(), 2);
        assert!(matches!(queue.next_work(), Work::Leave));
    }

    #[test]
    fn what_a_stream_leaves_behind_is_posted() {
        let queue = Queue::new();
        let (older, newer) = (queue.attach().unwrap(), queue.attach().unwrap());
        assert_eq!((older.replaced, newer.replaced), (false, true));
        push(&queue, 1);
        assert_eq!(queue.detach(older.number), None);
        assert_eq!(queue.detach(newer.number), Some(true));
        assert!(matches!(queue.next_work(), Work::Post { .. }));
    }

    #[test]
    fn after_a_failed_post_there_is_a_pause() {
        let queue = Queue::new();
        push(&queue, 1);
        assert!(matches!(queue.next_work(), Work::Post { .. }));
        push(&queue, 1);
        assert_eq!(queue.post_failed(|failures| Tick(5 + u64::from(failures))), 1);
        assert!(matches!(push(&queue, 1), Pushed::Inactive));
        let later = queue.push(Bytes::new(), LIMITS, || Tick(6));
        assert!(matches!(later, Pushed::NeedsPoster));
        assert!(matches!(push(&queue, 1), Pushed::Inactive));
        queue.attach().unwrap();
        assert!(matches!(push(&queue, 1), Pushed::Queued));
    }
}
