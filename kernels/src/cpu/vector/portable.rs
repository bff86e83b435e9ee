//! The path in plain Rust: the meaning of every vector operation.
#![allow(unsafe_code, reason = "loads and stores through raw pointers")]

use super::{LANES, Vector};
use crate::cpu::isa::Kernel;

/// Sixteen lanes as an array; the compiler vectorizes it where the base target allows.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(f32, f32) -> f32) -> Self {
        Portable(std::array::from_fn(|lane| join(self.0[lane], other.0[lane])))
    }
}

impl Vector for Portable {
    const TILE_ROWS: usize = 2;
    const WIDE_TILE_ROWS: usize = 1;

    #[inline(never)]
    unsafe fn enter<K: Kernel>(kernel: K) {
        kernel.run::<Portable>();
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Portable([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises 16 readable f32.
        Portable(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, lanes: usize) -> Self {
        let mut values = [0.0; LANES];
        // SAFETY: the caller promises `lanes` readable f32 and at most 16.
        unsafe { from.copy_to_nonoverlapping(values.as_mut_ptr(), lanes) };
        Portable(values)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises 16 writable f32.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize) {
        // SAFETY: the caller promises `lanes` writable f32 and at most 16.
        unsafe { to.copy_from_nonoverlapping(self.0.as_ptr(), lanes) }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        // SAFETY: the caller promises 64 readable bytes.
        let pairs = unsafe { from.cast::<[u32; LANES]>().read_unaligned() };
        [pairs.map(|pair| pair << 16), pairs.map(|pair| pair & 0xffff_0000)]
            .map(|bits| Portable(bits.map(f32::from_bits)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |left, right| left + right)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |left, right| left - right)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |left, right| left * right)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |left, right| left / right)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Portable(std::array::from_fn(|lane| self.0[lane].mul_add(factor.0[lane], term.0[lane])))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |left, right| if left > right { left } else { right })
    }

    #[inline(always)]
    fn first_or(self, lanes: usize, other: Self) -> Self {
        Portable(std::array::from_fn(|lane| if lane < lanes { self.0[lane] } else { other.0[lane] }))
    }

    #[inline(always)]
    fn less_select(self, bound: Self, yes: Self, no: Self) -> Self {
        Portable(std::array::from_fn(|lane| if self.0[lane] < bound.0[lane] { yes.0[lane] } else { no.0[lane] }))
    }

    #[inline(always)]
    fn add_exponent(self, rounded: Self) -> Self {
        self.zip(rounded, |value, rounded| f32::from_bits(value.to_bits().wrapping_add(rounded.to_bits() << 23)))
    }

    #[inline(always)]
    fn prefetch(_address: *const u8) {}

    #[inline(always)]
    fn swap_pairs(self) -> Self {
        Portable(std::array::from_fn(|lane| self.0[lane ^ 1]))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        halve(self.0, |low, high| low + high)
    }

    #[inline(always)]
    fn max_lane(self) -> f32 {
        halve(self.0, |low, high| if low > high { low } else { high })
    }
}

#[inline(always)]
fn halve(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
    }
    lanes[0]
}
