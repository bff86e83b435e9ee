//! Chooses the next token of a sequence from its logits.

use crate::request::{Sampling, TokenId};

/// The chosen token, with log-probabilities when they were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The chosen token.
    pub token: TokenId,
    /// Its natural log-probability under the model's own distribution, before any setting of the request; `None` when
    /// log-probabilities were not asked for.
    pub logprob: Option<f32>,
    /// The most probable tokens, most probable first, as many as were asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// One sequence's sampling state: settings, counts of its tokens, and how many tokens it has sampled.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
}
