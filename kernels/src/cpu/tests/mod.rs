//! Every kernel against an f64 reference, and bit for bit against itself: between instruction set paths, between ways
//! of cutting rows and items, between decode and prefill.

mod apply;
mod attention;
mod elementwise;
mod experts;
mod linear;
mod norm;
mod packed;
mod rope;
mod route;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

use super::isa::forced;

/// Fresh random inputs; a failing test prints the seed, and `TREFOIL_SEED` repeats it.
pub(crate) struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        let fresh = || RandomState::new().build_hasher().finish();
        let seed = std::env::var("TREFOIL_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("a u64"));
        Random { seed, state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 11
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Roughly normal with unit variance.
    pub(crate) fn value(&mut self) -> f32 {
        let uniform = |bits: u64| bits as f32 / (1u64 << 53) as f32 - 0.5;
        2.0 * (0..3).map(|_| uniform(self.next())).sum::<f32>()
    }

    pub(crate) fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// Cuts `0..count` into ranges at random and returns them in random order.
    pub(crate) fn cuts(&mut self, count: usize) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        while start < count {
            let end = start + 1 + self.below((count - start).min(7));
            ranges.push(start..end);
            start = end;
        }
        self.shuffle(&mut ranges);
        ranges
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with TREFOIL_SEED={}", self.seed);
        }
    }
}

/// All of `0..count` as one cut.
pub(crate) fn all(count: usize) -> Vec<Range<usize>> {
    std::iter::once(0..count).collect()
}

/// The result of `body` on every available path, checked to be the same bits.
pub(crate) fn on_every_path(what: &str, body: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let mut paths = forced::available().into_iter();
    let first = paths.next().expect("the portable path");
    let expected = forced::with_isa(first, &body);
    for isa in paths {
        assert_same_bits(&format!("{what}, {first:?} and {isa:?}"), &expected, &forced::with_isa(isa, &body));
    }
    expected
}

pub(crate) fn assert_same_bits(what: &str, left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len(), "{what}: lengths");
    for (index, (left, right)) in left.iter().zip(right).enumerate() {
        assert!(left.to_bits() == right.to_bits(), "{what}: element {index} is {left:e} and {right:e}");
    }
}

/// Checks `found` within `tolerance` of the reference; NaN fails.
pub(crate) fn assert_close(what: &str, found: f32, expected: f64, tolerance: f64) {
    let error = (f64::from(found) - expected).abs();
    assert!(error <= tolerance, "{what}: {found:e}, expected {expected:e}, error {error:e} above {tolerance:e}");
}

/// Marks memory that a kernel must not touch.
pub(crate) const UNTOUCHED: f32 = -12345.678;
