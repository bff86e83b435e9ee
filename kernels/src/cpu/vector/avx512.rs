//! The AVX-512 path: one register per vector.
#![allow(unsafe_code, reason = "SIMD intrinsics")]

use std::arch::x86_64::*;

use super::avx2::Avx2;
use super::{LANES, Vector};
use crate::cpu::isa::Kernel;

/// Sixteen lanes in one 512-bit register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Marks instructions of this path.
macro_rules! avx512 {
    ($body:expr) => {
        // SAFETY: vectors exist only inside `enter`, whose caller promises AVX-512 F, BW, DQ and VL; pointers are the
        // calling method's own promise.
        unsafe { $body }
    };
}

#[inline(always)]
fn first(lanes: usize) -> __mmask16 {
    if lanes >= LANES { 0xffff } else { (1 << lanes) - 1 }
}

impl Vector for Avx512 {
    const TILE_ROWS: usize = 12;
    const WIDE_TILE_ROWS: usize = 6;

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    unsafe fn enter<K: Kernel>(kernel: K) {
        kernel.run::<Avx512>();
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Avx512(avx512!(_mm512_set1_ps(value)))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Avx512(avx512!(_mm512_loadu_ps(from)))
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, lanes: usize) -> Self {
        Avx512(avx512!(_mm512_maskz_loadu_ps(first(lanes), from)))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        avx512!(_mm512_storeu_ps(to, self.0))
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize) {
        avx512!(_mm512_mask_storeu_ps(to, first(lanes), self.0))
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        avx512!({
            let pairs = _mm512_loadu_si512(from.cast());
            let low = _mm512_slli_epi32::<16>(pairs);
            let high = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            [Avx512(_mm512_castsi512_ps(low)), Avx512(_mm512_castsi512_ps(high))]
        })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx512(avx512!(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx512(avx512!(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx512(avx512!(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Avx512(avx512!(_mm512_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Avx512(avx512!(_mm512_fmadd_ps(self.0, factor.0, term.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Avx512(avx512!(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn first_or(self, lanes: usize, other: Self) -> Self {
        Avx512(avx512!(_mm512_mask_blend_ps(first(lanes), other.0, self.0)))
    }

    #[inline(always)]
    fn less_select(self, bound: Self, yes: Self, no: Self) -> Self {
        Avx512(avx512!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound.0), no.0, yes.0)))
    }

    #[inline(always)]
    fn add_exponent(self, rounded: Self) -> Self {
        Avx512(avx512!({
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(self.0), exponent))
        }))
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        avx512!(_mm_prefetch::<_MM_HINT_T1>(address.cast()))
    }

    #[inline(always)]
    fn swap_pairs(self) -> Self {
        Avx512(avx512!(_mm512_permute_ps::<0b10_11_00_01>(self.0)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.halves().sum()
    }

    #[inline(always)]
    fn max_lane(self) -> f32 {
        self.halves().max_lane()
    }
}

impl Avx512 {
    #[inline(always)]
    fn halves(self) -> Avx2 {
        avx512!(Avx2(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0)))
    }
}
