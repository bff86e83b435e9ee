//! From adjusted logits to one token.
//!
//! Of tokens that weigh the same, the lower id counts as the larger, so every filter has one answer.

use std::cmp::Ordering;

use super::exp::exp;
use crate::request::{Sampling, TokenId};

/// A token and its weight: a logit, or a probability up to a common factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) weight: f32,
}

impl Candidate {
    /// One per weight, in the order of ids.
    pub(super) fn all(weights: &[f32]) -> impl Iterator<Item = Self> + Clone {
        (0..).zip(weights).map(|(token, &weight)| Self { token, weight })
    }

    /// Larger first.
    fn order(&self, other: &Self) -> Ordering {
        other.weight.total_cmp(&self.weight).then(self.token.cmp(&other.token))
    }
}

/// Chooses by `settings`, given a number of [0, 1) to draw with. Negative infinity bans a token; `None` if all are.
/// Overwrites the logits.
pub(super) fn token(logits: &mut [f32], settings: &Sampling, draw: f64) -> Option<TokenId> {
    let most = largest(logits);
    if most == f32::NEG_INFINITY {
        return None;
    }
    if settings.temperature == 0.0 {
        return Candidate::all(logits).find(|best| best.weight == most).map(|best| best.token);
    }
    weigh(logits, most, settings);
    let weights = logits;
    if settings.top_k == 0 && settings.top_p >= 1.0 {
        return pick(Candidate::all(weights), draw);
    }
    let mut candidates: Vec<_> = Candidate::all(weights).filter(|c| c.weight > 0.0).collect();
    if settings.top_k > 0 {
        keep_largest(&mut candidates, settings.top_k);
    }
    if settings.top_p < 1.0 {
        keep_nucleus(&mut candidates, settings.top_p);
    }
    pick(candidates.iter().copied(), draw)
}

/// The largest of some logits; negative infinity if there are none. Eight at a time, which vectorises.
pub(super) fn largest(logits: &[f32]) -> f32 {
    let (blocks, rest) = logits.as_chunks::<8>();
    let mut lanes = [f32::NEG_INFINITY; 8];
    for block in blocks {
        for (lane, logit) in lanes.iter_mut().zip(block) {
            *lane = if *logit > *lane { *logit } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Leaves the `count` largest, largest first.
pub(super) fn keep_largest(candidates: &mut Vec<Candidate>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, Candidate::order);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(Candidate::order);
}

/// Turns logits into probabilities relative to the most probable token, after temperature and min-p.
fn weigh(logits: &mut [f32], most: f32, settings: &Sampling) {
    for logit in logits {
        let weight = exp((*logit - most) / settings.temperature);
        *logit = if weight >= settings.min_p { weight } else { 0.0 };
    }
}

/// Leaves the fewest largest that together hold `top_p` of the mass (Holtzman et al., arXiv 1904.09751), largest
/// first. Few tokens usually do, so this sorts a growing head instead of the whole vocabulary.
fn keep_nucleus(candidates: &mut Vec<Candidate>, top_p: f32) {
    let goal = total(candidates.iter().copied()) * f64::from(top_p);
    let (mut num_sorted, mut mass) = (0, 0.0);
    while num_sorted < candidates.len() {
        let tail = &mut candidates[num_sorted..];
        let head = sort_head(tail, num_sorted.max(64));
        for candidate in head {
            mass += f64::from(candidate.weight);
            num_sorted += 1;
            if mass >= goal {
                candidates.truncate(num_sorted);
                return;
            }
        }
    }
}

/// Brings the `count` largest to the front, sorted, and gives them.
fn sort_head(candidates: &mut [Candidate], count: usize) -> &[Candidate] {
    let count = count.min(candidates.len());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, Candidate::order);
    }
    let head = &mut candidates[..count];
    head.sort_unstable_by(Candidate::order);
    head
}

/// Inverts the cumulative distribution at `draw`.
fn pick(candidates: impl Iterator<Item = Candidate> + Clone, draw: f64) -> Option<TokenId> {
    let goal = total(candidates.clone()) * draw;
    let mut mass = 0.0;
    let mut last = None;
    for candidate in candidates.filter(|candidate| candidate.weight > 0.0) {
        mass += f64::from(candidate.weight);
        last = Some(candidate.token);
        if mass > goal {
            break;
        }
    }
    last
}

fn total(candidates: impl Iterator<Item = Candidate>) -> f64 {
    candidates.map(|candidate| f64::from(candidate.weight)).sum()
}
