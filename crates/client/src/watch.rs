//! Watches that survive broken connections.

mod actor;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use etcdrs_types::KeyRange;
use tokio::sync::{mpsc, oneshot};

use crate::channel::{Client, Shared};
use crate::error::Error;
use crate::kv::wire_range;
use crate::pb;
use crate::pb::watch_create_request::FilterType;
use crate::watch::actor::{Command, Subscription};

/// Answers that wait for the reader of one watcher. When more come, the watcher is given up on
/// the server and taken up again where the reader is, so a slow reader costs bounded memory here
/// and never holds up its neighbours on the stream.
const QUEUE_MAX: usize = 1024;

/// What to watch and how.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct WatchOptions(pb::WatchCreateRequest);

impl WatchOptions {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self::range(&KeyRange::single(key))
    }

    /// Every key that begins with `prefix`; all keys if it is empty.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self::range(&KeyRange::prefix(prefix.as_ref()))
    }

    /// A range of keys.
    pub fn range(range: &KeyRange) -> Self {
        let (key, range_end) = wire_range(range);
        // Joining fragments costs nothing when there are none, and without them an answer beyond
        // a limit on the way would end the watch.
        Self(pb::WatchCreateRequest { key, range_end, fragment: true, ..Default::default() })
    }

    /// From this revision on, history first; 0 for what is yet to come.
    pub fn start_revision(mut self, revision: i64) -> Self {
        self.0.start_revision = revision;
        self
    }

    /// With the key's state before each event.
    pub fn prev_kv(mut self) -> Self {
        self.0.prev_kv = true;
        self
    }

    /// With empty answers now and then that tell the revision up to which nothing was missed.
    pub fn progress_notify(mut self) -> Self {
        self.0.progress_notify = true;
        self
    }

    /// Deletes only.
    pub fn without_puts(mut self) -> Self {
        self.0.filters.push(FilterType::Noput.into());
        self
    }

    /// Puts only.
    pub fn without_deletes(mut self) -> Self {
        self.0.filters.push(FilterType::Nodelete.into());
        self
    }
}

impl From<pb::WatchCreateRequest> for WatchOptions {
    /// The watch id is chosen by the server whatever the request says.
    fn from(request: pb::WatchCreateRequest) -> Self {
        Self(pb::WatchCreateRequest { watch_id: 0, ..request })
    }
}

/// The way from an actor to its client that does not keep the client alive.
#[derive(Clone)]
pub(crate) struct Opener(Weak<Shared>);

impl Opener {
    pub(crate) fn new(shared: Weak<Shared>) -> Self {
        Self(shared)
    }

    /// The connections, while any client still holds them.
    pub(crate) fn shared(&self) -> Option<Arc<Shared>> {
        self.0.upgrade()
    }
}

/// One stream with any number of watchers on it. Cloning is cheap; the connection opens with the
/// first watcher and closes with the last.
#[derive(Clone)]
pub struct WatchStream(Arc<Handle>);

struct Handle {
    opener: Opener,
    commands: OnceLock<mpsc::UnboundedSender<Command>>,
    next_id: AtomicU64,
    /// Of an independent stream: the client whose connections it uses, kept alive.
    _client: Option<Client>,
}

impl std::fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").finish_non_exhaustive()
    }
}

impl WatchStream {
    pub(crate) fn new(opener: Opener) -> Self {
        Self::with_client(opener, None)
    }

    fn with_client(opener: Opener, client: Option<Client>) -> Self {
        let commands = OnceLock::new();
        Self(Arc::new(Handle { opener, commands, next_id: AtomicU64::new(0), _client: client }))
    }

    /// The way to the stream's actor, which starts with the first use.
    fn commands(&self) -> &mpsc::UnboundedSender<Command> {
        self.0.commands.get_or_init(|| {
            let (commands, inbox) = mpsc::unbounded_channel();
            tokio::spawn(actor::run(self.0.opener.clone(), inbox));
            commands
        })
    }

