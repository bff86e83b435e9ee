//! A request as the engine takes it: token ids and settings, checked once.
//!
//! Only [`Request::new`] makes one, so the engine never meets an empty prompt, an id outside the vocabulary or a
//! temperature that is not a number. Text does not exist on this side: stop strings, templates and detokenisation
//! belong to [`crate::text`].

use std::fmt;
use std::ops::{Bound, RangeBounds};

/// A token's number in the vocabulary.
pub type TokenId = u32;

/// What the caller asks for, before it has been checked.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The prompt, at least one token.
    pub prompt: Vec<TokenId>,
    /// How each next token is chosen.
    pub sampling: Sampling,
    /// When to stop.
    pub stopping: Stopping,
    /// How many of the most probable tokens to report beside each chosen one; `None` reports no log-probabilities.
    pub num_logprobs: Option<usize>,
}

/// How the next token is chosen from the logits.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 keeps all tokens.
    pub top_k: usize,
    /// Keeps the most probable tokens up to this mass; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this share as probable as the most probable one; 0 keeps all.
    pub min_p: f32,
    /// Subtracted once from the logit of each token that the output holds.
    pub presence_penalty: f32,
    /// Subtracted per occurrence in the output.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Added to logits by token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Key of the counter-based generator: the same seed gives the same text in any company.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// When a sequence ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stopping {
    /// At most this many new tokens; `None` goes on to the end of the context.
    pub max_tokens: Option<usize>,
    /// No end-of-sequence or stop token before this many new tokens.
    pub min_tokens: usize,
    /// The model's end-of-sequence tokens, from `generation_config.json` or `config.json`.
    pub eos: Vec<TokenId>,
    /// Further tokens that end the sequence.
    pub stop_tokens: Vec<TokenId>,
    /// Go on past end-of-sequence tokens (benchmarks); `stop_tokens` still stop.
    pub ignore_eos: bool,
}

impl Stopping {
    /// Every token that ends the sequence.
    pub fn ending_tokens(&self) -> impl Iterator<Item = TokenId> {
        let eos = self.eos.iter().filter(|_| !self.ignore_eos);
        eos.chain(&self.stop_tokens).copied()
    }
}

/// What the model and the settings of the server allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows of the output matrix: ids are below it.
    pub vocab: usize,
    /// Longest sequence, prompt and output together, in tokens.
    pub max_model_len: usize,
    /// Most alternatives that may be reported per token.
    pub max_logprobs: usize,
}

/// A checked request.
#[derive(Debug, Clone)]
pub struct Request {
    draft: Draft,
    max_tokens: usize,
}

/// Why a draft was refused. [`RequestError::param`] names the guilty field as the HTTP API spells it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// A prompt must hold at least one token.
    #[error("the prompt holds no token")]
    EmptyPrompt,
    /// An id that the model has no row for.
    #[error("`{param}`: token id {token} is not below the vocabulary's {vocab}")]
    TokenOutsideVocab {
        /// The field that holds it.
        param: &'static str,
        /// The id.
        token: TokenId,
        /// Ids must be below this.
        vocab: usize,
    },
    /// A real number outside its range, or not finite.
    #[error("`{param}` is {value}, allowed is {allowed}")]
    FloatOutOfRange {
        /// The field.
        param: &'static str,
        /// What it holds.
        value: f32,
        /// What it may hold.
        allowed: FloatRange,
    },
    /// A count outside its range.
    #[error("`{param}` is {value}, allowed is {least} to {most}")]
    CountOutOfRange {
        /// The field.
        param: &'static str,
        /// What it holds.
        value: usize,
        /// The least it may hold.
        least: usize,
        /// The most it may hold.
        most: usize,
    },
    /// Prompt and output together are longer than the context; an output takes at least one token.
    #[error(
        "the context holds {max_model_len} tokens, but the prompt has {num_prompt_tokens} \
         and the output asks for {}", asked(*.max_tokens)
    )]
    ContextOverflow {
        /// Length of the prompt.
        num_prompt_tokens: usize,
        /// What the caller asked for, if anything.
        max_tokens: Option<usize>,
        /// Longest sequence.
        max_model_len: usize,
    },
}

impl RequestError {
    /// The guilty field, for the `param` of an OpenAI error.
    pub fn param(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "prompt",
            Self::ContextOverflow { num_prompt_tokens, max_model_len, .. } if num_prompt_tokens >= max_model_len => {
                "prompt"
            }
            Self::ContextOverflow { .. } => "max_tokens",
            Self::TokenOutsideVocab { param, .. }
            | Self::FloatOutOfRange { param, .. }
            | Self::CountOutOfRange { param, .. } => param,
        }
    }
}

fn asked(max_tokens: Option<usize>) -> String {
    match max_tokens {
        Some(tokens) => format!("{tokens}"),
        None => "at least 1".to_owned(),
    }
}

/// The values a real number may take; never NaN or infinite. Prints as `(0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatRange {
    least: Bound<f32>,
    most: Bound<f32>,
}

impl FloatRange {
    const fn new(least: Bound<f32>, most: Bound<f32>) -> Self {
        Self { least, most }
    }

    fn contains(&self, value: f32) -> bool {
        value.is_finite() && (self.least, self.most).contains(&value)
    }
}

