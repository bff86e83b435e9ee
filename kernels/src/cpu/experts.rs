//! Products with the matrices of the experts that each row goes to.
//!
//! Pairs of a row and one of its experts are grouped by expert; a group of pairs is then an ordinary product. Its rows
//! are gathered side by side, and each item's outputs scattered to the places of their pairs. An expert that no row
//! goes to is not read at all. An item is a strip of an expert's matrix for up to [`GROUP_ROWS`] of its pairs, as in
//! `linear`, whose accumulation order this shares: how pairs meet in groups changes no bit.
#![allow(unsafe_code, reason = "rows are gathered and scattered through raw pointers")]

use std::cell::RefCell;
use std::ops::Range;

use super::linear::{GROUP_ROWS, STRIP_OUTPUTS, linear_strip, num_groups, num_strips, part};
use super::packed::PackedMatrix;
use super::view::{MatMut, MatRef, check_items, check_shape};

/// Number of work items of a product of these rows with the experts' matrices.
///
/// `experts` is `[rows, top_k]`: numbers of experts, held bit for bit as u32.
///
/// # Panics
/// If the number of an expert has no matrix.
pub fn expert_linear_items(experts: MatRef<'_>, weights: &[PackedMatrix]) -> usize {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.group(experts, weights.len());
        (0..weights.len()).map(|expert| scratch.num_items(expert, weights)).sum()
    })
}

