//! Chooses the next token of a sequence from its logits.
//!
//! The order of work gives vLLM's results: finite check, log-probabilities of the model's own distribution, logit
//! bias, penalties, ban of ending tokens before `min_tokens` (last, since nothing can lift it), then greedy, or
//! temperature, min-p, top-k, top-p and a draw.
//!
//! A choice depends on the request, the sequence's own tokens and its own logits, and on nothing else. The random
//! number of the n-th token is a function of the seed and n, so neither the order of rows in a batch, nor other
//! sequences, nor a preemption can change a text.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use crate::executor::{RowError, panic_text};
use crate::request::{Sampling, Stopping, TokenId};

mod choose;
mod exp;
mod logprobs;
mod philox;
#[cfg(test)]
mod tests;

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
    /// Tokens that would end the sequence, and the length up to which they may not.
    ending: Vec<TokenId>,
    min_tokens: usize,
    num_logprobs: Option<usize>,
    /// Occurrences in the output. Tokens of the prompt are here too, at zero, if the repetition penalty needs them.
    occurrences: BTreeMap<TokenId, u32>,
    num_sampled: u64,
}

impl Sampler {
    /// A sampler for a sequence that has sampled nothing yet. The settings come from a checked
    /// [`crate::request::Request`].
    pub fn new(settings: &Sampling, stopping: &Stopping, prompt: &[TokenId], num_logprobs: Option<usize>) -> Self {
        let repeats = settings.repetition_penalty != 1.0;
        let seen = prompt.iter().filter(|_| repeats);
        Self {
            settings: settings.clone(),
            ending: stopping.ending_tokens().collect(),
            min_tokens: stopping.min_tokens,
            num_logprobs,
            occurrences: seen.map(|token| (*token, 0)).collect(),
            num_sampled: 0,
        }
    }

    /// Chooses the next token from one row of logits, which it uses as scratch.
    ///
    /// # Errors
    /// A logit that is not finite, or rules that leave no token.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<Sampled, RowError> {
        if !logprobs::all_finite(logits) {
            return Err(RowError::NotFinite);
        }
        let model = self.num_logprobs.map(|_| logprobs::Distribution::new(logits));
        self.apply_rules(logits);
        let draw = philox::uniform(self.settings.seed, self.num_sampled);
        let token = choose::token(logits, &self.settings, draw).ok_or(RowError::EverythingBanned)?;
        self.count(token);
        Ok(Sampled {
            token,
            logprob: model.as_ref().map(|model| model.logprob(token)),
            top: model.map_or_else(Vec::new, |model| model.top(self.num_logprobs.unwrap_or(0))),
        })
    }

    /// How many tokens it has chosen.
    pub fn num_sampled(&self) -> u64 {
        self.num_sampled
    }

    fn apply_rules(&self, logits: &mut [f32]) {
        for (token, bias) in &self.settings.logit_bias {
            change(logits, *token, |logit| logit + bias);
        }
        for (token, count) in &self.occurrences {
            change(logits, *token, |logit| self.penalized(logit, *count));
        }
        if self.num_sampled < self.min_tokens as u64 {
            for token in &self.ending {
                change(logits, *token, |_| f32::NEG_INFINITY);
            }
        }
    }

    /// Repetition (CTRL, arXiv 1909.05858 §4.1), then frequency and presence (OpenAI's API reference).
    fn penalized(&self, logit: f32, count: u32) -> f32 {
        let settings = &self.settings;
        let repetition = settings.repetition_penalty;
        let logit = if logit > 0.0 { logit / repetition } else { logit * repetition };
        // An extreme penalty must neither make an infinity, of which two would make a NaN, nor a ban.
        let logit = logit.clamp(f32::MIN, f32::MAX);
        if count == 0 {
            return logit;
        }
        logit - settings.frequency_penalty * count as f32 - settings.presence_penalty
    }

    fn count(&mut self, token: TokenId) {
        self.num_sampled += 1;
        let settings = &self.settings;
        let penalties = [settings.frequency_penalty, settings.presence_penalty];
        if settings.repetition_penalty != 1.0 || penalties != [0.0, 0.0] {
            *self.occurrences.entry(token).or_default() += 1;
        }
    }
}

/// Samples one row for an executor: a panic of the sampler becomes that row's error, and the other rows go on.
///
/// # Errors
/// See [`Sampler::sample`].
pub fn sample_row(sampler: &Mutex<Sampler>, logits: &mut [f32]) -> Result<Sampled, RowError> {
    let attempt = AssertUnwindSafe(|| {
        // Poison means that this very sequence failed before; its owner has been told.
        sampler.lock().unwrap_or_else(PoisonError::into_inner).sample(logits)
    });
    catch_unwind(attempt).unwrap_or_else(|panic| Err(RowError::Panicked(panic_text(&*panic))))
}

/// Ids of requests are checked; an end-of-sequence token of a model's files may still lie outside its own vocabulary.
fn change(logits: &mut [f32], token: TokenId, by: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize) {
        *logit = by(*logit);
    }
}
