//! What goes wrong in a run: drawn from a seed, done to the cluster, and healed again.

mod commit;
mod disk;
mod membership;
mod step;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};

pub use self::commit::commit;
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
    /// Each member sees its two neighbours only; of three, two lose each other.
    Ring,
    /// A path is cut in one direction.
    OneWay,
    /// Paths are late, and not evenly.
    Delay,
    /// Every other connection is late by much: what was sent later on another one comes earlier.
    Reorder,
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
    /// A member is removed for good, and another one with an empty disk takes its place.
    Membership,
    /// The syncs of a member's log take up to 0.8 s.
    SlowDisk,
    /// A write or sync of a member fails: it has to end by itself.
    FailDisk,
    /// A member ends at a named step, or sleeps there.
    Step,
}

/// All of them.
pub const ALL: [Kind; 17] = [
    Kind::Kill,
    Kind::Restart,
    Kind::Pause,
    Kind::Partition,
    Kind::Ring,
    Kind::OneWay,
    Kind::Delay,
    Kind::Reorder,
    Kind::Slow,
    Kind::Damage,
    Kind::Reset,
    Kind::Clients,
    Kind::Transfer,
    Kind::Membership,
    Kind::SlowDisk,
    Kind::FailDisk,
    Kind::Step,
];

/// What a run has, on which depends what can go wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    /// How many members.
    pub members: usize,
    /// What the servers behave like.
    pub flavour: Flavour,
    /// What carries the faults of the network.
    pub layer: Layer,
    /// Whether the servers have failpoints.
    pub failpoints: bool,
    /// Whether members talk to each other by TLS.
    pub peer_tls: bool,
}

impl Kind {
    /// False for what a cluster of this size or flavour has no promise for, or what the layer or
    /// the binary cannot do.
    pub fn applies(self, means: Means) -> bool {
        let proxied = means.layer == Layer::Proxy;
        let several = means.members > 1;
        match self {
            Self::Kill | Self::Restart | Self::Pause | Self::Clients => true,
            Self::Partition | Self::OneWay | Self::Transfer => several,
            // With fewer members the cluster would stand still until a removed one is replaced.
            Self::Ring | Self::Membership => means.members > 2,
            Self::Delay | Self::Reorder | Self::Slow | Self::Reset => several && proxied,
            // etcd's streams have no checksum: without TLS a changed byte may be a changed entry.
            Self::Damage => {
                several && proxied && (means.flavour == Flavour::Current || means.peer_tls)
            }
            Self::SlowDisk | Self::FailDisk | Self::Step => means.failpoints,
        }
    }

    /// Whether the binary needs failpoints for it.
    pub fn needs_failpoints(self) -> bool {
        matches!(self, Self::SlowDisk | Self::FailDisk | Self::Step)
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

/// Whom a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    /// Whoever leads then.
    Leader,
    /// Anybody who does not.
    Follower,
    /// The member that was drawn.
    Member,
}

/// A fault with its place and time. The same seed draws the same ones; who leads at that moment is
/// the cluster's doing.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    kind: Kind,
    aim: Aim,
    /// The member that was drawn; once the aim is known, the one that is hit.
    member: usize,
    /// And with this one where it takes two.
    other: usize,
    /// Before it, nothing happens for this long.
    calm: Duration,
    /// How long it lasts.
    length: Duration,
    /// What the kind makes of it.
    variant: u64,
    /// Which step, for the kinds that are about one.
    step: u64,
    /// The next one comes before this one is healed.
    stays: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = match self.aim {
            Aim::Leader => "leader".into(),
            Aim::Follower => "follower".into(),
            Aim::Member => format!("member {}", self.member),
        };
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

/// A run of steps alone does more than this in a minute: with the next seed it goes on before the
/// place where it ended.
const STEPS_A_ROUND: u64 = 8;

/// The faults of a seed.
pub struct Faults {
    random: Random,
    /// What came later, so that a seed goes on meaning what it meant.
    details: Random,
    /// The next step, when there is nothing else: all have their turn then.
    next_step: Option<u64>,
    kinds: Vec<Kind>,
    members: usize,
}

impl Faults {
    /// Draws among `kinds`.
    pub fn new(seed: u64, kinds: &[Kind], members: usize) -> Self {
        let (random, details) = (Random::new(seed ^ 0xfa17), Random::new(seed ^ 0xde7a11));
        let next_step = (kinds == [Kind::Step]).then_some(seed * STEPS_A_ROUND);
        Self { random, details, next_step, kinds: kinds.to_vec(), members }
    }

