//! What goes wrong, drawn from the seed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcdrs_platform::CrashMode;
use etcdrs_raft_glue::Membership;
use etcdrs_tests::random::Random;
use etcdrs_types::MemberId;

use crate::network::Weather;
use crate::world::World;

/// How long a member may take to notice that its disk fails.
const FAILING: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Fault {
    PowerLoss,
    PowerLossOfAll,
    Kill,
    Stop,
    Isolate,
    OneWay,
    CutLink,
    Storm,
    SlowDisk,
    FailedSync,
    Transfer,
    Replace,
}

const ALL: [Fault; 12] = [
    Fault::PowerLoss,
    Fault::PowerLossOfAll,
    Fault::Kill,
    Fault::Stop,
    Fault::Isolate,
    Fault::OneWay,
    Fault::CutLink,
    Fault::Storm,
    Fault::SlowDisk,
    Fault::FailedSync,
    Fault::Transfer,
    Fault::Replace,
];

/// Commits faults until the load ends, and heals each.
pub(crate) async fn commit(world: Arc<World>) -> Vec<String> {
    let mut random = Random::new(world.seed ^ 0xfa);
    let mut done = Vec::new();
    while !world.load_is_over() {
        let fault = random.pick(&ALL);
        let seat = usize::try_from(random.below(world.seats() as u64)).unwrap();
        // The leader is the member with whom most goes wrong.
        let seat = if random.one_in(2) { world.leader().unwrap_or(seat) } else { seat };
        let what = format!("{fault:?} at {seat}");
        world.trace.note(format_args!("{what}"));
        done.push(format!("{:>6} ms {what}", world.trace.now() / 1_000_000));
        one(&world, fault, seat, &mut random).await;
        tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
    }
    done
}

async fn one(world: &Arc<World>, fault: Fault, seat: usize, random: &mut Random) {
    let a_while = Duration::from_millis(50 + random.below(3000));
    let others: Vec<usize> = (0..world.seats()).filter(|other| *other != seat).collect();
    let other = random.pick(&others);
    match fault {
        Fault::PowerLoss => world.crash(seat, CrashMode::Random, a_while).await,
        Fault::Kill => world.crash(seat, CrashMode::KeepAll, a_while).await,
        Fault::PowerLossOfAll => {
            for seat in 0..world.seats() {
                world.go_dark(seat, CrashMode::Random).await;
            }
            tokio::time::sleep(a_while).await;
            world.start_all().await;
        }
        Fault::Stop => {
            world.stop(seat).await;
            tokio::time::sleep(a_while).await;
            world.start_all().await;
        }
        Fault::Isolate => {
            let cut = Weather { cut: true, ..Weather::default() };
            for other in others {
                world.set(seat, other, cut);
                world.set(other, seat, cut);
            }
            tokio::time::sleep(a_while).await;
            world.network.heal();
        }
        Fault::OneWay => {
            world.set(seat, other, Weather { cut: true, ..Weather::default() });
            tokio::time::sleep(a_while).await;
            world.network.heal();
        }
        Fault::CutLink => {
            let cut = Weather { cut: true, ..Weather::default() };
            world.set(seat, other, cut);
            world.set(other, seat, cut);
            tokio::time::sleep(a_while).await;
            world.network.heal();
        }
        Fault::Storm => storm(world, a_while, random).await,
        Fault::SlowDisk => {
            let slow = 20 + random.below(1500);
            world.slow_down(seat, slow);
            tokio::time::sleep(a_while).await;
            world.slow_down(seat, 0);
        }
        Fault::FailedSync => failed_sync(world, seat, a_while, random).await,
        Fault::Transfer => transfer(world, other).await,
        Fault::Replace => replace(world, seat).await,
    }
}

async fn storm(world: &World, a_while: Duration, random: &mut Random) {
    for from in 0..world.seats() {
        for to in (0..world.seats()).filter(|to| *to != from) {
            let weather =
                Weather { cut: false, lost_of: 2 + random.below(30), delay_ms: random.below(300) };
            world.set(from, to, weather);
        }
    }
    tokio::time::sleep(a_while).await;
    world.network.heal();
}

async fn failed_sync(world: &World, seat: usize, a_while: Duration, random: &mut Random) {
    let nth = 1 + random.below(4);
    world.fail_sync(seat, nth);
    let failed = world.failed(seat);
    assert!(tokio::time::timeout(FAILING, failed).await.is_ok(), "a failed sync was not noticed");
    world.crash(seat, CrashMode::Random, a_while).await;
}

async fn transfer(world: &World, to: usize) {
    let target = world.id(to);
    let leader = world.leader().and_then(|seat| world.handle(seat));
    if let Some(leader) = leader.filter(|leader| leader.member() != target) {
        // Whatever comes of it: the leader may be lost meanwhile.
        let _ = leader.transfer_leader(target, Duration::from_secs(2)).await;
    }
}

/// A member goes for good, and another one with an empty disk takes its seat.
async fn replace(world: &Arc<World>, seat: usize) {
    let gone = world.id(seat);
    let removed = change(world, |members| {
        members.voters.remove(&gone);
        members.learners.remove(&gone);
    });
    if !removed.await {
        return;
    }
    world.go_dark(seat, CrashMode::LoseAll).await;
    let new = world.next_id();
    // Until it is done, whatever happens: the others wait for this member at the end.
    while !change(world, |members| members.learners.extend([new])).await {}
    world.settle_in(seat, new).await;
    while !promote(world, new).await {}
}

async fn promote(world: &World, new: MemberId) -> bool {
    change(world, |members| {
        if members.learners.remove(&new) {
            members.voters.insert(new);
        }
    })
    .await
}

/// Changes the membership through the leader; `false` if that did not come off, as far as is
/// known.
async fn change(world: &World, edit: impl Fn(&mut Membership)) -> bool {
    // A change that is not committed yet refuses the next one at once.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let Some(leader) = world.leader().and_then(|seat| world.handle(seat)) else { return false };
    let old = leader.membership();
    let mut new = Membership::clone(&old);
    edit(&mut new);
    if (&new.voters, &new.learners) == (&old.voters, &old.learners) {
        return true;
    }
    let changed = leader.change_members(new, &old, Bytes::new());
    matches!(tokio::time::timeout(Duration::from_secs(3), changed).await, Ok(Ok(_)))
}
