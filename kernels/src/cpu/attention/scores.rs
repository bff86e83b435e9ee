//! What happens to scores between `q . K^T` and the softmax.
#![allow(unsafe_code, reason = "scores are loaded as vectors")]

use crate::cpu::isa::Kernel;
use crate::cpu::kv::KEY_BLOCK;
use crate::cpu::math;
use crate::cpu::vector::{LANES, Vector};
use crate::cpu::view::check_shape;

/// How scores are made from products of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores<'a> {
    /// Factor of every product.
    pub scale: f32,
    /// Bounds scaled scores: `softcap * tanh(score / softcap)`. 0: none.
    pub softcap: f32,
    /// How many positions a row sees, its own included: at position `p` those above `p - window` and up to `p`. 0: all.
    pub window: usize,
    /// One logit for each query head, neither scaled nor bounded, which takes part in the softmax's maximum and
    /// denominator and adds no value.
    pub sinks: Option<&'a [f32]>,
    /// One slope for each query head (Press, Smith and Lewis, arXiv 2108.12409): `slope * (key position - query
    /// position)` is added to scores after scaling and bounding.
    pub slopes: Option<&'a [f32]>,
}

impl Scores<'_> {
    /// Scaled scores of all earlier positions.
    pub fn plain(scale: f32) -> Self {
        Scores { scale, softcap: 0.0, window: 0, sinks: None, slopes: None }
    }

    /// The first position that the row at `position` sees.
    #[inline(always)]
    pub(super) fn first_key(&self, position: usize) -> usize {
        if self.window == 0 { 0 } else { (position + 1).saturating_sub(self.window) }
    }

    /// Whether scores change between product and softmax.
    #[inline(always)]
    pub(super) fn are_changed(&self) -> bool {
        self.softcap != 0.0 || self.slopes.is_some()
    }

    /// # Panics
    /// If sinks or slopes are not one for each head.
    pub(super) fn check(&self, heads: usize) {
        for (what, values) in [("sinks", self.sinks), ("slopes", self.slopes)] {
            check_shape(what, (1, values.map_or(heads, <[f32]>::len)), (1, heads));
        }
    }
}

/// Scores of some query rows of an item against one key block, from scaled products to what enters the softmax.
pub(super) struct Change<'a> {
    pub(super) by: &'a Scores<'a>,
    /// `[rows][KEY_BLOCK]`.
    pub(super) scores: &'a mut [f32],
    /// The item's row that the first of these is.
    pub(super) first_row: usize,
    /// Query heads of a kv head: row `r` of the item is head `r % group` of token `r / group`.
    pub(super) group: usize,
    /// The query head of the item's first row.
    pub(super) first_head: usize,
    /// The position of the item's first token.
    pub(super) first_position: usize,
    /// The position of the block's first key.
    pub(super) first_key: usize,
}

impl Kernel for Change<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for (row, scores) in (self.first_row..).zip(self.scores.chunks_exact_mut(KEY_BLOCK)) {
            let slope = self.by.slopes.map(|slopes| slopes[self.first_head + row % self.group]);
            // Positions are integers far below 2^24: their distance is exact.
            let distance = self.first_key as f32 - (self.first_position + row / self.group) as f32;
            for (half, scores) in scores.chunks_exact_mut(LANES).enumerate() {
                // SAFETY: `scores` and the constant are one vector each.
                unsafe {
                    let score = V::load(scores.as_ptr());
                    let score = if self.by.softcap == 0.0 { score } else { math::soft_cap(score, self.by.softcap) };
                    let score = match slope {
                        None => score,
                        Some(slope) => {
                            let lanes = V::load(LANE_NUMBERS.as_ptr());
                            let distance = lanes.add(V::splat(distance + (half * LANES) as f32));
                            distance.mul_add(V::splat(slope), score)
                        }
                    };
                    score.store(scores.as_mut_ptr());
                }
            }
        }
    }
}

const LANE_NUMBERS: [f32; LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// ALiBi's slopes (Press, Smith and Lewis, arXiv 2108.12409, section 3): 2^(-8i / heads) for `i` in `1..=heads` where
/// `heads` is a power of two; else those of the power of two below, then every other one of twice as many, as BLOOM
/// has them.
pub fn alibi_slopes(heads: usize) -> Vec<f32> {
    let whole = heads.checked_ilog2().map_or(0, |power| 1 << power);
    let slope = |exponent: usize, of: usize| (-8.0 * exponent as f64 / of as f64).exp2() as f32;
    let first = (1..=whole).map(|index| slope(index, whole));
    first.chain((0..heads - whole).map(|index| slope(2 * index + 1, 2 * whole))).collect()
}
