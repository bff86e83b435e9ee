//! Normalization of rows, or of equal stretches of a row each by itself.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// Independent partial sums of a row, in vectors: element `i` goes to lane `i % 64`.
const CHAINS: usize = 4;

/// `out = x / sqrt(mean(x^2) + eps) * weight` for the rows `items` (Zhang and Sennrich, arXiv 1910.07467).
///
/// Each stretch of `group` columns has a mean of its own. `weight` has `group` elements, the same for all stretches, or
/// as many as `x` has columns; without it the factor is 1. `out` may be exactly `x`.
///
/// # Panics
/// If the shapes do not agree, `group` does not divide the columns or `items` leaves the rows.
pub fn rms_norm(x: MatRef<'_>, weight: Option<&[f32]>, eps: f32, group: usize, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_group("weight", weight, group, x.columns());
    check_items(&items, x.rows());
    dispatch(RmsNorm { x, weight, eps, group, out, items });
}

/// `out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias` for the rows `items` (Ba, Kiros and Hinton,
/// arXiv 1607.06450).
///
/// Each stretch of `group` columns has means of its own. `weight` and `bias` have `group` elements each, the same for
/// all stretches, or as many as `x` has columns; without them they are 1 and 0. `out` may be exactly `x`.
///
/// # Panics
/// If the shapes do not agree, `group` does not divide the columns or `items` leaves the rows.
pub fn layer_norm(
    x: MatRef<'_>,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    group: usize,
    out: MatMut<'_>,
    items: Range<usize>,
) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_group("weight", weight, group, x.columns());
    check_group("bias", bias, group, x.columns());
    check_items(&items, x.rows());
    dispatch(LayerNorm { x, weight, bias, eps, group, out, items });
}

fn check_group(what: &str, vector: Option<&[f32]>, group: usize, columns: usize) {
    assert!(group > 0 && columns.is_multiple_of(group), "{columns} columns in stretches of {group}");
    let length = vector.map_or(group, <[f32]>::len);
    assert!(length == group || length == columns, "{what} of {length} for {columns} columns in stretches of {group}");
}

/// The elements of a vector for the stretch that begins at column `first`; all vectors are as long as a stretch or a row.
#[inline(always)]
fn stretch(vector: Option<&[f32]>, first: usize, group: usize) -> Option<&[f32]> {
    vector.map(|vector| if vector.len() == group { vector } else { &vector[first..first + group] })
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
    weight: Option<&'a [f32]>,
    eps: f32,
    group: usize,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for RmsNorm<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            for first in (0..self.x.columns()).step_by(self.group) {
                let (x, out) = (self.x.row(row).wrapping_add(first), self.out.row(row).wrapping_add(first));
                let weight = stretch(self.weight, first, self.group);
                // SAFETY: both views have this row with a stretch from `first`, and `weight` is as long as that.
                unsafe { norm_stretch::<V>(x, weight, self.eps, out, self.group) }
            }
        }
    }
}

struct LayerNorm<'a> {
    x: MatRef<'a>,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
    group: usize,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for LayerNorm<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            for first in (0..self.x.columns()).step_by(self.group) {
                self.stretch::<V>(row, first);
            }
        }
    }
}

impl LayerNorm<'_> {
    #[inline(always)]
    fn stretch<V: Vector>(&self, row: usize, first: usize) {
        let group = self.group;
        let (x, out) = (self.x.row(row).wrapping_add(first), self.out.row(row).wrapping_add(first));
        let (weight, bias) = (stretch(self.weight, first, group), stretch(self.bias, first, group));
        // SAFETY: both views have this row with a stretch from `first`, and weight and bias are as long as that.
        unsafe {
            let mean = V::splat(sum_of::<V, Itself>(x, group, V::splat(0.0)) / group as f32);
            let variance = sum_of::<V, Squared>(x, group, mean) / group as f32;
            let factor = V::splat(1.0 / (variance + self.eps).sqrt());
            for at in (0..group).step_by(LANES) {
                let mut value = load_at::<V>(x, at, group).sub(mean).mul(factor);
                if let Some(weight) = weight {
                    value = value.mul(load_at(weight.as_ptr(), at, group));
                }
                if let Some(bias) = bias {
                    value = value.add(load_at(bias.as_ptr(), at, group));
                }
                store_at(value, out, at, group);
            }
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
                norm_stretch::<V>(sum, Some(self.weight), self.eps, self.norm_out.row(row), columns);
            }
        }
    }
}

/// # Safety
/// `x` is readable and `out` writable for `columns` f32; `weight` has as many.
#[inline(always)]
unsafe fn norm_stretch<V: Vector>(x: *const f32, weight: Option<&[f32]>, eps: f32, out: *mut f32, columns: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mean = sum_of::<V, Squared>(x, columns, V::splat(0.0)) / columns as f32;
        let factor = V::splat(1.0 / (mean + eps).sqrt());
        for at in (0..columns).step_by(LANES) {
            let normal = load_at::<V>(x, at, columns).mul(factor);
            let weighted = match weight {
                Some(weight) => normal.mul(load_at(weight.as_ptr(), at, columns)),
                None => normal,
            };
            store_at(weighted, out, at, columns);
        }
    }
}

/// What is summed of each element.
trait Term {
    /// `sum` and the term of `value`.
    fn add<V: Vector>(value: V, sum: V) -> V;
}

struct Itself;
struct Squared;

impl Term for Itself {
    #[inline(always)]
    fn add<V: Vector>(value: V, sum: V) -> V {
        sum.add(value)
    }
}

impl Term for Squared {
    #[inline(always)]
    fn add<V: Vector>(value: V, sum: V) -> V {
        value.mul_add(value, sum)
    }
}

/// The sum of the terms of `x - mean`. Lane `i % 64` accumulates element `i`, squares by fused multiply-add; the four
/// vectors are added as (0 + 1) + (2 + 3), then lanes by halving. Missing elements of the last lanes are zero.
///
/// # Safety
/// `x` is readable for `columns` f32.
#[inline(always)]
unsafe fn sum_of<V: Vector, T: Term>(x: *const f32, columns: usize, mean: V) -> f32 {
    let mut sums = [V::splat(0.0); CHAINS];
    let whole = columns - columns % (CHAINS * LANES);
    for at in (0..whole).step_by(CHAINS * LANES) {
        for (chain, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `at + 64 <= columns`.
            let value = unsafe { V::load(x.add(at + chain * LANES)) };
            *sum = T::add(value.sub(mean), *sum);
        }
    }
    for (chain, at) in (whole..columns).step_by(LANES).enumerate() {
        // SAFETY: `at < columns`.
        let value = unsafe { load_at::<V>(x, at, columns) }.sub(mean);
        sums[chain] = T::add(value.first_or(columns - at, V::splat(0.0)), sums[chain]);
    }
    sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
}
