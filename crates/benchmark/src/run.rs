//! Runs a workload: clients in closed loops over shared connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::{Random, now};
use crate::http2::{Event, Keep};
use crate::io::{self, Io};
use crate::report::{Recorder, Report};
use crate::usage::{self, Usage};
use crate::workload::{Call, Workload};

/// How often memory is read and the progress bar moves.
const SAMPLE: Duration = Duration::from_millis(200);

/// How a workload is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Hosts and ports; connections take them in turn.
    pub endpoints: Vec<String>,
    /// Connections.
    pub conns: usize,
    /// Clients; they share the connections evenly.
    pub clients: usize,
    /// Operations.
    pub total: u64,
    /// Operations a second; 0 for as many as possible.
    pub rate: u64,
    /// Stop after this even if operations are left; zero for no limit.
    pub limit: Duration,
    /// Threads that carry connections.
    pub threads: usize,
    /// Token of an authenticated user.
    pub token: Option<String>,
    /// How long connecting may take; zero for no limit.
    pub dial_timeout: Duration,
    /// Processes whose cost is measured.
    pub server_pids: Vec<u32>,
    /// Show a bar on standard error, if that is a terminal.
    pub progress: bool,
}

/// Why a run gave no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A connection was not made, or lost.
    #[error("dial error: {0}")]
    Connection(#[from] io::Error),
    /// The server's usage cannot be read.
    #[error(transparent)]
    Usage(#[from] usage::Error),
    /// No runtime or thread to be had.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread ended badly.
    #[error("a thread of the load generator panicked")]
    Panicked,
    /// The server did not do what the command needs.
    #[error("{0}")]
    Server(String),
}

/// What all connections of a run share.
struct Shared {
    plan: Plan,
    started: Instant,
    next: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// The number of the next operation, while there is one.
    fn take(&self) -> Option<u64> {
        let late = !self.plan.limit.is_zero() && self.started.elapsed() >= self.plan.limit;
        if late || self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        (n < self.plan.total).then_some(n)
    }

    /// When operation `n` may be sent.
    fn due(&self, n: u64) -> Option<Instant> {
        let rate = u128::from(self.plan.rate);
        (rate > 0).then(|| {
            let nanos = u128::from(n) * 1_000_000_000 / rate;
            self.started + Duration::from_nanos(nanos as u64)
        })
    }
}

/// Runs `workload` to its end.
///
/// # Errors
/// When a connection fails; failed calls are counted in the report instead.
pub fn run<W: Workload>(name: &str, plan: &Plan, workload: &W) -> Result<Report, Error> {
    let meter = Meter::start(plan)?;
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        started: now(),
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let ticker = Ticker::start(name, Arc::clone(&shared))?;
    let result = run_threads(&shared, workload);
    let took = shared.started.elapsed();
    let memory = ticker.finish();
    let recorders = workload.classes().iter().copied().zip(result?).collect();
    meter.finish(Report::new(name, took, recorders), memory)
}

/// The server's usage before a run, to be compared with that after.
pub(crate) struct Meter {
    pids: Vec<u32>,
    before: Usage,
}

impl Meter {
    pub(crate) fn start(plan: &Plan) -> Result<Self, Error> {
        let before = Usage::of(&plan.server_pids)?;
        Ok(Self { pids: plan.server_pids.clone(), before })
    }

    /// The usage now.
    pub(crate) fn read(&self) -> Result<Usage, Error> {
        Ok(Usage::of(&self.pids)?)
    }

    /// Puts what was spent up to `after` into a report.
    pub(crate) fn add_to(self, report: Report, after: Usage, memory: Vec<(f64, u64)>) -> Report {
        if self.pids.is_empty() { report } else { report.with_usage(self.before, after, memory) }
    }

    pub(crate) fn finish(self, report: Report, memory: Vec<(f64, u64)>) -> Result<Report, Error> {
        let after = self.read()?;
        Ok(self.add_to(report, after, memory))
    }
}

/// Moves the progress bar and reads the server's memory now and then.
struct Ticker {
    end: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Vec<(f64, u64)>>,
}

impl Ticker {
    fn start(name: &str, shared: Arc<Shared>) -> Result<Self, Error> {
        let bar = if shared.plan.progress {
            ProgressBar::new(shared.plan.total)
        } else {
            ProgressBar::hidden()
        };
        let template = "{prefix} {bar:40} {pos}/{len} {per_sec} {eta}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        bar.set_prefix(name.to_string());
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("ticker".into()).spawn(move || {
            let mut memory = Vec::new();
            loop {
                if let Ok(usage) = Usage::of(&shared.plan.server_pids)
                    && usage.rss > 0
                {
                    memory.push((shared.started.elapsed().as_secs_f64(), usage.rss));
                }
                bar.set_position(shared.done.load(Ordering::Relaxed));
                if ended.recv_timeout(SAMPLE) != Err(mpsc::RecvTimeoutError::Timeout) {
                    bar.finish_and_clear();
                    return memory;
                }
            }
        })?;
        Ok(Self { end, thread })
    }

    fn finish(self) -> Vec<(f64, u64)> {
        drop(self.end);
        self.thread.join().unwrap_or_default()
    }
}

fn run_threads<W: Workload>(shared: &Arc<Shared>, workload: &W) -> Result<Vec<Recorder>, Error> {
    let conns = shared.plan.conns.clamp(1, shared.plan.clients.max(1));
    let threads = shared.plan.threads.clamp(1, conns);
    let mut handles = Vec::new();
    for thread in 0..threads {
        let (shared, workload) = (Arc::clone(shared), workload.clone());
        let builder = std::thread::Builder::new().name(format!("load-{thread}"));
        handles.push(builder.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mine: Vec<usize> = (thread..conns).step_by(threads).collect();
            let result = runtime.block_on(run_connections(&shared, &workload, &mine, conns));
            if result.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            result
        })?);
    }
    let mut sum = vec![Recorder::default(); workload.classes().len()];
    let results: Vec<_> =
        handles.into_iter().map(|h| h.join().map_err(|_| Error::Panicked)).collect();
    for result in results {
        for (all, part) in sum.iter_mut().zip(result??) {
            all.merge(&part);
        }
    }
    Ok(sum)
}

