//! The network between the members, and between clients and members, with a path of its own for
//! each direction between each two: a proxy of ours in front of every port, or network namespaces
//! ([`namespaces`]), which can only cut, but cut packets.
//!
//! At the proxy, who dials is found by the process that owns the connection's other end, so that it works for
//! every server, and encrypted. A path is a direction of bytes, as it is for packets: a stream that
//! A opened to B and on which B sends uses the path from B to A.
//!
//! Invariant: while a path is cut no byte passes on it; [`Network::passed`] is there to show it.

pub mod namespaces;
mod owner;
mod pump;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::member::Public;
use namespaces::Namespaces;

/// Dialling a member that is down ends quickly by itself; this is for one that hangs.
const DIAL_LIMIT: Duration = Duration::from_secs(5);

/// What happens to bytes on a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// Nothing passes; what was sent waits, as it does for TCP when packets are dropped.
    pub cut: bool,
    /// Each piece is late by at least this.
    pub delay: Duration,
    /// And by up to this much more.
    pub jitter: Duration,
    /// Every other connection is late by this, so that the rest overtakes it.
    pub overtaken: Duration,
    /// Nothing, or the number of bytes of which one is changed on average.
    pub damaged_one_in: u64,
    /// Nothing, or what passes in a second at most.
    pub bytes_per_second: u64,
    /// Connections that used the path when this grew are reset.
    resets: u64,
}

/// One direction between two ends.
pub(crate) struct Link {
    path: watch::Sender<Path>,
    passed: AtomicU64,
}

/// All paths. Members have their numbers; clients are the end after the last member.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    ends: usize,
    links: Vec<Link>,
    members: Vec<Arc<Public>>,
    seed: u64,
    connections: AtomicU64,
    namespaces: Option<Namespaces>,
}

/// What carries the faults of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// All members on loopback, a proxy before every port.
    Proxy,
    /// A network namespace for each member.
    Namespaces,
}

impl Network {
    /// A network in which everything passes. `seed` fixes which bytes get damaged and the jitter.
    /// Without namespaces it is what [`Self::serve`] carries.
    pub fn new(members: Vec<Arc<Public>>, seed: u64, namespaces: Option<Namespaces>) -> Self {
        let ends = members.len() + 1;
        let link = || Link { path: watch::Sender::new(Path::default()), passed: AtomicU64::new(0) };
        let links = (0..ends * ends).map(|_| link()).collect();
        let connections = AtomicU64::new(0);
        let shared = Shared { ends, links, members, seed, connections, namespaces };
        Self { shared: Arc::new(shared) }
    }

    /// The number of the end at which all clients are.
    pub fn clients(&self) -> usize {
        self.shared.ends - 1
    }

    /// Changes the path from one end to another.
    pub fn change(&self, from: usize, to: usize, change: impl Fn(&mut Path)) {
        if from == to {
            return;
        }
        let link = self.shared.link(from, to);
        let was_cut = link.path.borrow().cut;
        link.path.send_modify(|path| change(path));
        let cut = link.path.borrow().cut;
        if let Some(namespaces) = &self.shared.namespaces
            && was_cut != cut
        {
            // A few milliseconds in which a worker waits; calls only seem longer by it.
            namespaces.cut(from, to, cut).unwrap();
        }
    }

    /// The namespaces, if members live in them.
    pub fn namespaces(&self) -> Option<&Namespaces> {
        self.shared.namespaces.as_ref()
    }

    /// Resets every connection between two ends.
    pub fn reset(&self, one: usize, other: usize) {
        self.change(one, other, |path| path.resets += 1);
        self.change(other, one, |path| path.resets += 1);
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        let ends = self.shared.ends;
        for (from, to) in (0..ends * ends).map(|at| (at / ends, at % ends)) {
            self.change(from, to, |path| {
                *path = Path { resets: path.resets, ..Path::default() };
            });
        }
    }

    /// Bytes that passed from one end to another.
    pub fn passed(&self, from: usize, to: usize) -> u64 {
        self.shared.link(from, to).passed.load(Ordering::SeqCst)
    }

    /// Serves `listener` for connections to a member's port: from other members, or from clients.
    /// Ends with the returned set.
    pub fn serve(&self, listener: TcpListener, member: usize, port: u16) -> JoinSet<()> {
        let network = self.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let network = network.clone();
                connections.spawn(async move {
                    // What goes wrong on a connection is for its two ends to notice.
                    let _ = network.carry(stream, member, port).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        serving
    }

    async fn carry(&self, dialler: TcpStream, member: usize, port: u16) -> Result<()> {
        let from = owner::of(&dialler, &self.shared.members).unwrap_or(self.clients());
        let shared = &self.shared;
        let (there, back) = (shared.link(from, member), shared.link(member, from));
        // To dial takes packets both ways.
        pump::open(there).await;
        pump::open(back).await;
        let dial = TcpStream::connect(("127.0.0.1", port));
        let Ok(Ok(listener)) = tokio::time::timeout(DIAL_LIMIT, dial).await else {
            pump::reset(&dialler);
            return Ok(());
        };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        pump::join(dialler, listener, there, back, shared.seed ^ (number << 20)).await
    }
}

impl Shared {
    fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.ends + to]
    }
}

#[cfg(test)]
mod tests;
