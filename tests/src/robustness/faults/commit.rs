//! Doing a fault: to processes, to paths, or by way of the modules for the others.

use std::time::Duration;

use anyhow::Result;

use super::{Aim, Fault, Kind, disk, membership, step};
use crate::robustness::cluster::Cluster;
use crate::robustness::member::Member;
use crate::robustness::wire::Wire;

/// Waits its calm, does the fault, holds it and heals; tells what was done.
///
/// # Errors
///
/// What the cluster did not get over.
pub async fn commit(cluster: &mut Cluster, mut fault: Fault, wire: &Wire) -> Result<String> {
    tokio::time::sleep(fault.calm).await;
    if fault.aim != Aim::Member {
        fault.take_aim(cluster.leader().await);
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
        Kind::Partition
        | Kind::Ring
        | Kind::OneWay
        | Kind::Delay
        | Kind::Reorder
        | Kind::Slow
        | Kind::Damage => {
            paths(cluster, fault);
            hold(fault).await;
        }
        Kind::Membership => done += &membership::replace(cluster, fault, wire).await?,
        Kind::SlowDisk => disk::slow(cluster, fault).await?,
        Kind::FailDisk => done += &disk::fail(cluster, fault).await?,
        Kind::Step => done += &step::step(cluster, fault).await?,
    }
    cluster.note_passed().await;
    if !fault.stays {
        cluster.heal().await?;
    }
    Ok(done)
}

impl Fault {
    /// Chooses the member that it is for.
    fn take_aim(&mut self, leader: Option<usize>) {
        let Some(leader) = leader else { return };
        match self.aim {
            Aim::Leader if leader == self.other => {
                (self.member, self.other) = (leader, self.member);
            }
            Aim::Leader => self.member = leader,
            Aim::Follower if leader == self.member => {
                (self.member, self.other) = (self.other, self.member);
            }
            Aim::Follower | Aim::Member => {}
        }
    }
}

pub(super) async fn hold(fault: Fault) {
    tokio::time::sleep(fault.length).await;
}

async fn kill(cluster: &mut Cluster, fault: Fault) -> Result<()> {
    if fault.variant == 0 {
        cluster.members.iter_mut().for_each(Member::kill);
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

/// Changes the paths a fault touches.
fn paths(cluster: &Cluster, fault: Fault) {
    let members = cluster.members.len();
    let network = &cluster.network;
    for (from, to) in touched(fault, members) {
        network.change(from, to, |path| match fault.kind {
            Kind::Delay => {
                path.delay = Duration::from_millis(25 * fault.variant);
                path.jitter = Duration::from_millis(50);
            }
            Kind::Reorder => path.overtaken = Duration::from_millis(100 + 50 * fault.variant),
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

/// All paths of one member both ways, or one direction, or what the kind is about.
fn touched(fault: Fault, members: usize) -> Vec<(usize, usize)> {
    let mut touched = Vec::new();
    let both = |a: usize, b: usize| [(a, b), (b, a)];
    if fault.kind == Kind::Ring {
        let pairs = (0..members).flat_map(|a| (0..a).map(move |b| (a, b)));
        let apart = |a: usize, b: usize| a - b != 1 && a - b != members - 1;
        touched.extend(pairs.filter(|(a, b)| apart(*a, *b)).flat_map(|(a, b)| both(a, b)));
        if members == 3 {
            touched.extend(both(fault.member, fault.other));
        }
        return touched;
    }
    for other in (0..members).filter(|other| *other != fault.member) {
        match (fault.kind, fault.variant % 4) {
            (Kind::OneWay, 0) => touched.push((fault.member, other)),
            (Kind::OneWay, 1) => touched.push((other, fault.member)),
            (Kind::OneWay, _) if other != fault.other => {}
            (Kind::OneWay, 2) => touched.push((fault.member, other)),
            (Kind::OneWay, _) => touched.push((other, fault.member)),
            // A bridge: two members lose each other, and both still see the third.
            (Kind::Partition, 0) if other != fault.other => {}
            _ => touched.extend(both(fault.member, other)),
        }
    }
    if fault.kind == Kind::Partition && fault.variant == 1 {
        touched.extend((0..members * members).map(|at| (at / members, at % members)));
    }
    touched
}

#[cfg(test)]
mod tests {
    use super::super::{ALL, Faults};
    use super::*;

    fn fault(kind: Kind, aim: Aim) -> Fault {
        let drawn = Faults::new(1, &ALL, 3).draw().unwrap();
        Fault { kind, aim, member: 0, other: 1, variant: 2, ..drawn }
    }

    #[test]
    fn in_a_ring_of_five_everybody_has_two_neighbours() {
        let cut = touched(fault(Kind::Ring, Aim::Member), 5);
        for member in 0..5 {
            let from = cut.iter().filter(|(from, _)| *from == member);
            let mut lost: Vec<usize> = from.map(|(_, to)| *to).collect();
            lost.sort_unstable();
            let mut wanted = [(member + 2) % 5, (member + 3) % 5];
            wanted.sort_unstable();
            assert_eq!(lost, wanted);
            assert_eq!(cut.iter().filter(|(_, to)| *to == member).count(), 2);
        }
    }

    #[test]
    fn in_a_ring_of_three_one_link_is_cut() {
        assert_eq!(touched(fault(Kind::Ring, Aim::Member), 3), [(0, 1), (1, 0)]);
    }

    #[test]
    fn faults_meet_whom_they_are_for() {
        let meets = |aim, leader| {
            let mut fault = fault(Kind::Partition, aim);
            fault.take_aim(Some(leader));
            (fault.member, fault.other)
        };
        assert_eq!(meets(Aim::Leader, 1), (1, 0));
        assert_eq!(meets(Aim::Leader, 2), (2, 1));
        assert_eq!(meets(Aim::Follower, 0), (1, 0));
        assert_eq!(meets(Aim::Follower, 2), (0, 1));
        assert_eq!(meets(Aim::Member, 1), (0, 1));
    }
}
