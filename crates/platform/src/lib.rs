//! The one door to disk, clock and randomness, with simulated ones for tests
