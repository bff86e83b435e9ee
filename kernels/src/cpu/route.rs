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

/// Experts in `count` equal groups, one group's after the other's, of which a row goes to the `top` best: those with the
/// highest sums of their `best` highest scores, and of equals the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// How many groups.
    pub count: usize,
    /// How many of them are chosen from.
    pub top: usize,
    /// How many experts of a group say how good it is.
    pub best: usize,
}

/// How experts are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// From logits to scores.
    pub scoring: Scoring,
    /// Whether shares are scores divided by the sum of the chosen ones.
    pub renormalize: bool,
    /// One element per expert, added to scores for the choice, not for the shares.
    pub bias: Option<&'a [f32]>,
    /// Only experts of the best groups are chosen, by the scores with the bias.
    pub groups: Option<Groups>,
}

/// Chooses the `top_k` experts with the highest scores for the rows `items`: `experts` gets their numbers, bit for bit
/// as u32, by falling score and the lower number first among equals; `shares` their scores, divided by the sum of the
/// chosen ones if `renormalize`. With a `bias`, which is chosen and in what order is decided by score + bias; shares are
/// scores without it. With `groups`, experts outside the best ones are not chosen. A score that is not a number counts as the lowest.
///
/// # Panics
/// If the shapes do not agree, there are fewer experts to choose from than `top_k`, or `items` leaves the rows.
pub fn route(logits: MatRef<'_>, by: &Choice<'_>, experts: MatMut<'_>, shares: MatMut<'_>, items: Range<usize>) {
    let (rows, top_k) = (logits.rows(), experts.columns());
    check_shape("experts", (experts.rows(), top_k), (rows, top_k));
    check_shape("shares", (shares.rows(), shares.columns()), (rows, top_k));
    check_shape("bias", (1, by.bias.map_or(logits.columns(), <[f32]>::len)), (1, logits.columns()));
    assert!(top_k <= logits.columns(), "{top_k} of {} experts", logits.columns());
    if let Some(Groups { count, top, best }) = by.groups {
        assert!(count > 0 && logits.columns().is_multiple_of(count), "{} experts in {count} groups", logits.columns());
        let each = logits.columns() / count;
        assert!(best <= each && top <= count && top_k <= top * each, "{:?} of {} experts", by.groups, logits.columns());
    }
    check_items(&items, rows);
    dispatch(Route { logits, by, experts, shares, items });
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
    by: &'a Choice<'a>,
    experts: MatMut<'a>,
    shares: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Route<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (num_experts, top_k) = (self.logits.columns(), self.experts.columns());
        let Choice { scoring, renormalize, bias, groups } = *self.by;
        let mut grouped = groups.map(|groups| Grouped::new(groups, num_experts));
        for row in self.items.clone() {
            // SAFETY: `route` checked that the views have this row with these columns; this item owns what it writes.
            let (logits, experts, shares) = unsafe {
                (
                    std::slice::from_raw_parts(self.logits.row(row), num_experts),
                    std::slice::from_raw_parts_mut(self.experts.row(row), top_k),
                    std::slice::from_raw_parts_mut(self.shares.row(row), top_k),
                )
            };
            let mut chosen = Chosen { experts, keys: shares, count: 0 };
            match (&mut grouped, bias) {
                (None, None) => chosen.consider(0, logits),
                (None, Some(bias)) => {
                    keys::<V>(logits, Some(bias), scoring, |first, keys| chosen.consider(first, keys));
                }
                (Some(grouped), bias) => grouped.choose::<V>(logits, bias, scoring, &mut chosen),
            }
            for (share, expert) in shares.iter_mut().zip(experts) {
                *share = logits[expert.to_bits() as usize];
            }
            score::<V>(logits, scoring, renormalize, shares);
        }
    }
}

/// The best experts of those looked at so far, by falling key: one pass over all experts, which looks further than the
/// last of the best only for those that are better.
struct Chosen<'a> {
    experts: &'a mut [f32],
    keys: &'a mut [f32],
    count: usize,
}

impl Chosen<'_> {
    /// Looks at the experts from number `first` on, which have these keys. Numbers rise from call to call, so that of
    /// equals the lower stays in front.
    #[inline(always)]
    fn consider(&mut self, first: usize, keys: &[f32]) {
        for (index, &key) in keys.iter().enumerate() {
            let key = if key.is_nan() { f32::NEG_INFINITY } else { key };
            let is_full = self.count == self.keys.len();
            if is_full && self.keys.last().is_none_or(|last| key <= *last) {
                continue;
            }
            self.count += usize::from(!is_full);
            let mut place = self.count - 1;
            while place > 0 && key > self.keys[place - 1] {
                (self.keys[place], self.experts[place]) = (self.keys[place - 1], self.experts[place - 1]);
                place -= 1;
            }
            (self.keys[place], self.experts[place]) = (key, f32::from_bits((first + index) as u32));
        }
    }
}

