//! Sixteen lanes of f32: the arithmetic that each instruction set path implements with identical results.
#![allow(unsafe_code, reason = "loads and stores through raw pointers; entry into wider instruction sets")]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod portable;

pub(crate) use portable::Portable;

use super::isa::Kernel;

/// Lanes of a vector, on every path.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 lanes. Every operation is IEEE 754 single precision, rounded to nearest even, lane by lane.
///
/// Values exist only inside [`Vector::enter`], which is what makes the safe methods sound on the wider paths.
pub(crate) trait Vector: Copy {
    /// Most rows of a tile one panel wide: its accumulators fit the register file.
    const TILE_ROWS: usize;
    /// Most rows of a tile two panels wide.
    const WIDE_TILE_ROWS: usize;

    /// Runs a kernel compiled for this path.
    ///
    /// # Safety
    /// The machine must have the path's instructions.
    unsafe fn enter<K: Kernel>(kernel: K);

    fn splat(value: f32) -> Self;

    /// # Safety
    /// `from` is readable for 16 f32, of any alignment.
    unsafe fn load(from: *const f32) -> Self;
    /// The first `lanes` lanes from memory, zero in the others.
    ///
    /// # Safety
    /// `from` is readable for `lanes` f32; `lanes <= 16`.
    unsafe fn load_first(from: *const f32, lanes: usize) -> Self;
    /// # Safety
    /// `to` is writable for 16 f32, of any alignment.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// `to` is writable for `lanes` f32; `lanes <= 16`.
    unsafe fn store_first(self, to: *mut f32, lanes: usize);
    /// Sixteen dwords, each a pair of bf16: the low halves widened, then the high halves.
    ///
    /// # Safety
    /// `from` is readable for 64 bytes.
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2];

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// `if self > other { self } else { other }`.
    fn max(self, other: Self) -> Self;
    /// Lanes below `lanes` of `self`, the rest of `other`.
    fn first_or(self, lanes: usize, other: Self) -> Self;
    /// `if self < bound { yes } else { no }`.
    fn less_select(self, bound: Self, yes: Self, no: Self) -> Self;
    /// `self * 2^n` for a normal result, where `n` is held by the lowest bits of `rounded`'s mantissa
    /// (see `math::exp`): an integer addition to the exponent field.
    fn add_exponent(self, rounded: Self) -> Self;
    /// Asks for the cache line at `address`, readable or not, in the second-level cache.
    fn prefetch(address: *const u8);
    /// Lanes `2i` and `2i + 1` change places.
    fn swap_pairs(self) -> Self;
    /// Sum over lanes by halving: lane `i` + lane `i + 8`, then 4, 2 and 1 apart.
    fn sum(self) -> f32;
    /// Maximum over lanes, by halving like [`Vector::sum`], each pair as in [`Vector::max`].
    fn max_lane(self) -> f32;
}

/// Loads lanes `at..at + 16` of a row of `length` elements; lanes past its end are zero.
///
/// # Safety
/// `row` is readable for `length` f32, and `at < length`.
#[inline(always)]
pub(crate) unsafe fn load_at<V: Vector>(row: *const f32, at: usize, length: usize) -> V {
    // SAFETY: the caller's promise; a full vector is read only where 16 elements remain.
    unsafe { if at + LANES <= length { V::load(row.add(at)) } else { V::load_first(row.add(at), length - at) } }
}

/// Stores lanes `at..at + 16` of a row of `length` elements; lanes past its end are dropped.
///
/// # Safety
/// `row` is writable for `length` f32, and `at < length`.
#[inline(always)]
pub(crate) unsafe fn store_at<V: Vector>(value: V, row: *mut f32, at: usize, length: usize) {
    // SAFETY: the caller's promise; a full vector is written only where 16 elements remain.
    unsafe { if at + LANES <= length { value.store(row.add(at)) } else { value.store_first(row.add(at), length - at) } }
}
