//! A watcher of everything at each member, whose record tells the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use etcdrs_apply::Shared;
use etcdrs_mvcc::watch::{Response, Wake, WatchSpec};
use etcdrs_tests::pb;
use etcdrs_tests::robustness::history::{Received, Watch, WatchEnd};
use etcdrs_tests::watch::on_all;
use etcdrs_types::KeyRange;
use prost::Message as _;
use tokio::sync::Notify;

use crate::trace::Trace;

const BUDGET_BYTES: usize = 64 << 10;
/// Lagging watchers fed in one go.
const FED: usize = 8;

struct Bell(Arc<Notify>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Everything that was told.
#[derive(Clone)]
pub(crate) struct Book {
    pages: Arc<Mutex<Vec<Watch>>>,
    /// The newest revision that was told, by seat.
    pub(crate) newest: Arc<Mutex<Vec<i64>>>,
    pub(crate) trace: Trace,
}

impl Book {
    pub(crate) fn new(seats: usize, trace: Trace) -> Self {
        Self { pages: Arc::default(), newest: Arc::new(Mutex::new(vec![0; seats])), trace }
    }

    fn begin(&self, seat: usize, from: i64) -> usize {
        let mut pages = self.pages.lock().unwrap();
        pages.push(Watch {
            client: 1000 + u32::try_from(seat).unwrap(),
            member: seat,
            called: self.trace.now(),
            request: pb::WatchCreateRequest { prev_kv: true, ..on_all(from) },
            responses: Vec::new(),
            end: WatchEnd::Closed("the member ended".into()),
        });
        pages.len() - 1
    }

    fn add(&self, page: usize, response: pb::WatchResponse) {
        let at = self.trace.now();
        self.pages.lock().unwrap()[page].responses.push(Received { at, response });
    }

    /// The record. The last one of each member has everything up to `revision`.
    pub(crate) fn finish(&self, revision: i64) -> Vec<Watch> {
        let mut pages = std::mem::take(&mut *self.pages.lock().unwrap());
        let mut seats = BTreeSet::new();
        for page in pages.iter_mut().rev().filter(|page| seats.insert(page.member)) {
            page.end = WatchEnd::Drained(revision);
        }
        pages
    }

    /// The revision that all have told.
    pub(crate) fn told_by_all(&self) -> i64 {
        self.newest.lock().unwrap().iter().copied().min().unwrap_or(0)
    }
}

/// Feeds the watchers of a member that lag.
pub(crate) async fn feed(shared: Shared) {
    let bell = Arc::new(Notify::new());
    shared.hub.on_lagging(Arc::new(Bell(Arc::clone(&bell))));
    loop {
        while shared.hub.catch_up(FED) {
            tokio::task::yield_now().await;
        }
        bell.notified().await;
    }
}

/// Watches everything at a member until its life is over, and goes on where the last one ended.
pub(crate) async fn write(book: Book, seat: usize, shared: Shared) {
    let bell = Arc::new(Notify::new());
    let stream = shared.hub.stream(Arc::new(Bell(Arc::clone(&bell))));
    let from = book.newest.lock().unwrap()[seat] + 1;
    let mut page = watch_from(&book, seat, &stream, from);
    let mut ready = Vec::new();
    loop {
        bell.notified().await;
        while stream.poll(BUDGET_BYTES, &mut ready) || !ready.is_empty() {
            for response in ready.drain(..) {
                let compacted = tell(&book, seat, page, response);
                if let Some(revision) = compacted {
                    page = watch_from(&book, seat, &stream, revision);
                }
            }
        }
    }
}

fn watch_from(
    book: &Book,
    seat: usize,
    stream: &etcdrs_mvcc::watch::WatchStream,
    from: i64,
) -> usize {
    let page = book.begin(seat, from);
    let range = KeyRange::from_wire("\0".into(), "\0".into());
    let spec = WatchSpec { start_revision: from, prev_kv: true, ..WatchSpec::new(range) };
    let created = stream.create(spec).expect("a watcher");
    let header = pb::ResponseHeader { revision: created.revision, ..Default::default() };
    book.add(page, pb::WatchResponse { header: Some(header), created: true, ..Default::default() });
    page
}

/// Writes an answer down; the compacted revision if the watcher ended with it.
fn tell(book: &Book, seat: usize, page: usize, response: Response) -> Option<i64> {
    let header = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
    match response {
        Response::Events { revision, prev_kv, events, .. } => {
            let mut bytes = BytesMut::new();
            events.encode_wire(prev_kv, &mut bytes);
            let mut message = pb::WatchResponse::decode(bytes.freeze()).expect("it decodes");
            message.header = header(revision);
            let last = message.events.last().and_then(|event| event.kv.as_ref());
            let newest = last.expect("an event").mod_revision;
            book.trace.note(format_args!("seat {seat} told up to {newest}"));
            book.newest.lock().unwrap()[seat] = newest;
            book.add(page, message);
            None
        }
        Response::Progress { revision, .. } => {
            book.add(page, pb::WatchResponse { header: header(revision), ..Default::default() });
            None
        }
        Response::Compacted { compact_revision, .. } => {
            let canceled = pb::WatchResponse {
                header: header(0),
                canceled: true,
                compact_revision,
                ..Default::default()
            };
            book.add(page, canceled);
            Some(compact_revision)
        }
    }
}
