//! The one door to disk, clock and randomness.
//!
//! Everything in etcd-rs that touches a file, reads a clock or draws a random number does it
//! through a value of this crate which its caller chose, so that a test can hand in a simulated
//! one: a disk that tears writes and loses what was never synced, a clock that moves on command,
//! a generator with a seed.
//!
//! Invariants:
//! - No other crate of ours names `std::fs`, `Instant::now` or `SystemTime::now` outside tests.
//! - [`Fs`] never hides an error and never retries one: after a failed sync the pages may be gone,
//!   and only the caller knows what that means.
//! - Failpoints ([`fp!`]) and the simulated parts cost nothing in a build without their features.
#![deny(missing_docs)]

mod clock;
pub mod failpoint;
mod fs;
mod os;
pub mod process;
mod random;
#[cfg(any(test, feature = "test-util"))]
mod sim;
pub mod thread;

#[cfg(any(test, feature = "test-util"))]
pub use crate::clock::ManualClock;
pub use crate::clock::{Clock, SystemClock, Tick};
pub use crate::fs::{DirEntry, File, Fs, Open, Stat};
pub use crate::os::{OsFile, OsFs};
pub use crate::random::{OsRandom, Random, SeededRandom, ThreadRandom};
#[cfg(any(test, feature = "test-util"))]
pub use crate::sim::{CrashMode, SimFile, SimFs};
