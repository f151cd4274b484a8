//! The Watch service: for each stream a task that takes requests, and a body that asks the hub.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use etcdrs_mvcc::Event;
use etcdrs_mvcc::watch::{Events, Response, Wake, WatchSpec, WatchStream};
use etcdrs_platform::failpoint::strikes;
use etcdrs_platform::{OsRandom, Random as _};
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::KeyRange;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::wire::{self, Header};
use crate::api::{Api, status};
use crate::grpc::{self, Body, Messages, PREFIX_BYTES, Requests};

/// Bytes of a response beside its events: prefix, header, id and flags.
const CONTROL_BYTES: usize = 80;
/// Bytes taken from the hub at once. What the client does not read stays there, and is bounded.
const POLL_BYTES: usize = 64 * 1024;

const WATCH_ID: u8 = 0x10;
const CREATED: u8 = 0x18;
const CANCELED: u8 = 0x20;
const COMPACT_REVISION: u8 = 0x28;
const CANCEL_REASON: u8 = 0x32;
const FRAGMENT: u8 = 0x38;

/// One client stream, shared by the task that takes its requests and the body that fills its
/// answers. Events go from the hub into the body without a task in between.
struct Stream {
    api: Api,
    method: usize,
    hub: WatchStream,
    /// Held while a request is carried out and while the hub is asked, so that the answer to a
    /// request is never overtaken by what the request caused (WA-01).
    control: Mutex<ControlState>,
    waker: Arc<BodyWaker>,
    /// Told when the body is gone.
    closed: Notify,
}

#[derive(Default)]
struct ControlState {
    /// Framed answers to requests.
    out: BytesMut,
    /// Why the call ends, once it does.
    ended: Option<Status>,
}

/// Wakes the task that polls the body.
#[derive(Default)]
struct BodyWaker(AtomicWaker);

impl Wake for BodyWaker {
    fn wake(&self) {
        self.0.wake();
    }
}

impl Api {
    pub(crate) fn watch(&self, method: usize, requests: Requests) -> Body {
        // WA-23: up to a tenth of the interval, once for each stream.
        let tenth = self.settings.progress_interval.as_millis() as u64 / 10;
        let jitter = OsRandom.below(tenth.max(1));
        let waker = Arc::new(BodyWaker::default());
        let hub = self.state.hub.stream_with_jitter(waker.clone(), jitter);
        let stream = Arc::new(Stream {
            api: self.clone(),
            method,
            hub,
            control: Mutex::default(),
            waker,
            closed: Notify::new(),
        });
        tokio::spawn(take_requests(Arc::clone(&stream), requests));
        Body::stream(Answers { stream, ready: Vec::new() })
    }
}

/// Carries out what the client asks for until the call ends.
async fn take_requests(stream: Arc<Stream>, mut requests: Requests) {
    let mut half_closed = false;
    let mut stopping = std::pin::pin!(stream.api.stopping());
    let ended = loop {
        let raw = tokio::select! {
            biased;
            () = &mut stopping => break status::stopped(),
            () = stream.closed.notified() => break status::watch_canceled(),
            request = requests.next(), if !half_closed => request,
        };
        match raw {
            // The stream lives on after the client half-closed it (WA-15).
            Ok(None) => half_closed = true,
            Ok(Some(raw)) => match decode(&raw) {
                Ok(request) => stream.request(request),
                Err(status) => break status,
            },
            Err(status) if status.code() == Code::Cancelled => break status::watch_canceled(),
            Err(status) => break status,
        }
    };
    stream.api.metrics.rpcs.handled(stream.method, ended.code());
    stream.control.lock().ended = Some(ended);
    stream.waker.wake();
}

/// The body of a stream's answers.
struct Answers {
    stream: Arc<Stream>,
    ready: Vec<Response>,
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.stream.closed.notify_one();
    }
}

