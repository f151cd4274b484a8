//! Threads: the one place that may sleep.

use std::time::Duration;

/// Blocks the thread for at least `duration`. For pacing of background work; whoever waits for
/// something waits on the event instead.
#[expect(clippy::disallowed_methods, reason = "this is the door to sleeping")]
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
