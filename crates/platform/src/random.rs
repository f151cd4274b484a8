//! Random numbers as a value that the caller hands in.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random numbers. Takes `&self`, so that one source can be shared.
pub trait Random: Send + Sync + 'static {
    /// A number with all 64 bits random.
    fn next_u64(&self) -> u64;

    /// Fills `into` with random bytes.
    fn fill(&self, into: &mut [u8]) {
        for chunk in into.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// A number below `bound` with a bias of less than `bound` in 2^64; 0 for a bound of 0.
    fn below(&self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next_u64()) * u128::from(bound)) >> 64)
            .expect("the upper half of a 128-bit product has 64 bits")
    }
}

impl<R: Random + ?Sized> Random for std::sync::Arc<R> {
    fn next_u64(&self) -> u64 {
        (**self).next_u64()
    }

    fn fill(&self, into: &mut [u8]) {
        (**self).fill(into);
    }
}

/// The operating system's generator, fit for secrets.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill(&self, into: &mut [u8]) {
        let mut filled = 0;
        while filled < into.len() {
            match rustix::rand::getrandom(
                &mut into[filled..],
                rustix::rand::GetRandomFlags::empty(),
            ) {
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => panic!("getrandom fails only on kernels we do not run on: {err}"),
            }
        }
    }
}

/// For code that cannot be handed a source: the operating system's generator, unless a test gave
/// this thread a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRandom;

#[cfg(any(test, feature = "test-util"))]
thread_local! {
    static SEEDED: std::cell::RefCell<Option<SeededRandom>> =
        const { std::cell::RefCell::new(None) };
}

#[cfg(any(test, feature = "test-util"))]
impl ThreadRandom {
    /// From now on this thread draws the numbers of `seed`.
    pub fn seed(seed: u64) {
        SEEDED.set(Some(SeededRandom::new(seed)));
    }
}

impl Random for ThreadRandom {
    fn next_u64(&self) -> u64 {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(number) = SEEDED.with_borrow(|seeded| seeded.as_ref().map(Random::next_u64)) {
            return number;
        }
        OsRandom.next_u64()
    }
}

/// A generator that gives the same numbers for the same seed (SplitMix64). Not for secrets.
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_repeat_and_differ() {
        let draw = |seed| {
            let random = SeededRandom::new(seed);
            [random.next_u64(), random.next_u64(), random.below(10)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((0..1000).all(|seed| SeededRandom::new(seed).below(3) < 3));
        assert_eq!(SeededRandom::new(1).below(0), 0);
    }

    #[test]
    fn a_thread_draws_from_its_seed() {
        let draw = || std::array::from_fn::<u64, 3, _>(|_| ThreadRandom.next_u64());
        let seeded = || std::thread::spawn(move || (ThreadRandom::seed(7), draw()).1).join();
        assert_eq!(seeded().unwrap(), seeded().unwrap());
        assert_ne!(draw(), draw());
    }

    #[test]
    fn the_system_gives_bytes() {
        let mut bytes = [0; 64];
        OsRandom.fill(&mut bytes);
        assert_ne!(bytes, [0; 64]);
        assert_ne!(OsRandom.next_u64(), OsRandom.next_u64());
    }
}
