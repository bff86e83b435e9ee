//! The AVX2 and FMA path: two registers per vector.
#![allow(unsafe_code, reason = "SIMD intrinsics")]

use std::arch::x86_64::*;

use super::{LANES, Vector};
use crate::cpu::isa::Kernel;

/// Sixteen lanes in two 256-bit registers.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(super) __m256, pub(super) __m256);

/// Marks instructions of this path.
macro_rules! avx2 {
    ($body:expr) => {
        // SAFETY: vectors exist only inside `enter`, whose caller promises AVX2 and FMA; pointers are the calling
        // method's own promise.
        unsafe { $body }
    };
}

impl Avx2 {
    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(__m256, __m256) -> __m256) -> Self {
        Avx2(join(self.0, other.0), join(self.1, other.1))
    }

    /// All bits set in the lanes below `lanes`.
    #[inline(always)]
    fn first(lanes: usize) -> Self {
        let lanes = lanes.min(LANES) as i32;
        avx2!({
            let low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
            let bound = _mm256_set1_epi32(lanes);
            let below = |index| _mm256_castsi256_ps(_mm256_cmpgt_epi32(bound, index));
            Avx2(below(low), below(high))
        })
    }

    #[inline(always)]
    fn blend(no: Self, yes: Self, mask: Self) -> Self {
        avx2!(Avx2(_mm256_blendv_ps(no.0, yes.0, mask.0), _mm256_blendv_ps(no.1, yes.1, mask.1)))
    }
}

impl Vector for Avx2 {
    const TILE_ROWS: usize = 2;
    const WIDE_TILE_ROWS: usize = 1;

    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn enter<K: Kernel>(kernel: K) {
        kernel.run::<Avx2>();
    }

    #[inline(always)]
    fn splat(value: f32) -> Self {
        avx2!(Avx2(_mm256_set1_ps(value), _mm256_set1_ps(value)))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        avx2!(Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))))
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, lanes: usize) -> Self {
        avx2!({
            let mask = Avx2::first(lanes);
            let low = _mm256_maskload_ps(from, _mm256_castps_si256(mask.0));
            Avx2(low, _mm256_maskload_ps(from.wrapping_add(8), _mm256_castps_si256(mask.1)))
        })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        avx2!({
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, lanes: usize) {
        avx2!({
            let mask = Avx2::first(lanes);
            _mm256_maskstore_ps(to, _mm256_castps_si256(mask.0), self.0);
            _mm256_maskstore_ps(to.wrapping_add(8), _mm256_castps_si256(mask.1), self.1);
        })
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(from: *const u8) -> [Self; 2] {
        avx2!({
            let pairs = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
            let low = |pair| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair));
            let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            let high = |pair| _mm256_castsi256_ps(_mm256_and_si256(pair, mask));
            [Avx2(low(pairs[0]), low(pairs[1])), Avx2(high(pairs[0]), high(pairs[1]))]
        })
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |left, right| avx2!(_mm256_add_ps(left, right)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |left, right| avx2!(_mm256_sub_ps(left, right)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |left, right| avx2!(_mm256_mul_ps(left, right)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |left, right| avx2!(_mm256_div_ps(left, right)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        avx2!(Avx2(_mm256_fmadd_ps(self.0, factor.0, term.0), _mm256_fmadd_ps(self.1, factor.1, term.1)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |left, right| avx2!(_mm256_max_ps(left, right)))
    }

    #[inline(always)]
    fn first_or(self, lanes: usize, other: Self) -> Self {
        Avx2::blend(other, self, Avx2::first(lanes))
    }

    #[inline(always)]
    fn less_select(self, bound: Self, yes: Self, no: Self) -> Self {
        let less = self.zip(bound, |left, right| avx2!(_mm256_cmp_ps::<_CMP_LT_OQ>(left, right)));
        Avx2::blend(no, yes, less)
    }

    #[inline(always)]
    fn add_exponent(self, rounded: Self) -> Self {
        self.zip(rounded, |value, rounded| {
            avx2!({
                let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
                _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), exponent))
            })
        })
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        avx2!(_mm_prefetch::<_MM_HINT_T1>(address.cast()))
    }

    #[inline(always)]
    fn swap_pairs(self) -> Self {
        avx2!(Avx2(_mm256_permute_ps::<0b10_11_00_01>(self.0), _mm256_permute_ps::<0b10_11_00_01>(self.1)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        avx2!({
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        })
    }

    #[inline(always)]
    fn max_lane(self) -> f32 {
        avx2!({
            let eight = _mm256_max_ps(self.0, self.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        })
    }
}
