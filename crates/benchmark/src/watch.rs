//! Watchers that receive what a writer puts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcdrs_proto::etcdserverpb::watch_request::RequestUnion;
use etcdrs_proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest};
use prost::Message as _;
use tokio::sync::Notify;

use crate::clock::now;
use crate::http2::{Event, Keep};
use crate::io::Io;
use crate::report::{Recorder, Report};
use crate::run::{Error, Meter, Plan};
use crate::scan::{self, Field};

/// How long events may take to arrive after the last put.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes at the start of a value that say when it was put.
const STAMP: usize = 8;

/// Who watches what, and what is written.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Streams; connections take them in turn.
    pub streams: usize,
    /// Watchers of each.
    pub per_stream: usize,
    /// Different keys watched and put.
    pub keys: usize,
    /// Puts.
    pub puts: u64,
    /// Puts a second; 0 for as many as the clients manage.
    pub put_rate: u64,
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of a value, at least 8.
    pub val_size: usize,
    /// Ask for previous values.
    pub prev_kv: bool,
}

impl Watch {
    fn key(&self, number: usize) -> Vec<u8> {
        let mut key = format!("watch/{number:08}").into_bytes();
        key.resize(self.key_size.max(key.len()), b'0');
        key
    }

    /// Events that all watchers together will get.
    fn expected(&self) -> u64 {
        let watchers = self.streams * self.per_stream;
        let of_key =
            |k: usize| (watchers / self.keys + usize::from(k < watchers % self.keys)) as u64;
        let puts_of = |k: usize| {
            let keys = self.keys as u64;
            self.puts / keys + u64::from((k as u64) < self.puts % keys)
        };
        (0..self.keys).map(|k| of_key(k) * puts_of(k)).sum()
    }
}

struct Shared {
    watch: Watch,
    plan: Plan,
    started: Instant,
    created: AtomicU64,
    received: AtomicU64,
    all_created: Notify,
    all_received: Notify,
}

/// Runs `watch`: all watchers are created first, then the puts begin.
///
/// # Errors
/// When a connection or watcher fails, or events do not arrive.
pub fn run(name: &str, plan: &Plan, watch: &Watch) -> Result<Report, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    runtime.block_on(tasks.run_until(run_inside(name, plan, watch)))
}

async fn run_inside(name: &str, plan: &Plan, watch: &Watch) -> Result<Report, Error> {
    let shared = Arc::new(Shared {
        watch: watch.clone(),
        plan: plan.clone(),
        started: now(),
        created: AtomicU64::new(0),
        received: AtomicU64::new(0),
        all_created: Notify::new(),
        all_received: Notify::new(),
    });
    let conns = plan.conns.clamp(1, watch.streams.max(1));
    let mut watchers = tokio::task::JoinSet::new();
    for index in 0..conns {
        watchers.spawn_local(receive(Arc::clone(&shared), index, conns));
    }
    tokio::select! {
        () = shared.all_created.notified() => {}
        Some(failed) = watchers.join_next() => return Err(ended_early(failed)),
    }

    let meter = Meter::start(plan)?;
    let begun = now();
    let puts = tokio::task::spawn_local(put_all(Arc::clone(&shared)));
    let puts = tokio::select! {
        puts = puts => puts.map_err(|_| Error::Panicked)??,
        Some(failed) = watchers.join_next() => return Err(ended_early(failed)),
    };
    let expected = watch.expected();
    if shared.received.load(Ordering::Relaxed) < expected {
        let all = tokio::time::timeout(PATIENCE, shared.all_received.notified());
        tokio::select! {
            all = all => all.map_err(|_| missing(&shared, expected))?,
            Some(failed) = watchers.join_next() => return Err(ended_early(failed)),
        }
    }
    let took = begun.elapsed();
    let usage = meter.read()?;
    let (created, events) = collect(&shared, watchers).await?;
    let classes =
        vec![("Watch creation", created), ("Put", puts), ("Watch events received", events)];
    let mut report = Report::new(name, took, classes);
    report.units = expected;
    report.extra.insert("events/sec".into(), expected as f64 / took.as_secs_f64().max(1e-9));
    Ok(meter.add_to(report, usage, Vec::new()))
}

