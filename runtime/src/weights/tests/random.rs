//! Fresh random numbers; a test that fails says the seed, and `TREFOIL_SEED` repeats it.

use std::hash::{BuildHasher, RandomState};
use std::thread;

/// A generator (SplitMix64, Steele et al. 2014) that knows its seed.
pub(super) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(super) fn new() -> Self {
        let fresh = || RandomState::new().hash_one(0);
        let seed = std::env::var("TREFOIL_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("a u64"));
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// A number from `least` to `most`.
    pub(super) fn size(&mut self, least: usize, most: usize) -> usize {
        least + (self.next() % (most - least + 1) as u64) as usize
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.size(0, all.len() - 1)]
    }

    /// A number from -2 to 2.
    pub(super) fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 22) as f32 - 2.0
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat with TREFOIL_SEED={}", self.seed);
        }
    }
}