impl Messages for Answers {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let Self { stream, ready } = self;
        stream.waker.0.register(cx.waker());
        let mut out = {
            let mut control = stream.control.lock();
            stream.hub.poll(POLL_BYTES, ready);
            if ready.is_empty()
                && control.out.is_empty()
                && let Some(status) = control.ended.take()
            {
                return Poll::Ready(Some(Err(status)));
            }
            std::mem::take(&mut control.out)
        };
        if ready.is_empty() && out.is_empty() {
            return Poll::Pending;
        }
        out.reserve(ready.iter().map(|response| stream.room_for(response)).sum());
        for response in ready.drain(..) {
            stream.response(&response, &mut out);
        }
        stream.api.metrics.sent.inc_by(out.len() as u64);
        Poll::Ready(Some(Ok(out.freeze())))
    }
}

impl Stream {
    /// Bytes that a response takes at most, unless it is cut into fragments.
    fn room_for(&self, response: &Response) -> usize {
        match response {
            Response::Events { events, prev_kv, .. } => CONTROL_BYTES + events.wire_len(*prev_kv),
            Response::Progress { .. } | Response::Compacted { .. } => CONTROL_BYTES,
        }
    }

    fn request(&self, request: pb::WatchRequest) {
        let mut control = self.control.lock();
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create, &mut control.out),
            Some(RequestUnion::CancelRequest(cancel)) => {
                if let Some(revision) = self.hub.cancel(cancel.watch_id) {
                    let canceled = Control {
                        header: self.api.header(revision),
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..Control::default()
                    };
                    canceled.put(&mut control.out);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.hub.request_progress(),
            // WA-12: ignored, and the stream lives on.
            None => {}
        }
        drop(control);
        self.waker.wake();
    }

    fn create(&self, create: pb::WatchCreateRequest, out: &mut BytesMut) {
        let filters = |filter: FilterType| create.filters.contains(&(filter as i32));
        let spec = WatchSpec {
            start_revision: create.start_revision,
            progress_notify: create.progress_notify,
            prev_kv: create.prev_kv,
            no_put: filters(FilterType::Noput),
            no_delete: filters(FilterType::Nodelete),
            watch_id: create.watch_id,
            fragment: create.fragment,
            range: KeyRange::from_wire(create.key, create.range_end),
        };
        let control = match self.hub.create(spec) {
            Ok(created) => Control {
                header: self.api.header(created.revision),
                watch_id: created.watch_id,
                created: true,
                ..Control::default()
            },
            Err(error) => Control {
                header: self.api.header(self.api.state.hub.revision()),
                watch_id: -1,
                created: true,
                canceled: true,
                reason: error.to_string(),
                ..Control::default()
            },
        };
        control.put(out);
    }

    fn response(&self, response: &Response, out: &mut BytesMut) {
        match response {
            Response::Events { watch_id, revision, fragment, prev_kv, events } => {
                let header = self.api.header(*revision);
                if planted(out, &header, *watch_id, events, *prev_kv) {
                    return;
                }
                let bytes_max = self.api.settings.message_bytes_max();
                if *fragment && events_len(&header, *watch_id, events, *prev_kv) >= bytes_max {
                    put_fragments(out, &header, *watch_id, events, *prev_kv, bytes_max);
                } else {
                    put_events(out, &header, *watch_id, events, *prev_kv);
                }
            }
            Response::Progress { watch_id, revision } => {
                let early = if strikes("planted-early-progress", 0) { 3 } else { 0 };
                let header = self.api.header(*revision + early);
                Control { header, watch_id: *watch_id, ..Control::default() }.put(out);
            }
            Response::Compacted { watch_id, compact_revision } => {
                let control = Control {
                    header: self.api.header(0),
                    watch_id: *watch_id,
                    canceled: true,
                    compact_revision: *compact_revision,
                    ..Control::default()
                };
                control.put(out);
            }
        }
    }
}

/// A `WatchResponse` without events.
#[derive(Default)]
struct Control {
    header: Header,
    watch_id: i64,
    created: bool,
    canceled: bool,
    compact_revision: i64,
    reason: String,
}