impl fmt::Display for FloatRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.least {
            Bound::Included(least) => write!(f, "[{least}, ")?,
            Bound::Excluded(least) => write!(f, "({least}, ")?,
            Bound::Unbounded => write!(f, "(-inf, ")?,
        }
        match self.most {
            Bound::Included(most) => write!(f, "{most}]"),
            Bound::Excluded(most) => write!(f, "{most})"),
            Bound::Unbounded => write!(f, "inf)"),
        }
    }
}

const NOT_NEGATIVE: FloatRange = FloatRange::new(Bound::Included(0.0), Bound::Unbounded);
const POSITIVE: FloatRange = FloatRange::new(Bound::Excluded(0.0), Bound::Unbounded);
const SHARE: FloatRange = FloatRange::new(Bound::Included(0.0), Bound::Included(1.0));
const POSITIVE_SHARE: FloatRange = FloatRange::new(Bound::Excluded(0.0), Bound::Included(1.0));
const PENALTY: FloatRange = FloatRange::new(Bound::Included(-2.0), Bound::Included(2.0));
const BIAS: FloatRange = FloatRange::new(Bound::Included(-100.0), Bound::Included(100.0));

impl Request {
    /// Checks a draft.
    ///
    /// # Errors
    /// The first rule that the draft breaks, in the order: prompt, lengths, sampling, stopping, log-probabilities.
    pub fn new(draft: Draft, bounds: Bounds) -> Result<Self, RequestError> {
        check_prompt(&draft.prompt, bounds)?;
        let max_tokens = check_lengths(&draft, bounds)?;
        check_sampling(&draft.sampling, bounds)?;
        check_count("stop_token_ids", draft.stopping.stop_tokens.len(), 0, bounds.vocab)?;
        check_tokens("stop_token_ids", draft.stopping.stop_tokens.iter().copied(), bounds)?;
        check_count("logprobs", draft.num_logprobs.unwrap_or(0), 0, bounds.max_logprobs)?;
        Ok(Self { draft, max_tokens })
    }

    /// The prompt, at least one token.
    pub fn prompt(&self) -> &[TokenId] {
        &self.draft.prompt
    }

    /// How each next token is chosen.
    pub fn sampling(&self) -> &Sampling {
        &self.draft.sampling
    }

    /// When the sequence ends; for the length see [`Request::max_tokens`].
    pub fn stopping(&self) -> &Stopping {
        &self.draft.stopping
    }

    /// How many alternatives to report beside each chosen token; `None` reports no log-probabilities.
    pub fn num_logprobs(&self) -> Option<usize> {
        self.draft.num_logprobs
    }

    /// At most this many new tokens, at least one; with the prompt they fit the context.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Most positions whose keys and values are ever kept. The last token is sampled but never fed back.
    pub fn max_kv_tokens(&self) -> usize {
        self.draft.prompt.len() + self.max_tokens - 1
    }
}

fn check_prompt(prompt: &[TokenId], bounds: Bounds) -> Result<(), RequestError> {
    if prompt.is_empty() {
        return Err(RequestError::EmptyPrompt);
    }
    check_tokens("prompt", prompt.iter().copied(), bounds)
}

/// Gives the length of the output in tokens, with `None` resolved to the rest of the context.
fn check_lengths(draft: &Draft, bounds: Bounds) -> Result<usize, RequestError> {
    let stopping = &draft.stopping;
    let room = bounds.max_model_len.saturating_sub(draft.prompt.len());
    if room == 0 || stopping.max_tokens.is_some_and(|tokens| tokens > room) {
        return Err(RequestError::ContextOverflow {
            num_prompt_tokens: draft.prompt.len(),
            max_tokens: stopping.max_tokens,
            max_model_len: bounds.max_model_len,
        });
    }
    let max_tokens = stopping.max_tokens.unwrap_or(room);
    check_count("max_tokens", max_tokens, 1, room)?;
    check_count("min_tokens", stopping.min_tokens, 0, max_tokens)?;
    Ok(max_tokens)
}

fn check_sampling(sampling: &Sampling, bounds: Bounds) -> Result<(), RequestError> {
    check_float("temperature", sampling.temperature, NOT_NEGATIVE)?;
    check_float("top_p", sampling.top_p, POSITIVE_SHARE)?;
    check_float("min_p", sampling.min_p, SHARE)?;
    check_float("presence_penalty", sampling.presence_penalty, PENALTY)?;
    check_float("frequency_penalty", sampling.frequency_penalty, PENALTY)?;
    check_float("repetition_penalty", sampling.repetition_penalty, POSITIVE)?;
    check_count("logit_bias", sampling.logit_bias.len(), 0, bounds.vocab)?;
    check_tokens("logit_bias", sampling.logit_bias.iter().map(|(token, _)| *token), bounds)?;
    sampling.logit_bias.iter().try_for_each(|(_, bias)| check_float("logit_bias", *bias, BIAS))
}

fn check_float(param: &'static str, value: f32, allowed: FloatRange) -> Result<(), RequestError> {
    if allowed.contains(value) {
        return Ok(());
    }
    Err(RequestError::FloatOutOfRange { param, value, allowed })
}

fn check_count(param: &'static str, value: usize, least: usize, most: usize) -> Result<(), RequestError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(RequestError::CountOutOfRange { param, value, least, most })
}

fn check_tokens(
    param: &'static str,
    mut tokens: impl Iterator<Item = TokenId>,
    bounds: Bounds,
) -> Result<(), RequestError> {
    let vocab = bounds.vocab;
    match tokens.find(|token| *token as usize >= vocab) {
        Some(token) => Err(RequestError::TokenOutsideVocab { param, token, vocab }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
