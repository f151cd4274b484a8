//! The task that keeps leases alive: one stream for all of them.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use crate::error::Error;
use crate::lease::KEEP_ALIVE;
use crate::pb;
use crate::watch::Opener;

/// Renewals that wait for a reader; more are dropped, the lease stays alive.
const QUEUE_MAX: usize = 16;
/// How long the first answer may take (CL-04).
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// Wait before a broken stream is opened again.
const REOPEN: Duration = Duration::from_millis(500);
/// A request is sent again if so long no answer came.
const RESEND: Duration = Duration::from_millis(500);

struct Keep {
    id: i64,
    out: mpsc::Sender<pb::LeaseKeepAliveResponse>,
}

/// The handle on the task, which starts with the first lease.
pub(crate) struct Keeper {
    opener: Opener,
    commands: OnceLock<mpsc::UnboundedSender<Keep>>,
}

impl Keeper {
    pub(crate) fn new(opener: Opener) -> Self {
        Self { opener, commands: OnceLock::new() }
    }

    pub(crate) fn keep(
        &self,
        id: i64,
    ) -> Result<mpsc::Receiver<pb::LeaseKeepAliveResponse>, Error> {
        let commands = self.commands.get_or_init(|| {
            let (commands, inbox) = mpsc::unbounded_channel();
            tokio::spawn(run(self.opener.clone(), inbox));
            commands
        });
        let (out, renewals) = mpsc::channel(QUEUE_MAX);
        commands.send(Keep { id, out }).map_err(|_| Error::closed())?;
        Ok(renewals)
    }
}

struct Lease {
    send_at: Instant,
    gone_at: Instant,
    readers: Vec<mpsc::Sender<pb::LeaseKeepAliveResponse>>,
}

type Answers = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

struct Actor {
    opener: Opener,
    leases: BTreeMap<i64, Lease>,
    connection: Option<(mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>, Answers)>,
    reopen_after: Duration,
}

async fn run(opener: Opener, mut inbox: mpsc::UnboundedReceiver<Keep>) {
    let mut actor =
        Actor { opener, leases: BTreeMap::new(), connection: None, reopen_after: Duration::ZERO };
    loop {
        let wake_at = actor.leases.values().map(|lease| lease.send_at.min(lease.gone_at)).min();
        let answer = async {
            match &mut actor.connection {
                Some((_, answers)) => answers.next().await,
                None => std::future::pending().await,
            }
        };
        let timer = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            keep = inbox.recv() => match keep {
                Some(keep) => actor.keep(keep),
                None => return,
            },
            answer = answer => match answer {
                Some(Ok(answer)) => actor.answer(&answer),
                Some(Err(_)) | None => {
                    actor.connection = None;
                    actor.reopen_after = REOPEN;
                    actor.send_due();
                }
            },
            () = timer => actor.send_due(),
        }
    }
}

impl Actor {
    fn keep(&mut self, keep: Keep) {
        let now = Instant::now();
        let lease = self.leases.entry(keep.id).or_insert_with(|| Lease {
            send_at: now,
            gone_at: now + FIRST_ANSWER,
            readers: Vec::new(),
        });
        lease.readers.push(keep.out);
        self.send_due();
    }

    /// Forgets leases without readers or past their end and sends for those that are due.
    fn send_due(&mut self) {
        let now = Instant::now();
        self.leases.retain(|_, lease| {
            lease.readers.retain(|reader| !reader.is_closed());
            !lease.readers.is_empty() && now < lease.gone_at
        });
        if self.leases.is_empty() {
            self.connection = None;
            return;
        }
        let fresh = self.connection.is_none();
        if fresh {
            self.connect();
        }
        for (&id, lease) in &mut self.leases {
            // On a fresh stream requests of the old one may have been lost.
            if lease.send_at <= now || fresh {
                lease.send_at = now + RESEND;
                if let Some((requests, _)) = &self.connection {
                    let _ = requests.send(pb::LeaseKeepAliveRequest { id });
                }
            }
        }
    }

    fn connect(&mut self) {
        let (requests, mut outbox) = mpsc::unbounded_channel();
        let opener = self.opener.clone();
        let wait = self.reopen_after;
        let open = async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let shared = opener.shared().ok_or_else(|| Status::cancelled("client is closed"))?;
            let outbox = stream::poll_fn(move |cx| outbox.poll_recv(cx));
            shared.duplex(KEEP_ALIVE, outbox, true).await
        };
        self.connection = Some((requests, stream::once(open).try_flatten().boxed()));
    }

    fn answer(&mut self, answer: &pb::LeaseKeepAliveResponse) {
        self.reopen_after = Duration::ZERO;
        let Some(lease) = self.leases.get_mut(&answer.id) else { return };
        let Ok(ttl) = u64::try_from(answer.ttl) else { return };
        if ttl == 0 {
            // Dropping the senders ends the readers' streams.
            self.leases.remove(&answer.id);
            return;
        }
        let (now, ttl) = (Instant::now(), Duration::from_secs(ttl));
        lease.send_at = now + ttl / 3;
        lease.gone_at = now + ttl;
        for reader in &lease.readers {
            // A reader that does not read misses the news, not the renewal.
            let _ = reader.try_send(*answer);
        }
    }
}
