//! What is known about one other member, and the tasks that talk to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_platform::Tick;
use etcdrs_types::MemberId;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, RETRY_MAX, RETRY_MIN};
use crate::frame::PAYLOAD_BYTES_MAX;
use crate::handler::Handler;
use crate::headers::Identity;
use crate::lane::{Lane, Pushed, Queue, QueueLimits};
use crate::order::{Gate, Way};
use crate::transport::{PeerStatus, SendError};
use crate::url::{PeerUrl, Picker};
use crate::{post, probe, reader};

/// How often in a row a peer has to say that this member was removed before that counts.
const REMOVAL_CLAIMS: u32 = 3;

/// What all peers share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) runtime: Handle,
    /// Turns true when the transport stops.
    pub(crate) stop: watch::Sender<bool>,
}

impl Context {
    pub(crate) fn now(&self) -> Tick {
        self.config.clock.now()
    }

    /// Returns when the transport stops.
    pub(crate) async fn stopped(&self) {
        // The sender is in `self`, so waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Whether a member sends us its streams, or only gets our answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Member,
    /// Spoke to us without being a member we know (T17).
    Remote,
}

/// One other member.
pub(crate) struct Peer {
    pub(crate) context: Arc<Context>,
    pub(crate) id: MemberId,
    pub(crate) urls: Picker,
    kind: Kind,
    queues: [Queue; 2],
    /// Tells this sender from earlier ones with the same id.
    pub(crate) run: u64,
    gates: [Gate; 2],
    link: Mutex<Link>,
    tasks: Mutex<JoinSet<()>>,
}

/// Invariant: `up_since` is set while every lane has a stream or the last `POST` succeeded, and
/// the peer is not silent.
#[derive(Default)]
struct Link {
    up_since: Option<Tick>,
    /// The last `POST` succeeded, and no stream was lost since.
    post_works: bool,
    /// Of each lane: the peer's stream brought nothing for a whole read time-out.
    silent: [bool; 2],
    closed: bool,
    dropped: u64,
    /// What the handler had no room for was logged, and nothing was taken since.
    refusal_logged: bool,
    /// A full queue was logged and nothing was taken since.
    full_logged: bool,
    /// How often in a row the peer said that we were removed.
    removal_claims: u32,
    rtt: Option<Duration>,
    clock_drift_ms: Option<i64>,
}

impl Peer {
    /// A peer whose tasks do not run yet.
    pub(crate) fn new(context: Arc<Context>, id: MemberId, urls: Vec<PeerUrl>, kind: Kind) -> Self {
        Self {
            run: context.config.random.next_u64(),
            gates: Default::default(),
            context,
            id,
            urls: Picker::new(urls),
            kind,
            queues: [Queue::new(), Queue::new()],
            link: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// Starts what runs for a member all the time.
    pub(crate) fn start(self: &Arc<Self>) {
        for lane in Lane::ALL {
            self.spawn(reader::run(self.clone(), lane));
        }
        self.spawn(probe::run(self.clone()));
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        // Posters come and go: forget those that have ended.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.context.runtime);
    }

    pub(crate) fn queue(&self, lane: Lane) -> &Queue {
        &self.queues[lane.index()]
    }

    /// From this member to the peer.
    pub(crate) fn way_out(&self) -> Way {
        Way { from: self.context.config.member, to: self.id }
    }

    /// From the peer to this member.
    pub(crate) fn way_in(&self) -> Way {
        Way { from: self.id, to: self.context.config.member }
    }

    /// What comes from the peer on `lane` has to pass here.
    pub(crate) fn gate(&self, lane: Lane) -> &Gate {
        &self.gates[lane.index()]
    }

    pub(crate) fn send(self: &Arc<Self>, lane: Lane, message: Bytes) -> Result<(), SendError> {
        if message.len() > PAYLOAD_BYTES_MAX {
            self.count_dropped(1);
            return Err(SendError::Full);
        }
        let config = &self.context.config;
        let limits = QueueLimits { messages: config.queue_messages, bytes: config.queue_bytes };
        match self.queue(lane).push(message, limits, || self.context.now()) {
            Pushed::Queued => Ok(()),
            Pushed::NeedsPoster => {
                self.spawn(post::run(self.clone(), lane));
                Ok(())
            }
            Pushed::Closed => Err(SendError::Unknown),
            Pushed::Inactive => {
                self.count_dropped(1);
                Err(SendError::Inactive)
            }
            Pushed::Full => {
                self.count_dropped(1);
                self.log_full(lane);
                Err(SendError::Full)
            }
        }
    }

    fn log_full(&self, lane: Lane) {
        let active = {
            let mut link = self.link.lock();
            if std::mem::replace(&mut link.full_logged, true) {
                return;
            }
            link.up_since.is_some()
        };
        tracing::warn!(
            local_member_id = %self.context.config.member,
            remote_peer_id = %self.id,
            stream_type = lane.title(),
            remote_peer_active = active,
            "dropped internal Raft message since sending buffer is full"
        );
    }

    /// Messages were dropped or lost.
    pub(crate) fn count_dropped(&self, messages: usize) {
        if messages > 0 {
            self.link.lock().dropped += messages as u64;
            self.context.config.observer.send_failed(self.id, messages);
        }
    }

    /// Bytes went to a connection.
    pub(crate) fn sent(&self, bytes: usize) {
        self.link.lock().full_logged = false;
        self.context.config.observer.sent(self.id, bytes);
    }

    /// A stream begins. What an older one held is lost if that one was dead already, so its users
    /// hear that the link was down.
    pub(crate) fn stream_attached(&self, lane: Lane, replaced: bool) {
        tracing::info!(
            local_member_id = %self.context.config.member,
            remote_peer_id = %self.id,
            stream_writer_type = lane.title(),
            "established TCP streaming connection with remote peer"
        );
        if replaced && self.link.lock().up_since.take().is_some() {
            self.tell(false, "the peer opened its stream again");
        }
        self.refresh("");
    }

    pub(crate) fn stream_lost(self: &Arc<Self>, lane: Lane, needs_poster: bool) {
        {
            let mut link = self.link.lock();
            link.post_works = false;
            if link.closed {
                return;
            }
        }
        tracing::warn!(
            local_member_id = %self.context.config.member,
            remote_peer_id = %self.id,
            stream_writer_type = lane.title(),
            "lost TCP streaming connection with remote peer"
        );
        self.refresh("lost a stream");
        if needs_poster {
            self.spawn(post::run(self.clone(), lane));
        }
    }

    pub(crate) fn posts_work(&self, works: bool, error: &str) {
        self.link.lock().post_works = works;
        self.refresh(error);
    }

    /// Notes whether the peer is silent: it takes our connections, and yet nothing comes from it.
    /// A process that hangs is like that, and a network that carries only one direction (T04).
    pub(crate) fn heard(&self, lane: Lane, silent: bool) {
        let before = std::mem::replace(&mut self.link.lock().silent[lane.index()], silent);
        if before != silent {
            self.refresh("nothing was read in time");
        }
    }

    /// Notes what the handler left of a delivery, for which it had no room (T24).
    pub(crate) fn delivered(&self, left: usize) {
        let (news, active) = {
            let mut link = self.link.lock();
            let logged = std::mem::replace(&mut link.refusal_logged, left > 0);
            (left > 0 && !logged, link.up_since.is_some())
        };
        for _ in 0..left {
            self.context.config.observer.receive_failed(self.id);
        }
        if !news {
            return;
        }
        let (local, remote) = (self.context.config.member, self.id);
        if active {
            tracing::warn!(
                local_member_id = %local,
                remote_peer_id = %remote,
                "dropped internal Raft message since receiving buffer is full (overloaded network)"
            );
        } else {
            tracing::warn!(
                local_member_id = %local,
                remote_peer_id = %remote,
                "dropped Raft message since receiving buffer is full (overloaded network)"
            );
        }
    }

    /// Tells the world when the link has come up or gone down.
    fn refresh(&self, error: &str) {
        let streaming = Lane::ALL.map(|lane| self.queue(lane).is_streaming());
        let up = {
            let mut link = self.link.lock();
            let ways = link.post_works || streaming == [true; 2];
            let up = ways && !link.closed && link.silent == [false; 2];
            if up == link.up_since.is_some() {
                return;
            }
            link.up_since = up.then(|| self.context.now());
            up
        };
        self.tell(up, error);
    }

    fn tell(&self, up: bool, error: &str) {
        if up {
            tracing::info!(peer_id = %self.id, "peer became active");
        } else {
            tracing::warn!(
                peer_id = %self.id,
                error,
                "peer became inactive (message send to peer failed)"
            );
        }
        self.context.config.observer.active(self.id, up);
        self.context.handler.link_changed(self.id, up);
    }

    /// The peer said that we were removed from the cluster. It counts when it was said several
    /// times in a row, on connections of their own: a request whose sender was damaged on the way
    /// may name a member that was removed.
    pub(crate) fn removed_by_peer(&self) {
        let told = {
            let mut link = self.link.lock();
            link.removal_claims = link.removal_claims.saturating_add(1);
            link.removal_claims == REMOVAL_CLAIMS
        };
        if told {
            tracing::warn!(
                local_member_id = %self.context.config.member,
                remote_peer_id = %self.id,
                "the member has been permanently removed from the cluster"
            );
            self.context.handler.removed_by_peer(self.id);
        }
    }

    /// The peer took something from us: what it may have said before was no removal.
    pub(crate) fn removal_denied(&self) {
        let mut link = self.link.lock();
        if link.removal_claims < REMOVAL_CLAIMS {
            link.removal_claims = 0;
        }
    }

    /// How long to wait after this many failures in a row.
    pub(crate) fn pause(failures: u32) -> Duration {
        (RETRY_MIN * 2u32.saturating_pow(failures.saturating_sub(1).min(8))).min(RETRY_MAX)
    }

    pub(crate) fn measured(&self, rtt: Duration, clock_drift_ms: Option<i64>) {
        let mut link = self.link.lock();
        link.rtt = Some(rtt);
        link.clock_drift_ms = clock_drift_ms;
    }

    pub(crate) fn active_since(&self) -> Option<Tick> {
        self.link.lock().up_since
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let waiting = Lane::ALL.map(|lane| self.queue(lane).waiting());
        let link = self.link.lock();
        PeerStatus {
            id: self.id,
            urls: self.urls.all(),
            is_remote: self.kind == Kind::Remote,
            active_since: link.up_since,
            rtt: link.rtt,
            clock_drift_ms: link.clock_drift_ms,
            queued_messages: waiting.iter().map(|(messages, _)| messages).sum(),
            queued_bytes: waiting.iter().map(|(_, bytes)| bytes).sum(),
            dropped: link.dropped,
        }
    }

    /// Ends everything; the tasks are over when the result's `shutdown` is.
    pub(crate) fn close(&self) -> JoinSet<()> {
        self.link.lock().closed = true;
        for lane in Lane::ALL {
            self.queue(lane).close();
        }
        self.refresh("removed");
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.abort_all();
        tasks
    }
}