impl Control {
    fn put(&self, out: &mut BytesMut) {
        let reason = if self.reason.is_empty() { 0 } else { wire::bytes_len(self.reason.len()) };
        let bytes = self.header.field_len()
            + wire::number_len(self.watch_id.cast_unsigned())
            + wire::number_len(u64::from(self.created))
            + wire::number_len(u64::from(self.canceled))
            + wire::number_len(self.compact_revision.cast_unsigned())
            + reason;
        out.reserve(PREFIX_BYTES + bytes);
        out.put_slice(&grpc::prefix(bytes));
        self.header.put(out);
        wire::put_number(out, WATCH_ID, self.watch_id.cast_unsigned());
        wire::put_number(out, CREATED, u64::from(self.created));
        wire::put_number(out, CANCELED, u64::from(self.canceled));
        wire::put_number(out, COMPACT_REVISION, self.compact_revision.cast_unsigned());
        if !self.reason.is_empty() {
            wire::put_bytes(out, CANCEL_REASON, self.reason.as_bytes());
        }
    }
}

fn events_len(header: &Header, watch_id: i64, events: &Events, prev_kv: bool) -> usize {
    header.field_len() + wire::number_len(watch_id.cast_unsigned()) + events.wire_len(prev_kv)
}

fn put_events(out: &mut BytesMut, header: &Header, watch_id: i64, events: &Events, prev_kv: bool) {
    let bytes = events_len(header, watch_id, events, prev_kv);
    out.reserve(PREFIX_BYTES + bytes);
    out.put_slice(&grpc::prefix(bytes));
    header.put(out);
    wire::put_number(out, WATCH_ID, watch_id.cast_unsigned());
    events.encode_wire(prev_kv, out);
}

/// Tells events wrongly where a test asks for that; `false` if they are still to be told.
fn planted(
    out: &mut BytesMut,
    header: &Header,
    watch_id: i64,
    events: &Events,
    prev_kv: bool,
) -> bool {
    let revision = header.revision.unsigned_abs();
    if strikes("planted-lost-event", revision) {
        return true;
    }
    if strikes("planted-doubled-event", revision) {
        put_events(out, header, watch_id, events, prev_kv);
        return false;
    }
    if strikes("planted-split-revision", 0) {
        events.iter().for_each(|event| put_alone(out, header, watch_id, event, prev_kv));
        return true;
    }
    if strikes("planted-reordered-events", revision) {
        let mut all: Vec<&Event> = events.iter().collect();
        all.reverse();
        all.into_iter().for_each(|event| put_alone(out, header, watch_id, event, prev_kv));
        return true;
    }
    if strikes("planted-no-prev", revision) {
        put_events(out, header, watch_id, events, false);
        return true;
    }
    false
}

fn put_alone(out: &mut BytesMut, header: &Header, watch_id: i64, event: &Event, prev_kv: bool) {
    let mut message = BytesMut::new();
    header.put(&mut message);
    wire::put_number(&mut message, WATCH_ID, watch_id.cast_unsigned());
    event.encode_wire(prev_kv, &mut message);
    out.put_slice(&grpc::prefix(message.len()));
    out.put_slice(&message);
}

/// WA-22: pieces of whole events, `fragment` on all but the last, back to back on the stream.
fn put_fragments(
    out: &mut BytesMut,
    header: &Header,
    watch_id: i64,
    events: &Events,
    prev_kv: bool,
    bytes_max: usize,
) {
    let fixed = header.field_len() + wire::number_len(watch_id.cast_unsigned());
    let mut piece = BytesMut::new();
    let mut events = events.iter().peekable();
    while let Some(event) = events.next() {
        event.encode_wire(prev_kv, &mut piece);
        let next = events.peek().map(|next| next.wire_len(prev_kv));
        if next.is_some_and(|next| fixed + 2 + piece.len() + next < bytes_max) {
            continue;
        }
        let more = u64::from(next.is_some());
        let bytes = fixed + wire::number_len(more) + piece.len();
        out.reserve(PREFIX_BYTES + bytes);
        out.put_slice(&grpc::prefix(bytes));
        header.put(out);
        wire::put_number(out, WATCH_ID, watch_id.cast_unsigned());
        wire::put_number(out, FRAGMENT, more);
        out.put_slice(&piece);
        piece.clear();
    }
}
