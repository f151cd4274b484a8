//! The network between the members: every directed path has its own delay, loss and cuts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etcdrs_raft_glue::{Chunks, Inbound, Lane, SnapshotUnsent, Transport, Unsent};
use etcdrs_tests::random::Random;
use etcdrs_types::MemberId;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::trace::Trace;

/// The longest time until a sender hears that its path is cut.
const NOTICED_MS: u64 = 1500;
/// What a message takes at least and, with luck, at most.
const DELAY_US: (u64, u64) = (100, 2000);

/// From whom to whom.
pub(crate) type Path = (MemberId, MemberId);

/// How a path is now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Nothing arrives.
    pub(crate) cut: bool,
    /// One message of so many is lost; 0 for none.
    pub(crate) lost_of: u64,
    /// Up to this much is added to what a message takes.
    pub(crate) delay_ms: u64,
}

#[derive(Clone)]
pub(crate) struct Network(Arc<Shared>);

struct Shared {
    trace: Trace,
    state: Mutex<State>,
}

struct State {
    random: Random,
    /// Who runs, with the number of its life.
    running: BTreeMap<MemberId, (u64, Inbound)>,
    weather: BTreeMap<Path, Weather>,
    /// Paths whose senders know that nothing gets through.
    noticed: BTreeMap<Path, bool>,
    lanes: BTreeMap<(Path, bool), mpsc::UnboundedSender<Sent>>,
}

struct Sent {
    due: Instant,
    /// The life of the member it was sent to.
    life: u64,
    message: Bytes,
}

impl Network {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let state = State {
            random: Random::new(seed ^ 0x6e65_7477),
            running: BTreeMap::new(),
            weather: BTreeMap::new(),
            noticed: BTreeMap::new(),
            lanes: BTreeMap::new(),
        };
        Self(Arc::new(Shared { trace, state: Mutex::new(state) }))
    }

    /// What `member` sends with.
    pub(crate) fn transport(&self, member: MemberId) -> Arc<dyn Transport> {
        Arc::new(Wire { from: member, network: self.clone() })
    }

    /// A member runs from now on.
    pub(crate) fn plug(&self, member: MemberId, life: u64, inbound: Inbound) {
        self.0.state.lock().unwrap().running.insert(member, (life, inbound));
        self.tell();
    }

    /// A member is gone; what is on its way to it is lost.
    pub(crate) fn unplug(&self, member: MemberId) {
        self.0.state.lock().unwrap().running.remove(&member);
        self.tell();
    }

    /// Changes how a path is. A cut is noticed by the sender after a while, its end at once.
    pub(crate) fn set(&self, path: Path, weather: Weather) {
        let after = {
            let mut state = self.0.state.lock().unwrap();
            state.weather.insert(path, weather);
            Duration::from_millis(state.random.below(NOTICED_MS))
        };
        if !weather.cut {
            self.0.state.lock().unwrap().noticed.insert(path, false);
            return self.tell();
        }
        let network = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut state = network.0.state.lock().unwrap();
            let cut = state.weather.get(&path).is_some_and(|weather| weather.cut);
            state.noticed.insert(path, cut);
            drop(state);
            network.tell();
        });
    }

    /// Makes every path good.
    pub(crate) fn heal(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.weather.clear();
        state.noticed.clear();
        drop(state);
        self.tell();
    }

    /// Tells everybody whom they can send to now.
    fn tell(&self) {
        let (running, noticed) = {
            let state = self.0.state.lock().unwrap();
            (state.running.clone(), state.noticed.clone())
        };
        for (from, (_, inbound)) in &running {
            for to in (1..=MEMBERS_MAX).map(MemberId).filter(|to| to != from) {
                let blocked = noticed.get(&(*from, to)).copied().unwrap_or(false);
                inbound.link_changed(to, running.contains_key(&to) && !blocked);
            }
        }
    }

    fn send(&self, path: Path, lane: Lane, message: Bytes) -> Result<(), Unsent> {
        let mut state = self.0.state.lock().unwrap();
        let state = &mut *state;
        let life = state.running.get(&path.1).map(|(life, _)| *life);
        let known = state.noticed.get(&path).copied().unwrap_or(false);
        let life = life.filter(|_| !known).ok_or(Unsent::NoLink)?;
        let weather = state.weather.get(&path).copied().unwrap_or_default();
        let mut takes =
            Duration::from_micros(DELAY_US.0 + state.random.below(DELAY_US.1 - DELAY_US.0));
        if weather.delay_ms > 0 {
            takes += Duration::from_millis(state.random.below(weather.delay_ms));
        }
        let lost = weather.cut || weather.lost_of > 0 && state.random.one_in(weather.lost_of);
        let bytes = message.len();
        self.0.trace.note(format_args!(
            "{} -> {}: {lane:?} {bytes} {}",
            path.0,
            path.1,
            if lost { "lost" } else { "" }
        ));
        if !lost {
            let sent = Sent { due: Instant::now() + takes, life, message };
            let lanes = state.lanes.entry((path, lane == Lane::Append));
            let lane = lanes.or_insert_with(|| {
                let (queue, waiting) = mpsc::unbounded_channel();
                tokio::spawn(self.clone().deliver(path, waiting));
                queue
            });
            lane.send(sent).expect("its task runs as long as the network");
        }
        Ok(())
    }

    /// Delivers what is sent on one lane, in order.
    async fn deliver(self, path: Path, mut waiting: mpsc::UnboundedReceiver<Sent>) {
        while let Some(Sent { due, life, message }) = waiting.recv().await {
            tokio::time::sleep_until(due).await;
            let to = {
                let state = self.0.state.lock().unwrap();
                let cut = state.weather.get(&path).is_some_and(|weather| weather.cut);
                let to = state.running.get(&path.1).filter(|(now, _)| *now == life && !cut);
                to.map(|(_, inbound)| inbound.clone())
            };
            if let Some(inbound) = to {
                inbound.receive(path.0, &mut vec![message]);
            }
        }
    }

    fn open(&self, path: Path) -> Option<Inbound> {
        let state = self.0.state.lock().unwrap();
        let cut = state.weather.get(&path).is_some_and(|weather| weather.cut);
        state.running.get(&path.1).filter(|_| !cut).map(|(_, inbound)| inbound.clone())
    }
}

/// Ids that members may have.
pub(crate) const MEMBERS_MAX: u64 = 30;

struct Wire {
    from: MemberId,
    network: Network,
}

impl Transport for Wire {
    fn send(&self, to: MemberId, lane: Lane, message: Bytes) -> Result<(), Unsent> {
        self.network.send((self.from, to), lane, message)
    }

    fn send_snapshot(
        &self,
        to: MemberId,
        head: Bytes,
        chunks: Chunks,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, SnapshotUnsent>> + Send>> {
        let (path, network) = ((self.from, to), self.network.clone());
        Box::pin(async move {
            let inbound = network.open(path).ok_or(SnapshotUnsent("no path".into()))?;
            network.0.trace.note(format_args!("{} -> {}: snapshot", path.0, path.1));
            let on_the_way = network.clone();
            let chunks = chunks.then(move |chunk| {
                let network = on_the_way.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    if network.open(path).is_none() {
                        return Err(std::io::Error::other("the path is cut"));
                    }
                    chunk
                }
            });
            let answer = inbound.receive_snapshot(path.0, head, chunks.boxed()).await;
            if network.open((path.1, path.0)).is_none() {
                return Err(SnapshotUnsent("the answer is lost".into()));
            }
            answer.map_err(|error| SnapshotUnsent(error.to_string()))
        })
    }
}
