//! Several members in one process, on a switchboard that can be cut and on disks that can be held
//! up. Tests of rows of storage-and-raft.md §6.2 are named by them.

#[path = "../common/mod.rs"]
mod common;

mod disk;
mod members;
mod switch;

mod basics;
mod crashes;
mod disks;
mod forwarding;
mod hand_off;
mod leaders;
mod nonsense;
mod sending;
mod stop;
mod votes;
