//! Disks that lose power, fill up or rot.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod full;
#[path = "../e2e/history.rs"]
mod history;
mod mount;
mod power;
mod rot;
mod volatile;
