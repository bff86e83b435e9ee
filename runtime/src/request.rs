//! A request as the engine takes it: token ids and settings, checked once.
//!
//! Only [`Request::new`] makes one, so the engine never meets an empty prompt, an id outside the vocabulary or a
//! temperature that is not a number. Text does not exist on this side: stop strings, templates and detokenisation
//! belong to [`crate::text`].

use std::fmt;

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

/// What the model and the settings of the server allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Rows of the output matrix: ids are below it.
    pub vocab: usize,
    /// Longest sequence, prompt and output together.
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