/// `out[r, k] = x[r, k] . weights[experts[r, k]]^T (+ bias[experts[r, k]])`, for some items of [`expert_linear_items`].
///
/// `out` is `[rows, top_k * outputs]`; `x` is `[rows, inputs]`, the same for all experts of a row, or
/// `[rows, top_k * inputs]`, columns of its own for each; `bias` is `[experts, outputs]`, one row after the other. Elements are summed as in [`super::linear()`]. `out` must not
/// overlap `x`.
///
/// # Panics
/// If the shapes do not agree, the number of an expert has no matrix, or `items` leaves the item count.
pub fn expert_linear(
    x: MatRef<'_>,
    experts: MatRef<'_>,
    weights: &[PackedMatrix],
    bias: Option<&[f32]>,
    out: MatMut<'_>,
    items: Range<usize>,
) {
    let Some(shape) = weights.first() else { return check_items(&items, 0) };
    let (rows, top_k, inputs) = (x.rows(), experts.columns(), shape.inputs());
    let own_columns = x.columns() != inputs;
    check_shape("experts", (experts.rows(), top_k), (rows, top_k));
    check_shape("x", (rows, x.columns()), (rows, if own_columns { top_k * inputs } else { inputs }));
    check_shape("out", (out.rows(), out.columns()), (rows, top_k * shape.outputs()));
    let num_biases = weights.len() * shape.outputs();
    check_shape("bias", (1, bias.map_or(num_biases, <[f32]>::len)), (1, num_biases));
    for weight in weights {
        check_shape("an expert", (weight.outputs(), weight.inputs()), (shape.outputs(), inputs));
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.group(experts, weights.len());
        Product { x, weights, bias, top_k, own_columns, out }.run(items, scratch);
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A thread's own memory, which grows to the largest launch.
#[derive(Default)]
struct Scratch {
    /// Pairs by expert, as `row * top_k + slot`; those of one expert by row.
    pairs: Vec<u32>,
    /// Where the pairs of each expert end.
    ends: Vec<usize>,
    /// Rows of a group, side by side.
    x: Vec<f32>,
    /// Outputs of an item.
    out: Vec<f32>,
}

impl Scratch {
    /// Sorts all pairs by expert.
    fn group(&mut self, experts: MatRef<'_>, num_experts: usize) {
        let top_k = experts.columns();
        let pairs = 0..experts.rows() * top_k;
        let expert = |pair: usize| {
            // SAFETY: `experts` has this row and as many columns as `top_k`.
            let number = unsafe { *experts.row(pair / top_k).add(pair % top_k) }.to_bits() as usize;
            assert!(number < num_experts, "expert {number} of {num_experts}");
            number
        };
        self.ends.clear();
        self.ends.resize(num_experts, 0);
        pairs.clone().for_each(|pair| self.ends[expert(pair)] += 1);
        let mut next = 0;
        for end in &mut self.ends {
            // Where the expert's pairs begin, for now; placing them moves it to where they end.
            (*end, next) = (next, next + *end);
        }
        self.pairs.clear();
        self.pairs.resize(pairs.len(), 0);
        for pair in pairs {
            let place = &mut self.ends[expert(pair)];
            self.pairs[*place] = pair as u32;
            *place += 1;
        }
    }

    fn pairs_of(&self, expert: usize) -> Range<usize> {
        expert.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[expert]
    }

    fn num_items(&self, expert: usize, weights: &[PackedMatrix]) -> usize {
        num_groups(self.pairs_of(expert).len()) * num_strips(&weights[expert])
    }
}

struct Product<'a> {
    x: MatRef<'a>,
    weights: &'a [PackedMatrix],
    bias: Option<&'a [f32]>,
    top_k: usize,
    /// Whether each expert of a row has columns of its own in `x`.
    own_columns: bool,
    out: MatMut<'a>,
}

impl Product<'_> {
    fn run(&self, items: Range<usize>, scratch: &mut Scratch) {
        let mut first = 0;
        for expert in 0..self.weights.len() {
            let end = first + scratch.num_items(expert, self.weights);
            let mine = items.start.max(first)..items.end.min(end);
            if !mine.is_empty() {
                self.expert(expert, mine.start - first..mine.end - first, scratch);
            }
            first = end;
        }
        check_items(&items, first);
    }

    /// Some items of one expert, group by group.
    fn expert(&self, expert: usize, items: Range<usize>, scratch: &mut Scratch) {
        let (pairs, strips) = (scratch.pairs_of(expert), num_strips(&self.weights[expert]));
        let num_groups = num_groups(pairs.len());
        for group in items.start / strips..items.end.div_ceil(strips) {
            let pairs = part(pairs.clone(), group, num_groups);
            self.gather(pairs.clone(), scratch);
            for item in items.start.max(group * strips)..items.end.min((group + 1) * strips) {
                self.strip(expert, item % strips, pairs.clone(), scratch);
            }
        }
    }

    fn gather(&self, pairs: Range<usize>, scratch: &mut Scratch) {
        let (inputs, stride) = (self.inputs(), self.stride());
        scratch.x.resize(scratch.x.len().max(GROUP_ROWS * stride), 0.0);
        for (to, &pair) in scratch.x.chunks_exact_mut(stride).zip(&scratch.pairs[pairs]) {
            let (row, slot) = (pair as usize / self.top_k, pair as usize % self.top_k);
            let from = self.x.row(row).wrapping_add(if self.own_columns { slot * inputs } else { 0 });
            // SAFETY: `expert_linear` checked that the row has these columns; scratch is this thread's own.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), inputs) }
        }
    }

    fn strip(&self, expert: usize, strip: usize, pairs: Range<usize>, scratch: &mut Scratch) {
        let weight = &self.weights[expert];
        let bias = self.bias.map(|bias| &bias[expert * weight.outputs()..(expert + 1) * weight.outputs()]);
        let first = strip * STRIP_OUTPUTS;
        let columns = (weight.outputs() - first).min(STRIP_OUTPUTS);
        scratch.out.resize(GROUP_ROWS * STRIP_OUTPUTS, 0.0);
        let x = MatRef::with_stride(&scratch.x, pairs.len(), self.inputs(), self.stride());
        let out = MatMut::with_stride(&mut scratch.out, pairs.len(), columns, STRIP_OUTPUTS);
        linear_strip(x, weight, bias, strip, out);
        for (from, &pair) in scratch.out.chunks_exact(STRIP_OUTPUTS).zip(&scratch.pairs[pairs]) {
            let (row, slot) = (pair as usize / self.top_k, pair as usize % self.top_k);
            let to = self.out.row(row).wrapping_add(slot * weight.outputs() + first);
            // SAFETY: `expert_linear` checked that the row has these columns, and this item owns them.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, columns) }
        }
    }

    fn inputs(&self) -> usize {
        self.weights.first().map_or(0, |weight| weight.inputs())
    }

    /// Distance of gathered rows: never a multiple of a page, so that they do not all fall into one set of the cache.
    fn stride(&self) -> usize {
        self.inputs().next_multiple_of(16) + 16
    }
}
