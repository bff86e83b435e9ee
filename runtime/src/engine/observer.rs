//! What the engine tells a metrics module as it happens, for histograms.

use std::time::Duration;

use super::{Ending, SubmitError};

/// Hears of steps, tokens and ends. Called on the engine's thread (refusals: on the caller's), so every method must
/// return at once.
pub trait EngineObserver: Send + Sync {
    /// A step was collected.
    fn on_step(&self, _step: &StepSummary) {}

    /// A request gave its first token, this long after its arrival.
    fn on_first_token(&self, _time_to_first_token: Duration) {}

    /// A request gave a further token, this long after the one before.
    fn on_token(&self, _inter_token: Duration) {}

    /// A request ended.
    fn on_finished(&self, _request: &RequestSummary) {}

    /// A request was not taken.
    fn on_refused(&self, _error: &SubmitError) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl EngineObserver for Unobserved {}

/// A step, after it was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSummary {
    /// Rows of its dense batch.
    pub num_tokens: usize,
    /// Rows that were decodes.
    pub num_decode_tokens: usize,
    /// Sequences with a part in it.
    pub num_seqs: usize,
    /// From its launch to the end of its collection; overlaps the step before.
    pub elapsed: Duration,
}

/// A request, after it ended. Times that it never reached are `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSummary {
    /// How it ended.
    pub ending: Ending,
    /// Length of its prompt.
    pub num_prompt_tokens: usize,
    /// Tokens sampled for it.
    pub num_generated_tokens: usize,
    /// Most tokens it could have had.
    pub max_tokens: usize,
    /// How often it gave up its pages.
    pub num_preemptions: usize,
    /// From arrival to the launch of its first step.
    pub queued: Option<Duration>,
    /// From the launch of its first step to its first token.
    pub prefill: Option<Duration>,
    /// From its first token to its last.
    pub decode: Option<Duration>,
    /// From arrival to its end.
    pub end_to_end: Duration,
}

impl RequestSummary {
    /// From the launch of its first step to its last token.
    pub fn inference(&self) -> Option<Duration> {
        Some(self.prefill? + self.decode?)
    }

    /// Mean time between its tokens, if it has at least two.
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let num_gaps = u32::try_from(self.num_generated_tokens.checked_sub(1)?).ok()?;
        self.decode?.checked_div(num_gaps)
    }
}
