//! The Watch service: one task for each stream, between the client's requests and the hub.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use etcdrs_mvcc::watch::{Events, Response, Wake, WatchSpec, WatchStream};
use etcdrs_platform::{OsRandom, Random as _};
use etcdrs_proto::etcdserverpb as pb;
use etcdrs_types::KeyRange;
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::api::dispatch::decode;
use crate::api::wire::{self, Header};
use crate::api::{Api, status};
use crate::grpc::{self, Body, PREFIX_BYTES, Requests, Sender};

/// Buffers that wait for the client to read; more stays in the hub, which is bounded too.
const QUEUE: usize = 2;
/// Bytes taken from the hub at once.
const POLL_BYTES: usize = 64 * 1024;

const WATCH_ID: u8 = 0x10;
const CREATED: u8 = 0x18;
const CANCELED: u8 = 0x20;
const COMPACT_REVISION: u8 = 0x28;
const CANCEL_REASON: u8 = 0x32;
const FRAGMENT: u8 = 0x38;

/// Wakes the stream's task.
struct WakeTask(Notify);

impl Wake for WakeTask {
    fn wake(&self) {
        self.0.notify_one();
    }
}

impl Api {
    pub(crate) fn watch(&self, method: usize, requests: Requests) -> Body {
        let (sender, receiver) = grpc::channel(QUEUE);
        let task = StreamTask::new(self.clone());
        let api = self.clone();
        tokio::spawn(async move {
            let result = task.run(requests, &sender).await;
            let code = result.as_ref().map_or_else(Status::code, |()| Code::Ok);
            api.metrics.rpcs.handled(method, code);
            if let Err(status) = result {
                sender.fail(status).await;
            }
        });
        Body::stream(receiver)
    }
}

struct StreamTask {
    api: Api,
    wake: Arc<WakeTask>,
    stream: WatchStream,
}

/// What happened next on a stream.
enum Event {
    Request(Option<Bytes>),
    Ready,
}

impl StreamTask {
    fn new(api: Api) -> Self {
        let wake = Arc::new(WakeTask(Notify::new()));
        // WA-23: up to a tenth of the interval, once for each stream.
        let tenth = api.settings.progress_interval.as_millis() as u64 / 10;
        let jitter = OsRandom.below(tenth.max(1));
        let waker: Arc<dyn Wake> = wake.clone();
        let stream = api.state.hub.stream_with_jitter(waker, jitter);
        Self { api, wake, stream }
    }

    async fn run(&self, mut requests: Requests, sender: &Sender) -> Result<(), Status> {
        let mut stopping = std::pin::pin!(self.api.stopping());
        let mut half_closed = false;
        let mut ready = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                () = &mut stopping => return Err(status::stopped()),
                request = requests.next(), if !half_closed => Event::Request(request?),
                () = self.wake.0.notified() => Event::Ready,
                () = sender.closed(), if half_closed => return Err(status::watch_canceled()),
            };
            let mut out = BytesMut::new();
            match event {
                // The stream lives on after the client half-closed it (WA-15).
                Event::Request(None) => half_closed = true,
                Event::Request(Some(raw)) => self.request(decode(&raw)?, &mut out),
                Event::Ready => {
                    self.stream.poll(POLL_BYTES, &mut ready);
                    for response in ready.drain(..) {
                        self.response(&response, &mut out);
                    }
                }
            }
            if !out.is_empty() {
                self.api.metrics.sent.inc_by(out.len() as u64);
                if !sender.send(out.freeze()).await {
                    return Err(status::watch_canceled());
                }
            }
        }
    }

    fn request(&self, request: pb::WatchRequest, out: &mut BytesMut) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create, out),
            Some(RequestUnion::CancelRequest(cancel)) => {
                if let Some(revision) = self.stream.cancel(cancel.watch_id) {
                    let control = Control {
                        header: self.api.header(revision),
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..Control::default()
                    };
                    control.put(out);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => self.stream.request_progress(),
            // WA-12: ignored, and the stream lives on.
            None => {}
        }
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
        let control = match self.stream.create(spec) {
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
                let bytes_max = self.api.settings.message_bytes_max();
                if *fragment && events_len(&header, *watch_id, events, *prev_kv) >= bytes_max {
                    put_fragments(out, &header, *watch_id, events, *prev_kv, bytes_max);
                } else {
                    put_events(out, &header, *watch_id, events, *prev_kv);
                }
            }
            Response::Progress { watch_id, revision } => {
                let header = self.api.header(*revision);
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