/// Working memory of the choice among groups.
struct Grouped {
    groups: Groups,
    /// Of all experts.
    keys: Vec<f32>,
    /// The highest keys of a group, with their experts.
    best: Vec<f32>,
    best_experts: Vec<f32>,
    /// The best groups, with how good they are.
    top: Vec<f32>,
    top_groups: Vec<f32>,
}

impl Grouped {
    fn new(groups: Groups, num_experts: usize) -> Self {
        let [best, best_experts] = [(); 2].map(|()| vec![0.0; groups.best]);
        let [top, top_groups] = [(); 2].map(|()| vec![0.0; groups.top]);
        Grouped { groups, keys: vec![0.0; num_experts], best, best_experts, top, top_groups }
    }

    #[inline(always)]
    fn choose<V: Vector>(&mut self, logits: &[f32], bias: Option<&[f32]>, scoring: Scoring, chosen: &mut Chosen<'_>) {
        keys::<V>(logits, bias, scoring, |first, keys| self.keys[first..first + keys.len()].copy_from_slice(keys));
        let each = self.keys.len() / self.groups.count;
        let mut top = Chosen { experts: &mut self.top_groups, keys: &mut self.top, count: 0 };
        for (group, keys) in self.keys.chunks_exact(each).enumerate() {
            let mut best = Chosen { experts: &mut self.best_experts, keys: &mut self.best, count: 0 };
            best.consider(0, keys);
            top.consider(group, &[self.best.iter().sum()]);
        }
        // Numbers rise, so that of equal experts the lower stays in front.
        self.top_groups.sort_unstable_by_key(|group| group.to_bits());
        for group in self.top_groups.iter().map(|group| group.to_bits() as usize) {
            chosen.consider(group * each, &self.keys[group * each..(group + 1) * each]);
        }
    }
}

/// Gives the score, or score + bias, of all experts: a stretch of them at a time, with the number of its first.
#[inline(always)]
fn keys<V: Vector>(logits: &[f32], bias: Option<&[f32]>, scoring: Scoring, mut give: impl FnMut(usize, &[f32])) {
    let highest =
        logits.iter().fold(f32::NEG_INFINITY, |highest, &logit| if logit > highest { logit } else { highest });
    let sum = match scoring {
        Scoring::Softmax => V::splat(sum_of_exponentials::<V>(logits, highest)),
        Scoring::Sigmoid => V::splat(1.0),
    };
    for at in (0..logits.len()).step_by(LANES) {
        let mut keys = [0.0; LANES];
        // SAFETY: `at` lies in the logits, and a bias has as many elements; the array is one vector.
        unsafe {
            let score = raw_score(load_at::<V>(logits.as_ptr(), at, logits.len()), scoring, highest).div(sum);
            let key = bias.map_or(score, |bias| score.add(load_at(bias.as_ptr(), at, logits.len())));
            key.store(keys.as_mut_ptr());
        }
        give(at, &keys[..(logits.len() - at).min(LANES)]);
    }
}

/// A score before the softmax's division.
#[inline(always)]
fn raw_score<V: Vector>(logit: V, scoring: Scoring, highest: f32) -> V {
    match scoring {
        Scoring::Softmax => math::exp(logit.sub(V::splat(highest))),
        Scoring::Sigmoid => math::sigmoid(logit),
    }
}

/// From the logits of the chosen experts to their shares, in place.
#[inline(always)]
fn score<V: Vector>(logits: &[f32], scoring: Scoring, renormalize: bool, chosen: &mut [f32]) {
    // The largest exponent is 0: of all experts, or of the chosen, whose shares depend on nothing else then.
    let among: &[f32] = if renormalize { chosen } else { logits };
    let highest = among.iter().fold(f32::NEG_INFINITY, |highest, &logit| if logit > highest { logit } else { highest });
    for at in (0..chosen.len()).step_by(LANES) {
        // SAFETY: `at` lies in the slice.
        unsafe {
            let score = raw_score(load_at::<V>(chosen.as_ptr(), at, chosen.len()), scoring, highest);
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
