//! The serving loop: form a step, launch it, read the one before.

use crate::request::TokenId;
use crate::sampler::Sampled;

/// What the engine tells the owner of a request, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// One new token.
    Token(Sampled),
    /// The last event of a request that ran.
    Finished {
        /// Why it ended.
        reason: FinishReason,
    },
    /// The last event of a request that failed.
    Failed(String),
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token.
    EndOfSequence(TokenId),
    /// One of the request's stop tokens.
    StopToken(TokenId),
    /// `max_tokens` or the end of the context.
    Length,
}