async fn run_connections<W: Workload>(
    shared: &Arc<Shared>,
    workload: &W,
    mine: &[usize],
    conns: usize,
) -> Result<Vec<Recorder>, Error> {
    let mut tasks = tokio::task::JoinSet::new();
    for &index in mine {
        let driver = Driver::connect(Arc::clone(shared), workload.clone(), index, conns).await?;
        tasks.spawn(driver.drive());
    }
    let mut sum = vec![Recorder::default(); workload.classes().len()];
    while let Some(result) = tasks.join_next().await {
        for (all, part) in sum.iter_mut().zip(result.map_err(|_| Error::Panicked)??) {
            all.merge(&part);
        }
    }
    Ok(sum)
}

/// A client: what it is doing.
struct Client {
    /// Its number among all clients.
    number: usize,
    began: Instant,
    /// Its stream, where it keeps one.
    stream: Option<u32>,
    busy: bool,
}

/// One connection and its clients.
struct Driver<W> {
    shared: Arc<Shared>,
    workload: W,
    io: Io,
    random: Random,
    clients: Vec<Client>,
    /// Clients that wait for their turn: when, which, with what operation.
    waiting: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    recorders: Vec<Recorder>,
    request: Vec<u8>,
}

impl<W: Workload> Driver<W> {
    async fn connect(
        shared: Arc<Shared>,
        workload: W,
        index: usize,
        conns: usize,
    ) -> Result<Self, Error> {
        let plan = &shared.plan;
        let endpoint = &plan.endpoints[index % plan.endpoints.len()];
        let io = Io::connect(endpoint, plan.token.clone(), plan.dial_timeout).await?;
        let began = shared.started;
        let client = |number| Client { number, began, stream: None, busy: false };
        let clients = (index..plan.clients).step_by(conns).map(client).collect();
        let recorders = vec![Recorder::default(); workload.classes().len()];
        Ok(Self {
            io,
            random: Random::new(index as u64),
            clients,
            waiting: BinaryHeap::new(),
            recorders,
            request: Vec::new(),
            shared,
            workload,
        })
    }

    async fn drive(mut self) -> Result<Vec<Recorder>, Error> {
        for slot in 0..self.clients.len() {
            self.next(slot);
        }
        loop {
            self.start_due();
            let busy = self.clients.iter().any(|c| c.busy);
            if !busy && self.waiting.is_empty() {
                return Ok(self.recorders);
            }
            let until = self.waiting.peek().map(|Reverse((at, ..))| *at);
            self.io.turn(until).await?;
            let mut events = std::mem::take(&mut self.io.events);
            for event in events.drain(..) {
                self.event(event);
            }
            self.io.events = events;
        }
    }

    /// Takes the next operation for a client, now or when it is due.
    fn next(&mut self, slot: usize) {
        let Some(n) = self.shared.take() else { return };
        match self.shared.due(n) {
            Some(at) if at > now() => self.waiting.push(Reverse((at, slot, n))),
            _ => self.begin(slot, n),
        }
    }

    fn start_due(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let time = now();
        while let Some(Reverse((at, slot, n))) = self.waiting.peek().copied() {
            if at > time {
                return;
            }
            self.waiting.pop();
            self.begin(slot, n);
        }
    }

    fn begin(&mut self, slot: usize, n: u64) {
        let number = self.clients[slot].number;
        self.request.clear();
        let call = self.workload.begin(n, number, &mut self.random, &mut self.request);
        self.clients[slot].began = now();
        self.clients[slot].busy = true;
        self.send(slot, call);
    }

    fn send(&mut self, slot: usize, call: Call) {
        let connection = &mut self.io.connection;
        let client = &mut self.clients[slot];
        let tag = slot as u64;
        match (self.workload.streaming(), client.stream) {
            (Some(_), Some(stream)) => connection.send(stream, &self.request),
            (Some(path), None) => {
                client.stream = Some(connection.open(path, tag, Keep::Each, &self.request, false));
            }
            (None, _) => {
                connection.open(call.path, tag, call.keep, &self.request, true);
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Message { tag, message } => self.answered(tag as usize, &message),
            Event::Closed { tag, status, message, .. } => {
                let slot = tag as usize;
                self.clients[slot].stream = None;
                if status.ok() {
                    self.answered(slot, &message);
                } else {
                    let class = self.workload.class(self.clients[slot].number);
                    let text =
                        format!("rpc error: code = {} desc = {}", status.code, status.message);
                    self.recorders[class].error(text);
                    self.ended(slot);
                }
            }
        }
    }

    fn answered(&mut self, slot: usize, answer: &[u8]) {
        let number = self.clients[slot].number;
        self.request.clear();
        if let Some(call) = self.workload.go_on(number, answer, &mut self.request) {
            self.send(slot, call);
            return;
        }
        let took = now() - self.clients[slot].began;
        self.recorders[self.workload.class(number)].success(took);
        self.ended(slot);
    }

    fn ended(&mut self, slot: usize) {
        self.clients[slot].busy = false;
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        self.next(slot);
    }
}
