//! Watchers that record: those that tell the log, one at each member, and random ones.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::history::{Received, Watch, WatchEnd};
use super::wire::Wire;
use crate::pb::watch_client::WatchClient;
use crate::pb::watch_request::RequestUnion;
use crate::pb::{self, WatchCreateRequest};
use crate::random::Random;
use crate::target::Flavour;
use crate::watch::{on, on_all, on_range};

/// How the record of a watcher ends while it goes on.
pub(super) const OPEN: &str = "open";
/// The number of the first member's scribe as a client.
const SCRIBES: u32 = 1000;
/// Between two attempts to watch a member that does not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything watchers have told so far.
#[derive(Clone, Default)]
pub struct Told {
    shared: Arc<Mutex<Vec<Watch>>>,
}

impl Told {
    fn begin(&self, watch: Watch) -> usize {
        let mut all = self.shared.lock().unwrap();
        all.push(watch);
        all.len() - 1
    }

    fn add(&self, at: usize, received: Received) {
        self.shared.lock().unwrap()[at].responses.push(received);
    }

    fn end(&self, at: usize, end: WatchEnd) {
        self.shared.lock().unwrap()[at].end = end;
    }

    /// A copy of it all.
    pub fn watches(&self) -> Vec<Watch> {
        self.shared.lock().unwrap().clone()
    }

    /// Marks those who have, or should have, everything up to `revision`: the open ones that
    /// `choose` says.
    pub fn mark(&self, revision: i64, choose: impl Fn(&[Watch]) -> Option<Vec<usize>>) -> bool {
        let mut all = self.shared.lock().unwrap();
        let chosen = choose(&all);
        for at in chosen.iter().flatten() {
            all[*at].end = WatchEnd::Drained(revision);
        }
        chosen.is_some()
    }

    /// Looks at it all.
    pub fn with<T>(&self, look: impl FnOnce(&[Watch]) -> T) -> T {
        look(&self.shared.lock().unwrap())
    }
}

/// What a watcher's task needs.
#[derive(Clone)]
pub struct Seat {
    /// Clock and addresses.
    pub wire: Wire,
    /// Where to record.
    pub told: Told,
    /// Everything up to this revision has been told.
    pub newest: Arc<watch::Sender<i64>>,
    /// Becomes true when the load ends: no more new watchers.
    pub stopped: watch::Receiver<bool>,
    /// Becomes true when the record is complete.
    pub over: watch::Receiver<bool>,
    /// What the servers behave like.
    pub flavour: Flavour,
}

/// What one stream with one watcher on it is to do.
struct Stream<'a> {
    seat: &'a Seat,
    client: u32,
    member: usize,
    request: WatchCreateRequest,
    /// Ask for progress now and then.
    progress: bool,
    /// Announce what came. Only for those who leave nothing out, since compactions rely on it.
    announce: bool,
    /// Close it after this.
    life: Option<Duration>,
}

enum Ended {
    Lost,
    Compacted(i64),
    Over,
}

