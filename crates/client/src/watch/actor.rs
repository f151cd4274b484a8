//! The task behind a watch stream: it owns the connection and every watcher's position.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::error::{Error, NO_LEADER_TEXT};
use crate::mvccpb;
use crate::pb;
use crate::pb::watch_request::RequestUnion;
use crate::retry::{self, Rpc};
use crate::watch::Opener;

const WATCH: Rpc = Rpc::repeatable("/etcdserverpb.Watch/Watch");
/// First wait before a broken stream is opened again.
const REOPEN_MIN: Duration = Duration::from_millis(1);
/// Longest wait before a broken stream is opened again.
const REOPEN_MAX: Duration = Duration::from_millis(100);
/// The id that an answer for all watchers of a stream carries, and a refused creation.
const NO_ID: i64 = -1;

/// What handles ask of the actor. The queue is bounded by the number of watchers: each has at
/// most a creation, a resumption and a cancellation in it; progress requests answer themselves.
pub(super) enum Command {
    Create(u64, Box<Subscription>),
    Cancel(u64),
    Resume(u64),
    Progress,
}

/// One watcher as the actor sees it.
pub(super) struct Subscription {
    request: pb::WatchCreateRequest,
    /// Where to go on after a broken connection (CL-06). 0 until anything is known.
    next_revision: i64,
    out: mpsc::Sender<pb::WatchResponse>,
    created: Option<oneshot::Sender<Result<(), Error>>>,
    /// Events of an answer whose last fragment has not come yet.
    fragments: Vec<mvccpb::Event>,
    server_id: Option<i64>,
    /// Set while the reader is so far behind that the server-side watch has been given up.
    stalled: Arc<AtomicBool>,
    end: Arc<OnceLock<Error>>,
}

impl Subscription {
    pub(super) fn new(
        request: pb::WatchCreateRequest,
        out: mpsc::Sender<pb::WatchResponse>,
        created: oneshot::Sender<Result<(), Error>>,
        stalled: Arc<AtomicBool>,
        end: Arc<OnceLock<Error>>,
    ) -> Self {
        let next_revision = request.start_revision;
        Self {
            request,
            next_revision,
            out,
            created: Some(created),
            fragments: Vec::new(),
            server_id: None,
            stalled,
            end,
        }
    }

    fn fail(mut self, error: Error) {
        let _ = self.end.set(error.clone());
        if let Some(created) = self.created.take() {
            let _ = created.send(Err(error));
        }
    }

