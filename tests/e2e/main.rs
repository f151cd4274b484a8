//! Whole-process tests: crashes under load, and starts and requests that must be refused.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is best shown where it happens")]

mod bad_input;
mod bad_start;
mod durability;
mod history;
mod start;
mod stop;
