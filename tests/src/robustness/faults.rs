//! What goes wrong in a run: drawn from a seed, done to the cluster, and healed again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};

use super::cluster::Cluster;
use super::net::Layer;
use crate::random::Random;
use crate::target::Flavour;

/// A kind of fault, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// kill -9 of one member, now and then of all at once.
    Kill,
    /// SIGTERM and start of one member.
    Restart,
    /// SIGSTOP for a while.
    Pause,
    /// One member, or several, without a path to the others.
    Partition,
    /// A path is cut in one direction.
    OneWay,
    /// Paths are late, and not evenly.
    Delay,
    /// Paths are slow.
    Slow,
    /// Bytes between members are changed.
    Damage,
    /// Connections between members are reset.
    Reset,
    /// Clients cannot reach a member, or their connections are reset.
    Clients,
    /// The lead is moved on request.
    Transfer,
}

/// All of them.
pub const ALL: [Kind; 11] = [
    Kind::Kill,
    Kind::Restart,
    Kind::Pause,
    Kind::Partition,
    Kind::OneWay,
    Kind::Delay,
    Kind::Slow,
    Kind::Damage,
    Kind::Reset,
    Kind::Clients,
    Kind::Transfer,
];

impl Kind {
    /// False for what a cluster of this size or flavour has no promise for, or what the layer
    /// cannot do.
    pub fn applies(self, members: usize, flavour: Flavour, layer: Layer) -> bool {
        match self {
            Self::Kill | Self::Restart | Self::Pause | Self::Clients => true,
            Self::Partition | Self::OneWay | Self::Transfer => members > 1,
            Self::Delay | Self::Slow | Self::Reset => members > 1 && layer == Layer::Proxy,
            // etcd's streams have no checksum: without TLS a changed byte may be a changed entry.
            Self::Damage => members > 1 && layer == Layer::Proxy && flavour == Flavour::Current,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_ascii_lowercase())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match ALL.into_iter().find(|kind| kind.to_string() == text) {
            Some(kind) => Ok(kind),
            None => {
                bail!("unknown fault {text}; there are {}", ALL.map(|k| k.to_string()).join(","))
            }
        }
    }
}

/// A fault with its place and time. The same seed draws the same ones; who leads at that moment is
/// the cluster's doing.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    kind: Kind,
    /// Aim at the leader, whoever that is.
    at_leader: bool,
    /// Otherwise at this member.
    member: usize,
    /// And with this one where it takes two.
    other: usize,
    /// Before it, nothing happens for this long.
    calm: Duration,
    /// How long it lasts.
    length: Duration,
    /// What the kind makes of it.
    variant: u64,
    /// The next one comes before this one is healed.
    stays: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = if self.at_leader { "leader".into() } else { format!("member {}", self.member) };
        let (kind, other, length) = (self.kind, self.other, self.length.as_millis());
        let stays = if self.stays { ", not healed before the next" } else { "" };
        let variant = self.variant;
        write!(f, "{kind} {whom} other {other} for {length} ms variant {variant}{stays}")
    }
}

impl Fault {
    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The faults of a seed.
pub struct Faults {
    random: Random,
    kinds: Vec<Kind>,
    members: usize,
}

impl Faults {
    /// Draws among `kinds`.
    pub fn new(seed: u64, kinds: &[Kind], members: usize) -> Self {
        Self { random: Random::new(seed ^ 0xfa17), kinds: kinds.to_vec(), members }
    }