    /// The next one; none if there are no kinds.
    pub fn draw(&mut self) -> Option<Fault> {
        let (random, details) = (&mut self.random, &mut self.details);
        if self.kinds.is_empty() {
            return None;
        }
        let members = self.members as u64;
        let member = random.below(members) as usize;
        let step = 1 + random.below(members.max(2) - 1) as usize;
        let mut fault = Fault {
            kind: random.pick(&self.kinds),
            aim: match (random.one_in(2), details.one_in(2)) {
                (true, _) => Aim::Leader,
                (false, true) => Aim::Follower,
                (false, false) => Aim::Member,
            },
            member,
            other: (member + step) % self.members,
            calm: Duration::from_millis(100 + random.below(900)),
            length: Duration::from_millis(match random.below(6) {
                0 => 2000 + random.below(4000),
                1 | 2 => random.below(200),
                _ => 200 + random.below(1500),
            }),
            variant: random.below(8),
            step: details.word() >> 1,
            stays: random.one_in(4),
        };
        if let Some(step) = &mut self.next_step {
            // All end the member, none makes it sleep.
            (fault.step, fault.variant) = (*step, fault.variant % 6);
            *step += 1;
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MEANS: Means = Means {
        members: 3,
        flavour: Flavour::Current,
        layer: Layer::Proxy,
        failpoints: true,
        peer_tls: false,
    };

    #[test]
    fn a_seed_means_the_same_faults() {
        let told = |seed| {
            let mut faults = Faults::new(seed, &ALL, 3);
            (0..50).map(|_| faults.draw().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told(5), told(5));
        assert_ne!(told(5), told(6));
    }

    #[test]
    fn every_kind_and_aim_is_drawn() {
        let mut faults = Faults::new(1, &ALL, 3);
        let drawn: Vec<Fault> = (0..300).map(|_| faults.draw().unwrap()).collect();
        assert_eq!(drawn.iter().map(Fault::kind).collect::<BTreeSet<_>>().len(), ALL.len());
        for aim in [Aim::Leader, Aim::Follower, Aim::Member] {
            assert!(drawn.iter().filter(|fault| fault.aim == aim).count() > 30, "{aim:?}");
        }
    }

    #[test]
    fn steps_alone_come_in_turn() {
        let mut faults = Faults::new(3, &[Kind::Step], 3);
        let drawn: Vec<Fault> = (0..50).map(|_| faults.draw().unwrap()).collect();
        let steps: Vec<u64> = drawn.iter().map(|fault| fault.step).collect();
        assert_eq!(steps, (24..74).collect::<Vec<_>>());
        assert!(drawn.iter().all(|fault| fault.variant < 6));
    }

    #[test]
    fn names_are_read_back() {
        for kind in ALL {
            assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        }
        assert!("lightning".parse::<Kind>().is_err());
    }

    #[test]
    fn what_cannot_be_done_is_left_out() {
        let left = |means: Means| ALL.into_iter().filter(|kind| !kind.applies(means)).count();
        assert_eq!(left(MEANS), 0);
        assert_eq!(left(Means { failpoints: false, ..MEANS }), 3);
        assert!(!Kind::Membership.applies(Means { members: 1, ..MEANS }));
        assert!(!Kind::Reorder.applies(Means { layer: Layer::Namespaces, ..MEANS }));
        let etcd = Means { flavour: Flavour::Etcd35, ..MEANS };
        assert!(!Kind::Damage.applies(etcd));
        assert!(Kind::Damage.applies(Means { peer_tls: true, ..etcd }));
    }
}