fn ended_early(ended: Result<Result<Watchers, Error>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(e)) => e,
        Ok(Ok(_)) => Error::Server("a watch stream ended".into()),
        Err(_) => Error::Panicked,
    }
}

fn missing(shared: &Shared, expected: u64) -> Error {
    let received = shared.received.load(Ordering::Relaxed);
    Error::Server(format!("received {received} of {expected} events"))
}

/// Stops the receiving tasks and adds up what they saw.
async fn collect(
    shared: &Shared,
    mut watchers: tokio::task::JoinSet<Result<Watchers, Error>>,
) -> Result<(Recorder, Recorder), Error> {
    shared.received.fetch_max(u64::MAX / 2, Ordering::Relaxed);
    let (mut created, mut events) = (Recorder::default(), Recorder::default());
    while let Some(result) = watchers.join_next().await {
        let part = result.map_err(|_| Error::Panicked)??;
        created.merge(&part.created);
        events.merge(&part.events);
    }
    Ok((created, events))
}

/// The watch streams of one connection.
struct Watchers {
    shared: Arc<Shared>,
    io: Io,
    /// Per stream: how many watchers it has, and when the oldest outstanding one was asked for.
    streams: Vec<Stream>,
    created: Recorder,
    events: Recorder,
}

struct Stream {
    asked: Instant,
    /// Watchers still to be created: numbers among all watchers.
    next: std::ops::Range<usize>,
    stream: u32,
}

async fn receive(shared: Arc<Shared>, index: usize, conns: usize) -> Result<Watchers, Error> {
    let plan = &shared.plan;
    let endpoint = &plan.endpoints[index % plan.endpoints.len()];
    let io = Io::connect(endpoint, plan.token.clone(), plan.dial_timeout).await?;
    let mut all = Watchers {
        io,
        streams: Vec::new(),
        created: Recorder::default(),
        events: Recorder::default(),
        shared: Arc::clone(&shared),
    };
    for stream in (index..shared.watch.streams).step_by(conns) {
        all.open(stream);
    }
    let expected = shared.watch.expected();
    while shared.received.load(Ordering::Relaxed) <= expected {
        // Woken now and then to see that the run is over.
        all.io.turn(Some(now() + Duration::from_millis(100))).await?;
        let mut events = std::mem::take(&mut all.io.events);
        for event in events.drain(..) {
            all.event(event)?;
        }
        all.io.events = events;
    }
    Ok(all)
}

impl Watchers {
    fn open(&mut self, stream: usize) {
        let per_stream = self.shared.watch.per_stream;
        let mut next = stream * per_stream..(stream + 1) * per_stream;
        let Some(first) = next.next() else { return };
        let request = self.create_request(first);
        let tag = self.streams.len() as u64;
        let path = "/etcdserverpb.Watch/Watch";
        let stream = self.io.connection.open(path, tag, Keep::Each, &request, false);
        self.streams.push(Stream { asked: now(), next, stream });
    }

    fn create_request(&self, watcher: usize) -> Vec<u8> {
        let watch = &self.shared.watch;
        let create = WatchCreateRequest {
            key: watch.key(watcher % watch.keys).into(),
            prev_kv: watch.prev_kv,
            ..Default::default()
        };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec()
    }

    fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Message { tag, message } => self.message(tag as usize, &message),
            Event::Closed { status, .. } => {
                let text = format!("a watch stream ended: {} {}", status.code, status.message);
                Err(Error::Server(text))
            }
        }
    }

    fn message(&mut self, stream: usize, message: &[u8]) -> Result<(), Error> {
        const CREATED: u64 = 3;
        const CANCELED: u64 = 4;
        const EVENTS: u64 = 11;
        if scan::number(message, CANCELED) != 0 {
            let reason = String::from_utf8_lossy(scan::bytes(message, 6)).into_owned();
            return Err(Error::Server(format!("a watcher was canceled: {reason}")));
        }
        if scan::number(message, CREATED) != 0 {
            self.watcher_created(stream);
            return Ok(());
        }
        let time = now();
        let mut received = 0;
        scan::fields(message, |number, content| {
            if let (EVENTS, Field::Bytes(event)) = (number, content) {
                received += 1;
                let value = scan::bytes(scan::bytes(event, 2), 5);
                if let Some(put_at) = read_stamp(value) {
                    let since = time.saturating_duration_since(self.shared.started);
                    self.events.success(since.saturating_sub(put_at));
                }
            }
        });
        let before = self.shared.received.fetch_add(received, Ordering::Relaxed);
        if before + received == self.shared.watch.expected() {
            self.shared.all_received.notify_one();
        }
        Ok(())
    }

    fn watcher_created(&mut self, stream: usize) {
        let entry = &mut self.streams[stream];
        self.created.success(now() - entry.asked);
        entry.asked = now();
        if let Some(watcher) = entry.next.next() {
            let id = entry.stream;
            let request = self.create_request(watcher);
            self.io.connection.send(id, &request);
        }
        let created = self.shared.created.fetch_add(1, Ordering::Relaxed) + 1;
        if created == (self.shared.watch.streams * self.shared.watch.per_stream) as u64 {
            self.shared.all_created.notify_one();
        }
    }
}

fn stamp(started: Instant, value: &mut [u8]) {
    let nanos = started.elapsed().as_nanos() as u64;
    value[..STAMP].copy_from_slice(&nanos.to_be_bytes());
}

fn read_stamp(value: &[u8]) -> Option<Duration> {
    let stamp = value.get(..STAMP)?.try_into().ok()?;
    Some(Duration::from_nanos(u64::from_be_bytes(stamp)))
}

/// Puts over a connection of its own, as many at a time as there are clients.
async fn put_all(shared: Arc<Shared>) -> Result<Recorder, Error> {
    let (plan, watch) = (&shared.plan, &shared.watch);
    let mut io = Io::connect(&plan.endpoints[0], plan.token.clone(), plan.dial_timeout).await?;
    let mut value = vec![b'v'; watch.val_size.max(STAMP)];
    let begun = now();
    let mut recorder = Recorder::default();
    let mut sent_at: Vec<Instant> = Vec::new();
    let (mut next, mut done) = (0u64, 0u64);
    while done < watch.puts {
        let mut due = None;
        while next < watch.puts && next - done < plan.clients.max(1) as u64 {
            let nanos = (next * 1_000_000_000).checked_div(watch.put_rate).unwrap_or(0);
            let at = begun + Duration::from_nanos(nanos);
            if at > now() {
                due = Some(at);
                break;
            }
            stamp(shared.started, &mut value);
            let key = watch.key((next % watch.keys as u64) as usize).into();
            let put = PutRequest { key, value: value.clone().into(), ..Default::default() };
            let path = "/etcdserverpb.KV/Put";
            io.connection.open(path, next, Keep::Nothing, &put.encode_to_vec(), true);
            sent_at.push(now());
            next += 1;
        }
        io.turn(due).await?;
        for event in io.events.drain(..) {
            let Event::Closed { tag, status, .. } = event else { continue };
            done += 1;
            if !status.ok() {
                return Err(Error::Server(format!("a put failed: {}", status.message)));
            }
            recorder.success(now() - sent_at[tag as usize]);
        }
    }
    Ok(recorder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(streams: usize, per_stream: usize, keys: usize, puts: u64) -> Watch {
        let (key_size, val_size) = (8, 8);
        Watch { streams, per_stream, keys, puts, put_rate: 0, key_size, val_size, prev_kv: false }
    }

    #[test]
    fn expected_events_are_puts_times_watchers_of_their_key() {
        assert_eq!(watch(2, 50, 1, 10).expected(), 1000);
        assert_eq!(watch(1, 4, 2, 10).expected(), 20);
        // Watchers 0 and 2 watch key 0, watcher 1 key 1; puts 0, 2 and 1, 3 go there.
        assert_eq!(watch(1, 3, 2, 4).expected(), 2 * 2 + 2);
    }

    #[test]
    fn stamps_are_read_back() {
        let mut value = vec![0; 16];
        stamp(now(), &mut value);
        assert!(read_stamp(&value).unwrap() < Duration::from_secs(60));
        assert_eq!(read_stamp(&[1]), None);
    }
}