    /// The next one; none if there are no kinds.
    pub fn draw(&mut self) -> Option<Fault> {
        let random = &mut self.random;
        if self.kinds.is_empty() {
            return None;
        }
        let members = self.members as u64;
        let member = random.below(members) as usize;
        let step = 1 + random.below(members.max(2) - 1) as usize;
        Some(Fault {
            kind: random.pick(&self.kinds),
            at_leader: random.one_in(2),
            member,
            other: (member + step) % self.members,
            calm: Duration::from_millis(100 + random.below(900)),
            length: Duration::from_millis(match random.below(6) {
                0 => 2000 + random.below(4000),
                1 | 2 => random.below(200),
                _ => 200 + random.below(1500),
            }),
            variant: random.below(8),
            stays: random.one_in(4),
        })
    }
}

/// Waits its calm, does the fault, holds it and heals.
pub async fn commit(cluster: &mut Cluster, mut fault: Fault) -> Result<String> {
    tokio::time::sleep(fault.calm).await;
    if fault.at_leader
        && let Some(leader) = cluster.leader().await
    {
        if leader == fault.other {
            fault.other = fault.member;
        }
        fault.member = leader;
    }
    let mut done = format!("{fault}, member {}", fault.member);
    match fault.kind {
        Kind::Kill => kill(cluster, fault).await?,
        Kind::Restart => {
            if !cluster.members[fault.member].terminate().await? {
                done += ", killed because it did not end";
            }
            cluster.start_missing()?;
        }
        Kind::Pause => pause(cluster, fault).await?,
        Kind::Transfer => {
            // Refused while an election runs, which is as good.
            let _ = cluster.move_leader(fault.other).await;
        }
        Kind::Reset => {
            cluster.network.reset(fault.member, fault.other);
        }
        Kind::Clients => clients(cluster, fault).await,
        Kind::Partition | Kind::OneWay | Kind::Delay | Kind::Slow | Kind::Damage => {
            paths(cluster, fault);
            hold(fault).await;
        }
    }
    if !fault.stays {
        cluster.heal().await?;
    }
    Ok(done)
}

async fn hold(fault: Fault) {
    tokio::time::sleep(fault.length).await;
}

async fn kill(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    if fault.variant == 0 {
        cluster.members.iter_mut().for_each(super::member::Member::kill);
    } else {
        cluster.members[fault.member].kill();
    }
    if fault.variant.is_multiple_of(2) {
        hold(fault).await;
    }
    cluster.start_missing()?;
    if fault.variant >= 6 {
        // Again, in the middle of its start.
        tokio::time::sleep(fault.length / 20).await;
        cluster.members[fault.member].kill();
        cluster.start_missing()?;
    }
    Ok(())
}

async fn pause(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    for (at, member) in cluster.members.iter_mut().enumerate() {
        if at == fault.member || fault.variant == 0 {
            member.pause()?;
        }
    }
    hold(fault).await;
    for member in &mut cluster.members {
        member.resume()?;
    }
    Ok(())
}

async fn clients(cluster: &Cluster, fault: Fault) {
    let (network, outside) = (&cluster.network, cluster.network.clients());
    match fault.variant % 4 {
        0 => network.reset(outside, fault.member),
        1 => network.change(outside, fault.member, |path| path.cut = true),
        2 => network.change(fault.member, outside, |path| path.cut = true),
        _ => network.change(fault.member, outside, |path| path.bytes_per_second = 20_000),
    }
    if !fault.variant.is_multiple_of(4) {
        hold(fault).await;
        if fault.variant >= 4 {
            network.reset(outside, fault.member);
        }
    }
}

/// The paths a fault touches: all of one member both ways, or one direction.
fn paths(cluster: &Cluster, fault: Fault) {
    let members = cluster.members.len();
    let network = &cluster.network;
    let mut touched = Vec::new();
    for other in (0..members).filter(|other| *other != fault.member) {
        match (fault.kind, fault.variant % 4) {
            (Kind::OneWay, 0) => touched.push((fault.member, other)),
            (Kind::OneWay, 1) => touched.push((other, fault.member)),
            (Kind::OneWay, _) if other != fault.other => {}
            (Kind::OneWay, 2) => touched.push((fault.member, other)),
            (Kind::OneWay, _) => touched.push((other, fault.member)),
            // A bridge: two members lose each other, and both still see the third.
            (Kind::Partition, 0) if other != fault.other => {}
            _ => touched.extend([(fault.member, other), (other, fault.member)]),
        }
    }
    if fault.kind == Kind::Partition && fault.variant == 1 {
        touched.extend((0..members * members).map(|at| (at / members, at % members)));
    }
    for (from, to) in touched {
        network.change(from, to, |path| match fault.kind {
            Kind::Delay => {
                path.delay = Duration::from_millis(25 * fault.variant);
                path.jitter = Duration::from_millis(50);
            }
            Kind::Slow => path.bytes_per_second = 4_000 * (1 + fault.variant),
            Kind::Damage => path.damaged_one_in = 500 << fault.variant,
            _ => path.cut = true,
        });
    }
    if fault.variant >= 4 && matches!(fault.kind, Kind::Partition | Kind::OneWay) {
        for other in (0..members).filter(|other| *other != fault.member) {
            network.reset(fault.member, other);
        }
    }
}
