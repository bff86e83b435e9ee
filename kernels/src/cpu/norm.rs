//! Root mean square normalization.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// Independent partial sums of a row, in vectors: element `i` goes to lane `i % 64`.
const CHAINS: usize = 4;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for the rows `items` (Zhang and Sennrich, arXiv 1910.07467).
///
/// `weight` has `columns` elements. `out` may be exactly `x`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn rms_norm(x: MatRef<'_>, weight: &[f32], eps: f32, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_shape("weight", (1, weight.len()), (1, x.columns()));
    check_items(&items, x.rows());
    dispatch(RmsNorm { x, weight, eps, out, items });
}

/// `sum_out = a + b`, `norm_out = rms_norm(sum_out)`, for the rows `items`.
///
/// `sum_out` may be exactly `a` or `b`; `norm_out` overlaps none of the others.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn add_rms_norm(
    a: MatRef<'_>,
    b: MatRef<'_>,
    weight: &[f32],
    eps: f32,
    sum_out: MatMut<'_>,
    norm_out: MatMut<'_>,
    items: Range<usize>,
) {
    let shape = (a.rows(), a.columns());
    check_shape("b", (b.rows(), b.columns()), shape);
    check_shape("sum_out", (sum_out.rows(), sum_out.columns()), shape);
    check_shape("norm_out", (norm_out.rows(), norm_out.columns()), shape);
    check_shape("weight", (1, weight.len()), (1, a.columns()));
    check_items(&items, a.rows());
    dispatch(AddRmsNorm { a, b, weight, eps, sum_out, norm_out, items });
}

struct RmsNorm<'a> {
    x: MatRef<'a>,
    weight: &'a [f32],
    eps: f32,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            // SAFETY: both views have this row with as many columns as `weight`.
            unsafe { norm_row::<V>(self.x.row(row), self.weight, self.eps, self.out.row(row)) }
        }
    }
}

struct AddRmsNorm<'a> {
    a: MatRef<'a>,
    b: MatRef<'a>,
    weight: &'a [f32],
    eps: f32,
    sum_out: MatMut<'a>,
    norm_out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for AddRmsNorm<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let columns = self.a.columns();
        for row in self.items.clone() {
            let (a, b, sum) = (self.a.row(row), self.b.row(row), self.sum_out.row(row));
            // SAFETY: all views have this row with as many columns as `weight`.
            unsafe {
                for at in (0..columns).step_by(LANES) {
                    let total = load_at::<V>(a, at, columns).add(load_at(b, at, columns));
                    store_at(total, sum, at, columns);
                }
                norm_row::<V>(sum, self.weight, self.eps, self.norm_out.row(row));
            }
        }
    }
}

/// # Safety
/// `x` is readable and `out` writable for as many f32 as `weight` has.
#[inline(always)]
unsafe fn norm_row<V: Vector>(x: *const f32, weight: &[f32], eps: f32, out: *mut f32) {
    let columns = weight.len();
    // SAFETY: the caller's promise.
    unsafe {
        let mean = sum_of_squares::<V>(x, columns) / columns as f32;
        let factor = V::splat(1.0 / (mean + eps).sqrt());
        for at in (0..columns).step_by(LANES) {
            let normal = load_at::<V>(x, at, columns).mul(factor);
            store_at(normal.mul(load_at(weight.as_ptr(), at, columns)), out, at, columns);
        }
    }
}

/// Lane `i % 64` accumulates element `i` by fused multiply-add; the four vectors are added as (0 + 1) + (2 + 3), then
/// lanes by halving. Missing elements of the last lanes are zero.
///
/// # Safety
/// `x` is readable for `columns` f32.
#[inline(always)]
unsafe fn sum_of_squares<V: Vector>(x: *const f32, columns: usize) -> f32 {
    let mut sums = [V::splat(0.0); CHAINS];
    let whole = columns - columns % (CHAINS * LANES);
    for at in (0..whole).step_by(CHAINS * LANES) {
        for (chain, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 64 <= columns`.
            let value = unsafe { V::load(x.add(at + chain * LANES)) };
            *sum = value.mul_add(value, *sum);
        }
    }
    for (chain, at) in (whole..columns).step_by(LANES).enumerate() {
        // SAFETY: `at < columns`.
        let value = unsafe { load_at::<V>(x, at, columns) };
        sums[chain] = value.mul_add(value, sums[chain]);
    }
    sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
}
