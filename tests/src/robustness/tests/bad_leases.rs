//! Leases that end early, twice or not at all: each must be found.

use super::world::{MILLISECOND, SCRIBE, SECOND, World, failure, reject};
use super::{get, grant, put, put_with, renew, revoke};
use crate::errors::LEASE_NOT_FOUND;
use crate::pb;
use crate::robustness::check::Rule;
use crate::robustness::history::{Answer, Outcome};

fn leased() -> World {
    let mut world = World::new();
    world.call(0, grant(5, 2));
    world.call(0, put_with("a", "1", 5));
    world
}

fn show_log(world: &mut World) {
    let last = world.store.last();
    world.deliver(SCRIBE, last);
}

#[test]
fn keys_gone_too_early() {
    let mut world = leased();
    world.now += SECOND;
    world.end_lease(5);
    show_log(&mut world);
    reject(&world.finish(), Rule::LeaseEarly);
}

#[test]
fn keys_gone_in_spite_of_a_renewal() {
    let mut world = leased();
    world.now += SECOND;
    world.call(0, renew(5));
    world.now += 2 * SECOND - 50 * MILLISECOND;
    world.end_lease(5);
    show_log(&mut world);
    reject(&world.finish(), Rule::LeaseEarly);
}

/// No keys tell of it, but the answer to a renewal does.
#[test]
fn renewal_refused_too_early() {
    let mut world = World::new();
    world.call(0, grant(5, 2));
    world.leases.clear();
    world.call(0, renew(5));
    reject(&world.finish(), Rule::LeaseEarly);
}

#[test]
fn put_refused_for_a_living_lease() {
    let mut world = leased();
    let times = (world.tick(), world.tick());
    let refused = Outcome::Refused(failure(LEASE_NOT_FOUND));
    world.record((1, 1), times, put_with("b", "1", 5), refused);
    reject(&world.finish(), Rule::LeaseEarly);
}

#[test]
fn renewed_after_its_end() {
    let mut world = leased();
    world.now += 3 * SECOND;
    world.expire();
    show_log(&mut world);
    let after = world.call(0, renew(5));
    let op = &mut world.history.operations[after];
    let Outcome::Answered(Answer::KeepAlive(answer)) = &mut op.outcome else { panic!("no answer") };
    answer.ttl = 2;
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

#[test]
fn renewed_after_its_revoke() {
    let mut world = leased();
    world.call(0, revoke(5));
    let after = world.call(0, renew(5));
    let op = &mut world.history.operations[after];
    let Outcome::Answered(Answer::KeepAlive(answer)) = &mut op.outcome else { panic!("no answer") };
    answer.ttl = 2;
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

#[test]
fn keys_that_outlive_a_revoke() {
    let mut world = leased();
    world.leases.insert(6, (2, 0));
    let other = world.call(0, revoke(6));
    world.history.operations[other].request = revoke(5);
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

#[test]
fn keys_that_outlive_a_gone_lease() {
    let mut world = leased();
    world.now += 3 * SECOND;
    world.leases.clear();
    world.call(0, renew(5));
    world.call(0, get("a"));
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

/// The end of a lease takes all its keys in one revision, or something else deleted them.
#[test]
fn one_of_two_keys_gone() {
    let mut world = leased();
    world.call(0, put_with("b", "1", 5));
    world.now += 3 * SECOND;
    world.execute(0, &super::delete("a"));
    reject(&world.finish(), Rule::Unexplained);
}

#[test]
fn attached_after_the_end() {
    let mut world = leased();
    world.call(0, revoke(5));
    world.leases.insert(5, (2, 0));
    world.call(0, put_with("b", "1", 5));
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

#[test]
fn attached_to_a_lease_of_nobody() {
    let mut world = World::new();
    world.leases.insert(5, (2, 0));
    world.call(0, put_with("b", "1", 5));
    reject(&world.finish(), Rule::LeaseMisused);
}

#[test]
fn ended_twice() {
    let mut world = leased();
    world.now += 3 * SECOND;
    world.expire();
    world.call(0, put("a", "2"));
    show_log(&mut world);
    let header = Some(pb::ResponseHeader { revision: world.store.last(), ..Default::default() });
    let answer = Answer::Revoke(pb::LeaseRevokeResponse { header });
    let times = (world.tick(), world.tick());
    world.record((0, 0), times, revoke(5), Outcome::Answered(answer));
    reject(&world.finish(), Rule::LeaseAfterEnd);
}

#[test]
fn revoked_twice() {
    let mut world = leased();
    let first = world.call(0, revoke(5));
    let op = world.history.operations[first].clone();
    world.record((0, 0), (op.called, op.returned), revoke(5), op.outcome);
    reject(&world.finish(), Rule::LeaseMisused);
}

#[test]
fn granted_twice() {
    let mut world = World::new();
    world.call(0, grant(5, 2));
    world.call(0, grant(5, 2));
    reject(&world.finish(), Rule::LeaseMisused);
}