    fn create_request(&self) -> pb::WatchRequest {
        let start_revision = self.next_revision;
        let create = pb::WatchCreateRequest { start_revision, ..self.request.clone() };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    /// Moves the position over an answer that the reader is sure to see.
    fn advance(&mut self, answer: &pb::WatchResponse) {
        let last = answer.events.last().and_then(|event| event.kv.as_ref());
        let seen = match last {
            Some(kv) => kv.mod_revision,
            None => answer.header.as_ref().map_or(0, |header| header.revision),
        };
        if seen > 0 {
            self.next_revision = self.next_revision.max(seen + 1);
        }
    }
}

fn cancel_request(watch_id: i64) -> pb::WatchRequest {
    let cancel = pb::WatchCancelRequest { watch_id };
    pb::WatchRequest { request_union: Some(RequestUnion::CancelRequest(cancel)) }
}

type Answers = BoxStream<'static, Result<pb::WatchResponse, Status>>;

struct Actor {
    opener: Opener,
    watchers: BTreeMap<u64, Subscription>,
    /// Watchers whose creation was asked for and not answered yet, oldest first: answers to
    /// creations keep the order of the requests (WA-01).
    creating: VecDeque<u64>,
    by_server_id: HashMap<i64, u64>,
    connection: Option<(mpsc::UnboundedSender<pb::WatchRequest>, Answers)>,
    reopen_after: Duration,
}

/// Runs until the last handle and watcher are gone.
pub(super) async fn run(opener: Opener, mut inbox: mpsc::UnboundedReceiver<Command>) {
    let mut actor = Actor {
        opener,
        watchers: BTreeMap::new(),
        creating: VecDeque::new(),
        by_server_id: HashMap::new(),
        connection: None,
        reopen_after: Duration::ZERO,
    };
    loop {
        let answer = async {
            match &mut actor.connection {
                Some((_, answers)) => answers.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = inbox.recv() => match command {
                Some(command) => actor.command(command),
                None => return,
            },
            answer = answer => match answer {
                Some(Ok(answer)) => actor.answer(answer),
                Some(Err(status)) => actor.broken(Some(status)),
                None => actor.broken(None),
            },
        }
    }
}

impl Actor {
    fn command(&mut self, command: Command) {
        match command {
            Command::Create(id, subscription) => {
                self.watchers.insert(id, *subscription);
                self.start(id);
            }
            Command::Resume(id) => {
                let Some(watcher) = self.watchers.get(&id) else { return };
                if watcher.stalled.swap(false, Ordering::AcqRel) {
                    self.start(id);
                }
            }
            Command::Cancel(id) => {
                let Some(watcher) = self.watchers.remove(&id) else { return };
                if let Some(server_id) = watcher.server_id {
                    self.by_server_id.remove(&server_id);
                    self.send(cancel_request(server_id));
                }
                if self.watchers.is_empty() {
                    self.disconnect();
                }
            }
            Command::Progress => {
                let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                self.send(pb::WatchRequest { request_union: Some(progress) });
            }
        }
    }

    /// Asks the server for watcher `id`, opening the stream if there is none.
    fn start(&mut self, id: u64) {
        if self.connection.is_none() {
            self.connect();
            return;
        }
        if let Some(watcher) = self.watchers.get(&id) {
            let request = watcher.create_request();
            self.creating.push_back(id);
            self.send(request);
        }
    }

    fn send(&self, request: pb::WatchRequest) {
        // A closed stream shows up as its end; every watcher is asked for anew then.
        if let Some((requests, _)) = &self.connection {
            let _ = requests.send(request);
        }
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.creating.clear();
        self.by_server_id.clear();
    }

    /// Opens a stream and asks for every watcher that is not waiting for its reader.
    fn connect(&mut self) {
        self.disconnect();
        let (requests, mut outbox) = mpsc::unbounded_channel();
        let opener = self.opener.clone();
        let wait = self.reopen_after;
        let open = async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let shared = opener.shared().ok_or_else(|| Status::cancelled("client is closed"))?;
            let outbox = stream::poll_fn(move |cx| outbox.poll_recv(cx));
            shared.duplex(WATCH, outbox, false).await
        };
        let answers = stream::once(open).try_flatten().boxed();
        self.connection = Some((requests, answers));
        let waiting: Vec<u64> = self.watchers.keys().copied().collect();
        for id in waiting {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            watcher.server_id = None;
            watcher.fragments.clear();
            if !watcher.stalled.load(Ordering::Acquire) {
                let request = watcher.create_request();
                self.creating.push_back(id);
                self.send(request);
            }
        }
    }

    fn answer(&mut self, answer: pb::WatchResponse) {
        self.reopen_after = Duration::ZERO;
        if answer.created {
            self.created(answer);
        } else if answer.canceled {
            self.canceled(answer);
        } else if answer.watch_id == NO_ID {
            // Progress of the whole stream.
            let all: Vec<u64> = self.by_server_id.values().copied().collect();
            for id in all {
                self.deliver(id, answer.clone());
            }
        } else if let Some(&id) = self.by_server_id.get(&answer.watch_id) {
            self.update(id, answer);
        }
        // Anything else is for a watcher that has been cancelled: its last answers on the way.
    }

    fn created(&mut self, answer: pb::WatchResponse) {
        let Some(id) = self.creating.pop_front() else { return };
        let refused = answer.watch_id == NO_ID || answer.canceled;
        let Some(watcher) = self.watchers.get_mut(&id) else {
            // Its reader has left while it was being made.
            if !refused {
                self.send(cancel_request(answer.watch_id));
            }
            return;
        };
        if refused {
            if let Some(watcher) = self.watchers.remove(&id) {
                watcher.fail(Error::watch_canceled(answer));
            }
            return;
        }
        watcher.server_id = Some(answer.watch_id);
        if watcher.next_revision == 0 {
            // CL-06: not the revision after it, so that nothing is lost even if the server noted
            // its revision just before it registered the watcher.
            watcher.next_revision = answer.header.as_ref().map_or(0, |header| header.revision);
        }
        if let Some(created) = watcher.created.take() {
            let _ = created.send(Ok(()));
        }
        self.by_server_id.insert(answer.watch_id, id);
    }

    fn canceled(&mut self, answer: pb::WatchResponse) {
        let Some(id) = self.by_server_id.remove(&answer.watch_id) else { return };
        // CL-07: a watcher that a compaction ended keeps its id on the server until it is
        // cancelled by the client as well (WA-14).
        self.send(cancel_request(answer.watch_id));
        if let Some(watcher) = self.watchers.remove(&id) {
            watcher.fail(Error::watch_canceled(answer));
        }
        if self.watchers.is_empty() {
            self.disconnect();
        }
    }

    /// Events or progress of one watcher, joined from fragments (CL-13).
    fn update(&mut self, id: u64, mut answer: pb::WatchResponse) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if answer.fragment {
            watcher.fragments.append(&mut answer.events);
            return;
        }
        if !watcher.fragments.is_empty() {
            let mut events = std::mem::take(&mut watcher.fragments);
            events.append(&mut answer.events);
            answer.events = events;
        }
        self.deliver(id, answer);
    }

    fn deliver(&mut self, id: u64, answer: pb::WatchResponse) {
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let Ok(place) = watcher.out.try_reserve() else {
            if answer.events.is_empty() {
                return; // News of progress is worth nothing to a reader that is behind.
            }
            // The position stays where it is, so that this answer comes again.
            let server_id = watcher.server_id.take();
            watcher.stalled.store(true, Ordering::Release);
            if let Some(server_id) = server_id {
                self.by_server_id.remove(&server_id);
                self.send(cancel_request(server_id));
            }
            return;
        };
        place.send(answer.clone());
        watcher.advance(&answer);
    }

    /// The stream has ended. Only codes Unavailable and Internal mean "try elsewhere" (CL-12),
    /// and errors made on this side.
    fn broken(&mut self, status: Option<Status>) {
        let fatal = status.as_ref().is_some_and(|status| {
            let local = retry::broken_connection(status);
            let transient = matches!(status.code(), Code::Unavailable | Code::Internal);
            (!local && !transient) || status.message() == NO_LEADER_TEXT
        });
        match status {
            Some(status) if fatal => {
                self.disconnect();
                let error = Error::from(&status);
                for (_, watcher) in std::mem::take(&mut self.watchers) {
                    watcher.fail(error.clone());
                }
            }
            _ if self.watchers.is_empty() => self.disconnect(),
            _ => {
                self.reopen_after = match self.reopen_after {
                    Duration::ZERO => REOPEN_MIN,
                    wait => (wait * 5 / 4).min(REOPEN_MAX),
                };
                self.connect();
            }
        }
    }
}

#[cfg(test)]
mod tests;
