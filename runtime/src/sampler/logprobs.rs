//! The model's own distribution, as it was before any setting of the request.

use super::choose::{Candidate, keep_largest, largest};
use super::exp::exp;
use crate::request::TokenId;

/// Whether no logit is NaN or infinite. Works in blocks without an early exit inside them, which vectorises.
pub(super) fn all_finite(logits: &[f32]) -> bool {
    logits.chunks(1024).all(|block| block.iter().fold(true, |ok, logit| ok & logit.is_finite()))
}

/// Logits with their log-sum-exp.
pub(super) struct Distribution {
    logits: Vec<f32>,
    log_sum: f64,
}

impl Distribution {
    /// Of finite logits.
    pub(super) fn new(logits: &[f32]) -> Self {
        let most = largest(logits);
        let sum: f64 = logits.iter().map(|logit| f64::from(exp(logit - most))).sum();
        Self { logits: logits.to_vec(), log_sum: f64::from(most) + sum.ln() }
    }

    /// Natural log-probability of a token; negative infinity for one outside the vocabulary.
    pub(super) fn logprob(&self, token: TokenId) -> f32 {
        let logit = self.logits.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(logit) - self.log_sum) as f32
    }

    /// The `count` most probable tokens, most probable first; of equals the one with the lower id first.
    pub(super) fn top(&self, count: usize) -> Vec<(TokenId, f32)> {
        if count == 0 {
            return Vec::new();
        }
        let mut candidates: Vec<Candidate> = Candidate::all(&self.logits).collect();
        keep_largest(&mut candidates, count);
        candidates.iter().map(|best| (best.token, self.logprob(best.token))).collect()
    }
}