/// Watches everything at one member until the run is over, whatever happens to the streams.
pub async fn scribe(seat: Seat, member: usize) {
    let mut next = 1;
    loop {
        let stream = Stream {
            seat: &seat,
            client: SCRIBES + member as u32,
            member,
            request: on_all(next),
            progress: false,
            announce: true,
            life: None,
        };
        let (ended, seen) = stream.run().await;
        next = next.max(seen + 1);
        match ended {
            Ended::Over => return,
            Ended::Compacted(revision) => next = next.max(revision),
            Ended::Lost => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Random watchers, one after the other, until the run is over.
pub async fn wanderer(seat: Seat, number: u32, mut random: Random) {
    let mut resume: Option<WatchCreateRequest> = None;
    while !*seat.stopped.borrow() {
        let member = random.below(seat.wire.members() as u64) as usize;
        let mut request = resume.take().unwrap_or_else(|| draw(&seat, &mut random));
        // Where a member lags, any start may lie ahead; 3.5 then reports progress before it.
        request.progress_notify &= request.start_revision == 0 || seat.flavour == Flavour::Current;
        let life = Duration::from_millis(500 + random.below(5000));
        let progress = random.one_in(2) && seat.flavour == Flavour::Current;
        let stream = Stream {
            seat: &seat,
            client: number,
            member,
            request: request.clone(),
            progress,
            announce: false,
            life: Some(life),
        };
        let (ended, seen) = stream.run().await;
        match ended {
            Ended::Over => return,
            // Half of them go on where they were, mostly at another member.
            Ended::Lost if seen > 0 && random.one_in(2) => {
                resume = Some(WatchCreateRequest { start_revision: seen + 1, ..request });
            }
            Ended::Lost => tokio::time::sleep(PAUSE).await,
            Ended::Compacted(_) => {}
        }
    }
}

fn draw(seat: &Seat, random: &mut Random) -> WatchCreateRequest {
    let key = format!("k/{:02}", random.below(12));
    let mut request = match random.below(4) {
        0 => on(key),
        1 => on_range("k/", key + "0"),
        2 => on_all(0),
        _ => on_range("k/", "k0"),
    };
    let newest = *seat.newest.borrow();
    match random.below(4) {
        // Progress before a future start is a fault of 3.5 that 3.6.2 fixed.
        0 if seat.flavour == Flavour::Current => {
            request.start_revision = newest + random.below(50) as i64;
        }
        1 => request.start_revision = (newest - random.below(200) as i64).max(1),
        _ => {}
    }
    request.prev_kv = random.one_in(2);
    request.fragment = random.one_in(2);
    request.progress_notify = random.one_in(2);
    if random.one_in(4) {
        request.filters = vec![random.below(2) as i32];
    }
    request
}

impl Stream<'_> {
    /// Records until the stream ends, with the newest revision that came whole.
    async fn run(self) -> (Ended, i64) {
        let record = Watch {
            client: self.client,
            member: self.member,
            called: self.seat.wire.now(),
            request: self.request.clone(),
            responses: Vec::new(),
            end: WatchEnd::Closed(OPEN.into()),
        };
        let at = self.seat.told.begin(record);
        let mut seen = 0;
        let mut over = self.seat.over.clone();
        let ended = tokio::select! {
            ended = self.listen(at, &mut seen) => match ended {
                Ok(ended) => {
                    self.seat.told.end(at, WatchEnd::Closed("canceled by a compaction".into()));
                    ended
                }
                Err(status) => {
                    self.seat.told.end(at, WatchEnd::Closed(status.to_string()));
                    Ended::Lost
                }
            },
            () = self.expire() => {
                self.seat.told.end(at, WatchEnd::Closed("by the client".into()));
                Ended::Lost
            }
            _ = over.wait_for(|over| *over) => Ended::Over,
        };
        (ended, seen)
    }

    /// Those that live when the load ends stay to the end of the run.
    async fn expire(&self) {
        let Some(life) = self.life else { return std::future::pending().await };
        tokio::time::sleep(life).await;
        if *self.seat.stopped.borrow() {
            std::future::pending::<()>().await;
        }
    }

    async fn listen(&self, at: usize, seen: &mut i64) -> Result<Ended, Status> {
        let closed = || Status::cancelled("the stream ended");
        let (requests, mut queue) = mpsc::unbounded_channel();
        let outgoing = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
        let send = |union| {
            let request = pb::WatchRequest { request_union: Some(union) };
            requests.send(request).map_err(|_| closed())
        };
        send(RequestUnion::CreateRequest(self.request.clone()))?;
        let channel = self.seat.wire.connect(self.member);
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut answers = client.watch(outgoing).await?.into_inner();
        let mut every = tokio::time::interval(PAUSE);
        loop {
            let message = tokio::select! {
                message = answers.message() => message?,
                _ = every.tick(), if self.progress => {
                    send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))?;
                    continue;
                }
            };
            if let Some(ended) = self.take(at, message.ok_or_else(closed)?, seen)? {
                return Ok(ended);
            }
        }
    }

    fn take(
        &self,
        at: usize,
        response: pb::WatchResponse,
        seen: &mut i64,
    ) -> Result<Option<Ended>, Status> {
        let last = response.events.last().and_then(|event| event.kv.as_ref());
        // A fragment may hold a part of a revision only; it is not done with.
        if let Some(kv) = last.filter(|_| !response.fragment) {
            *seen = kv.mod_revision;
        }
        let (canceled, compacted) = (response.canceled, response.compact_revision);
        let reason = response.cancel_reason.clone();
        self.seat.told.add(at, Received { at: self.seat.wire.now(), response });
        if self.announce {
            self.seat.newest.send_if_modified(|newest| {
                let newer = *seen > *newest;
                *newest = (*seen).max(*newest);
                newer
            });
        }
        match (canceled, compacted) {
            (false, _) => Ok(None),
            (true, 0) => Err(Status::cancelled(reason)),
            (true, revision) => Ok(Some(Ended::Compacted(revision))),
        }
    }
}
