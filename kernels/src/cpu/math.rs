//! Transcendental functions as fixed sequences of vector operations, identical on every path.

use super::vector::Vector;

/// 1.5 * 2^23: adding it rounds a small float to an integer that sits in the low mantissa bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; products of the first with small integers are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Below this, `exp` is zero: the result would leave the normal range.
const EXP_LOWEST: f32 = -87.0;
const EXP_HIGHEST: f32 = 88.0;

/// Minimax polynomial of e^r on |r| <= ln(2)/2, highest degree first; error 2e-9.
const EXP: [f32; 7] = [0.001_394_121_3, 0.008_375_21, 0.041_666_35, 0.166_664_14, 0.5, 1.0, 1.0];

/// Minimax polynomial of e^(z^2) erfc(z) / t for t = 1 / (1 + z/2) on 1/5.6 <= t <= 1, highest degree first; error 2e-9.
const ERFC: [f32; 11] = [
    0.030_388_73,
    -0.159_455_4,
    0.300_206_47,
    -0.169_372_22,
    -0.135_135_28,
    0.106_037_99,
    0.025_351_7,
    0.193_740_36,
    0.243_762_71,
    0.282_392_4,
    0.282_082_55,
];

/// Where [`tanh`] is a polynomial: below this.
const TANH_SMALL: f32 = 0.625;

/// Minimax polynomial of (tanh(x) - x) / x^3 in x^2 on |x| <= 0.625, highest degree first; error of tanh(x) / x 5e-9.
const TANH: [f32; 5] = [-0.005_717_055, 0.020_650_597, -0.053_743_5, 0.133_314_91, -0.333_332_84];

#[inline(always)]
fn polynomial<V: Vector, const TERMS: usize>(coefficients: &[f32; TERMS], x: V) -> V {
    let mut sum = V::splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, V::splat(coefficient));
    }
    sum
}

/// e^x: relative error below 2e-7 on [-87, 88], zero below -87, e^88 above 88, NaN of NaN.
///
/// x = n ln 2 + r with integer n and |r| <= ln(2)/2; e^x = 2^n e^r (Cody and Waite's reduction).
#[inline(always)]
pub(crate) fn exp<V: Vector>(x: V) -> V {
    // Bounds come first: a comparison with NaN then leaves the NaN.
    let clamped = V::splat(EXP_LOWEST).max(x);
    let clamped = V::splat(EXP_HIGHEST).less_select(clamped, V::splat(EXP_HIGHEST), clamped);
    let rounded = clamped.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDER));
    let n = rounded.sub(V::splat(ROUNDER));
    let r = n.mul_add(V::splat(-LN2_HIGH), clamped);
    let r = n.mul_add(V::splat(-LN2_LOW), r);
    let result = polynomial(&EXP, r).add_exponent(rounded);
    x.less_select(V::splat(EXP_LOWEST), V::splat(0.0), result)
}

/// 1 / (1 + e^-x): relative error below 4e-7 above -87.
#[inline(always)]
pub(crate) fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// x / (1 + e^(-slope x)).
#[inline(always)]
pub(crate) fn swish<V: Vector>(x: V, slope: f32) -> V {
    x.div(V::splat(1.0).add(exp(V::splat(0.0).sub(x.mul(V::splat(slope))))))
}

/// (e^x - e^-x) / (e^x + e^-x): relative error below 3e-7.
///
/// 1 - 2 / (e^2|x| + 1) would cancel near 0; there it is a polynomial.
#[inline(always)]
pub(crate) fn tanh<V: Vector>(x: V) -> V {
    let (zero, one, two) = (V::splat(0.0), V::splat(1.0), V::splat(2.0));
    let size = x.max(zero.sub(x));
    let large = one.sub(two.div(exp(two.mul(size)).add(one)));
    let large = x.less_select(zero, zero.sub(large), large);
    let square = x.mul(x);
    let small = polynomial(&TANH, square).mul(square).mul_add(x, x);
    size.less_select(V::splat(TANH_SMALL), small, large)
}

/// cap tanh(x / cap), for a cap that is not 0.
#[inline(always)]
pub(crate) fn soft_cap<V: Vector>(x: V, cap: f32) -> V {
    tanh(x.div(V::splat(cap))).mul(V::splat(cap))
}

/// x where it lies within `-limit..=limit`, else the nearer bound; NaN of NaN.
#[inline(always)]
pub(crate) fn clamp<V: Vector>(x: V, limit: f32) -> V {
    at_most(V::splat(-limit).max(x), limit)
}

/// x or `limit`, whichever is less; NaN of NaN.
#[inline(always)]
pub(crate) fn at_most<V: Vector>(x: V, limit: f32) -> V {
    V::splat(limit).less_select(x, V::splat(limit), x)
}

/// x (1 + tanh(u)) / 2 = x / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks and Gimpel, arXiv 1606.08415).
#[inline(always)]
pub(crate) fn gelu_tanh<V: Vector>(x: V) -> V {
    let inner = x.mul(x).mul_add(V::splat(0.044_715), V::splat(1.0)).mul(x);
    x.div(V::splat(1.0).add(exp(inner.mul(V::splat(-1.595_769)))))
}

/// x Phi(x) with the exact normal distribution function, by erfc of |x| / sqrt(2); absolute error below 1e-6 |x|.
#[inline(always)]
pub(crate) fn gelu<V: Vector>(x: V) -> V {
    let (zero, one, half) = (V::splat(0.0), V::splat(1.0), V::splat(0.5));
    let z = x.max(zero.sub(x)).mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
    let t = one.div(z.mul_add(half, one));
    let tail = polynomial(&ERFC, t).mul(t).mul(exp(zero.sub(z.mul(z)))).mul(half);
    x.mul(x.less_select(zero, tail, one.sub(tail)))
}