    /// Starts a watcher and waits until the server has registered it.
    ///
    /// # Errors
    /// The server's refusal: an empty range, no permission. No server at all is waited for.
    pub async fn watch(&self, options: WatchOptions) -> Result<Watcher, Error> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let (out, answers) = mpsc::channel(QUEUE_MAX);
        let (created, was_created) = oneshot::channel();
        let stalled = Arc::new(AtomicBool::new(false));
        let end = Arc::new(OnceLock::new());
        let subscription =
            Subscription::new(options.0, out, created, Arc::clone(&stalled), Arc::clone(&end));
        let stream = self.clone();
        // The watcher exists before the wait, so that a caller who stops waiting cancels it.
        let watcher = Watcher { id, answers, stream, stalled, end, client: None };
        let command = Command::Create(id, Box::new(subscription));
        self.commands().send(command).map_err(|_| Error::closed())?;
        was_created.await.map_err(|_| watcher.end_error())??;
        Ok(watcher)
    }

    /// Asks the server to tell all watchers of the stream how far they are. The answers come as
    /// updates without events.
    ///
    /// # Errors
    /// None but the end of the client.
    pub fn request_progress(&self) -> Result<(), Error> {
        self.commands().send(Command::Progress).map_err(|_| Error::closed())
    }
}

/// A running watch. Dropping it cancels it.
#[derive(Debug)]
pub struct Watcher {
    id: u64,
    answers: mpsc::Receiver<pb::WatchResponse>,
    stream: WatchStream,
    stalled: Arc<AtomicBool>,
    end: Arc<OnceLock<Error>>,
    /// Keeps the connections of a shared stream; others keep them themselves.
    client: Option<Client>,
}

impl Watcher {
    /// The next answer: events, or none and the revision up to which nothing was missed. Events
    /// come in order, each once, whole revisions at a time. (Only the revision at which a watch
    /// without a start revision was made may show up once more after a broken connection.)
    /// `None` after the client is gone.
    ///
    /// # Errors
    /// Why the watch ended for good. After `Compacted`, see [`Error::compact_revision`], list the
    /// keys anew and watch from there. Every later call repeats the error.
    pub async fn next(&mut self) -> Result<Option<pb::WatchResponse>, Error> {
        if let Ok(answer) = self.answers.try_recv() {
            return Ok(Some(answer));
        }
        // Everything that was queued is consumed: a watcher that had been too slow goes on from
        // here. The flag falls in the actor.
        if self.stalled.load(Ordering::Acquire) {
            let _ = self.stream.commands().send(Command::Resume(self.id));
        }
        match self.answers.recv().await {
            Some(answer) => Ok(Some(answer)),
            None => self.end.get().map_or(Ok(None), |error| Err(error.clone())),
        }
    }

    /// Asks the server how far this watcher and all others of its stream are.
    ///
    /// # Errors
    /// None but the end of the client.
    pub fn request_progress(&self) -> Result<(), Error> {
        self.stream.request_progress()
    }

    fn end_error(&self) -> Error {
        self.end.get().cloned().unwrap_or_else(Error::closed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if self.end.get().is_none() {
            let _ = self.stream.commands().send(Command::Cancel(self.id));
        }
    }
}

impl Client {
    /// Starts a watcher on the stream that all clones of this client share.
    ///
    /// # Errors
    /// As [`WatchStream::watch`].
    pub async fn watch(&self, options: impl Into<WatchOptions>) -> Result<Watcher, Error> {
        let mut watcher = self.shared().watches().watch(options.into()).await?;
        watcher.client = Some(self.clone());
        Ok(watcher)
    }

    /// A stream for watchers of its own, apart from the shared one: for very many watchers, or
    /// ones that are not to wait behind others.
    #[must_use]
    pub fn watch_stream(&self) -> WatchStream {
        let opener = Opener::new(Arc::downgrade(self.shared()));
        WatchStream::with_client(opener, Some(self.clone()))
    }
}
