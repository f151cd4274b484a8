//! Time as a value that the caller hands in.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in monotonic time: milliseconds since a start that differs from process to process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    #[must_use]
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.millis_since(earlier))
    }

    /// The tick `millis` milliseconds later; stays at the largest tick instead of overflowing.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        self.plus_millis(u64::try_from(by.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic nanoseconds since a start of the clock's choice; for measuring durations.
    fn now_ns(&self) -> u64;

    /// Milliseconds since the Unix epoch by the wall clock, which may jump either way.
    fn wall_unix_ms(&self) -> u64;

    /// Monotonic time in whole milliseconds.
    fn now(&self) -> Tick {
        Tick(self.now_ns() / 1_000_000)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }

    fn wall_unix_ms(&self) -> u64 {
        (**self).wall_unix_ms()
    }
}

/// The operating system's clocks. Ticks count from the creation of the first value, so that ticks
/// of two values compare.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose ticks are comparable with those of every other `SystemClock`.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the door to the monotonic clock")]
    pub fn new() -> Self {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Self { start: *START.get_or_init(Instant::now) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the door to the wall clock")]
    fn wall_unix_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to. Clones share the time.
#[cfg(any(test, feature = "test-util"))]
#[derive(Clone, Debug, Default)]
pub struct ManualClock(std::sync::Arc<ManualTimes>);

#[cfg(any(test, feature = "test-util"))]
#[derive(Debug, Default)]
struct ManualTimes {
    monotonic_ns: std::sync::atomic::AtomicU64,
    wall_ms: std::sync::atomic::AtomicU64,
}

#[cfg(any(test, feature = "test-util"))]
impl ManualClock {
    /// A clock that stands at tick 0 and at `wall_unix_ms` on the wall.
    #[must_use]
    pub fn new(wall_unix_ms: u64) -> Self {
        let clock = Self::default();
        clock.set_wall_unix_ms(wall_unix_ms);
        clock
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        use std::sync::atomic::Ordering::Relaxed;
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.monotonic_ns.fetch_add(nanos, Relaxed);
        self.0.wall_ms.fetch_add(nanos / 1_000_000, Relaxed);
    }

    /// Sets the wall clock, as a person or NTP would; the monotonic one is not touched.
    pub fn set_wall_unix_ms(&self, millis: u64) {
        self.0.wall_ms.store(millis, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.0.monotonic_ns.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn wall_unix_ms(&self) -> u64 {
        self.0.wall_ms.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_clocks_share_their_start() {
        let (first, second) = (SystemClock::new(), SystemClock::new());
        let earlier = first.now_ns();
        assert!(second.now_ns() >= earlier);
        assert!(first.wall_unix_ms() > 1_600_000_000_000);
    }

    #[test]
    fn manual_clock_moves_on_command() {
        let clock = ManualClock::new(5_000);
        let copy = clock.clone();
        clock.advance(Duration::from_millis(1500));
        assert_eq!((copy.now(), copy.wall_unix_ms()), (Tick(1500), 6_500));
        clock.set_wall_unix_ms(1);
        assert_eq!((copy.now(), copy.wall_unix_ms()), (Tick(1500), 1));
    }

    #[test]
    fn ticks_do_not_overflow() {
        assert_eq!(Tick(u64::MAX) + Duration::from_secs(1), Tick(u64::MAX));
        assert_eq!(Tick(1).millis_since(Tick(2)), 0);
    }
}
