//! Members that end differently: each must be found.

use super::put;
use super::world::{World, reject};
use crate::robustness::check::Rule;
use crate::robustness::history::{History, MemberEnd};

fn tampered(tamper: impl Fn(&mut MemberEnd)) -> History {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let mut history = world.finish();
    tamper(&mut history.ends[1]);
    history
}

#[test]
fn other_hash() {
    reject(&tampered(|end| end.hash = 18), Rule::EndsDiffer);
}

#[test]
fn other_revision() {
    reject(&tampered(|end| end.revision = 3), Rule::EndsDiffer);
}

#[test]
fn other_compaction() {
    reject(&tampered(|end| end.compact_revision = 2), Rule::EndsDiffer);
}

#[test]
fn other_keys() {
    reject(&tampered(|end| end.kvs.clear()), Rule::EndsDiffer);
}

#[test]
fn other_leases() {
    reject(&tampered(|end| end.leases.push(5)), Rule::EndsDiffer);
}

#[test]
fn other_members() {
    reject(&tampered(|end| end.members.push(103)), Rule::EndsDiffer);
}

/// All agree, and all have lost what the log has.
#[test]
fn all_without_the_last_write() {
    let mut world = World::new();
    world.call(0, put("a", "1"));
    let mut history = world.finish();
    for end in &mut history.ends {
        end.revision = 1;
        end.kvs.clear();
    }
    reject(&history, Rule::EndBehind);
}
