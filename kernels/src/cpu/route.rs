//! Routing of rows to experts: an item is a row.
#![allow(unsafe_code, reason = "rows are views of raw memory")]

use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::math;
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// How a router turns logits into scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// e^x / sum of e^x over all experts.
    Softmax,
    /// 1 / (1 + e^-x) of each expert alone.
    Sigmoid,
}

/// Chooses the `top_k` experts with the highest logits for the rows `items`: `experts` gets their numbers, bit for bit
/// as u32, by falling logit and the lower number first among equals; `shares` their scores, divided by the sum of the
/// chosen ones if `renormalize`. A logit that is not a number counts as the lowest.
///
/// # Panics
/// If the shapes do not agree, there are fewer experts than `top_k`, or `items` leaves the rows.
pub fn route(
    logits: MatRef<'_>,
    scoring: Scoring,
    renormalize: bool,
    experts: MatMut<'_>,
    shares: MatMut<'_>,
    items: Range<usize>,
) {
    let (rows, top_k) = (logits.rows(), experts.columns());
    check_shape("experts", (experts.rows(), top_k), (rows, top_k));
    check_shape("shares", (shares.rows(), shares.columns()), (rows, top_k));
    assert!(top_k <= logits.columns(), "{top_k} of {} experts", logits.columns());
    check_items(&items, rows);
    dispatch(Route { logits, scoring, renormalize, experts, shares, items });
}

/// `out[r] = sum over k of shares[r, k] * x[r, k]` for the rows `items`: one accumulator per element, over ascending k
/// by fused multiply-add. `out` must not overlap `x`.
///
/// # Panics
/// If the shapes do not agree or `items` leaves the rows.
pub fn combine(x: MatRef<'_>, shares: MatRef<'_>, out: MatMut<'_>, items: Range<usize>) {
    check_shape("x", (x.rows(), x.columns()), (out.rows(), shares.columns() * out.columns()));
    check_shape("shares", (shares.rows(), shares.columns()), (x.rows(), shares.columns()));
    check_items(&items, x.rows());
    dispatch(Combine { x, shares, out, items });
}

struct Route<'a> {
    logits: MatRef<'a>,
    scoring: Scoring,
    renormalize: bool,
    experts: MatMut<'a>,
    shares: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Route<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (num_experts, top_k) = (self.logits.columns(), self.experts.columns());
        for row in self.items.clone() {
            // SAFETY: `route` checked that the views have this row with these columns; this item owns what it writes.
            let (logits, experts, shares) = unsafe {
                (
                    std::slice::from_raw_parts(self.logits.row(row), num_experts),
                    std::slice::from_raw_parts_mut(self.experts.row(row), top_k),
                    std::slice::from_raw_parts_mut(self.shares.row(row), top_k),
                )
            };
            choose(logits, experts, shares);
            score::<V>(logits, self.scoring, self.renormalize, shares);
        }
    }
}

/// The numbers and logits of the chosen experts.
#[inline(always)]
fn choose(logits: &[f32], experts: &mut [f32], chosen: &mut [f32]) {
    let mut last = None;
    for (expert, chosen) in experts.iter_mut().zip(chosen) {
        let best = best_after(logits, last);
        (*expert, *chosen) = (f32::from_bits(best as u32), logits[best]);
        last = Some(best);
    }
}

/// The expert that follows `last` by falling logit, the lower number first among equals.
#[inline(always)]
fn best_after(logits: &[f32], last: Option<usize>) -> usize {
    let logit = |expert: usize| if logits[expert].is_nan() { f32::NEG_INFINITY } else { logits[expert] };
    let mut best = None;
    for expert in 0..logits.len() {
        let follows = match last {
            None => true,
            Some(last) => logit(expert) < logit(last) || (logit(expert) == logit(last) && expert > last),
        };
        let is_better = match best {
            None => true,
            Some(best) => logit(expert) > logit(best),
        };
        if follows && is_better {
            best = Some(expert);
        }
    }
    best.unwrap_or(0)
}

/// From the logits of the chosen experts to their shares, in place.
#[inline(always)]
fn score<V: Vector>(logits: &[f32], scoring: Scoring, renormalize: bool, chosen: &mut [f32]) {
    let Some(&highest) = chosen.first() else { return };
    for at in (0..chosen.len()).step_by(LANES) {
        // SAFETY: `at` lies in the slice.
        unsafe {
            let logit = load_at::<V>(chosen.as_ptr(), at, chosen.len());
            let score = match scoring {
                Scoring::Softmax => math::exp(logit.sub(V::splat(highest))),
                Scoring::Sigmoid => sigmoid(logit),
            };
            store_at(score, chosen.as_mut_ptr(), at, chosen.len());
        }
    }
    let sum = match (scoring, renormalize) {
        (_, true) => chosen.iter().sum(),
        (Scoring::Softmax, false) => sum_of_exponentials::<V>(logits, highest),
        (Scoring::Sigmoid, false) => return,
    };
    for share in chosen {
        *share /= sum;
    }
}

#[inline(always)]
fn sigmoid<V: Vector>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(math::exp(V::splat(0.0).sub(x))))
}

/// Lane `i % 16` sums e^(x - highest) of element `i`; lanes are added by halving.
#[inline(always)]
fn sum_of_exponentials<V: Vector>(logits: &[f32], highest: f32) -> f32 {
    let mut sum = V::splat(0.0);
    for at in (0..logits.len()).step_by(LANES) {
        // SAFETY: `at` lies in the slice.
        let logit = unsafe { load_at::<V>(logits.as_ptr(), at, logits.len()) };
        let exponential = math::exp(logit.sub(V::splat(highest)));
        sum = sum.add(exponential.first_or((logits.len() - at).min(LANES), V::splat(0.0)));
    }
    sum.sum()
}

struct Combine<'a> {
    x: MatRef<'a>,
    shares: MatRef<'a>,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Combine<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (columns, top_k) = (self.out.columns(), self.shares.columns());
        for row in self.items.clone() {
            for at in (0..columns).step_by(LANES) {
                let mut sum = V::splat(0.0);
                for slot in 0..top_k {
                    // SAFETY: `combine` checked that both rows have these columns.
                    unsafe {
                        let share = V::splat(*self.shares.row(row).add(slot));
                        sum = load_at::<V>(self.x.row(row).add(slot * columns), at, columns).mul_add(share, sum);
                    }
                }
                // SAFETY: `out` has this row with `columns` columns, and `at < columns`.
                unsafe { store_at(sum, self.out.row(row), at, columns) }
            }
        }
    }
}
