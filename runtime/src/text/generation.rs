//! A request's tokens, as text: the one place where a stream of tokens becomes deltas of a text.
//!
//! The server and offline generation read it alike. It ends a text at a stop string by dropping the engine's stream,
//! which cancels the request; tokens already on their way are discarded.

use std::sync::Arc;

use super::{Detokenizer, StopError, StopMatch, StopStrings, Tokenizer};
use crate::engine::{Event, Failure, FinishReason, Stream};
use crate::request::{Request, TokenId};
use crate::sampler::Sampled;

/// How tokens are turned into text, beside what the engine's request says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Leave out tokens that the tokenizer marks as special.
    pub skip_special_tokens: bool,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// Keep the stop string, or the text of the stop token, in the output.
    pub include_stop: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { skip_special_tokens: true, stop: Vec::new(), include_stop: false }
    }
}

/// A piece of the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// New text, often empty while a character or a stop string is undecided.
    pub text: String,
    /// The tokens that came with it, if log-probabilities were asked for. Their texts may run ahead of `text`.
    pub tokens: Vec<TokenText>,
    /// Why the text ended, in the last delta only.
    pub finish: Option<Finish>,
}

/// Why a text ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model's end-of-sequence token.
    EndOfSequence,
    /// A stop token of the request.
    StopToken(TokenId),
    /// A stop string of the request.
    StopString(String),
    /// `max_tokens`, or the end of the context.
    Length,
}

/// A token with its log-probability and alternatives.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenText {
    /// The chosen token.
    pub token: TokenBytes,
    /// The most probable tokens, most probable first.
    pub top: Vec<TokenBytes>,
}

/// A token's bytes and its natural log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBytes {
    /// Its id.
    pub id: TokenId,
    /// What it adds to a text; not necessarily whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Length of the prompt, in tokens.
    pub num_prompt_tokens: usize,
    /// Tokens sampled, with the one that ended the text.
    pub num_generated_tokens: usize,
}

/// The request failed after the engine took it; the text so far stays valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the generation failed: {0}")]
pub struct GenerationError(#[from] pub Failure);

/// A request's answer as it comes. Dropping it cancels the request.
pub struct Generation {
    /// `None` once the text has ended.
    stream: Option<Stream>,
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    stops: StopStrings,
    include_stop: bool,
    min_tokens: usize,
    usage: Usage,
}

/// What must be known of a request once the engine has it.
#[derive(Debug, Clone)]
pub struct Outline {
    num_prompt_tokens: usize,
    min_tokens: usize,
}

impl Outline {
    /// The outline of `request`.
    pub fn of(request: &Request) -> Self {
        Self { num_prompt_tokens: request.prompt().len(), min_tokens: request.stopping().min_tokens }
    }
}

impl Generation {
    /// Reads the answer to the request outlined by `outline` from `stream`.
    ///
    /// # Errors
    /// A stop string is empty.
    pub fn new(
        stream: Stream,
        outline: &Outline,
        tokenizer: Arc<Tokenizer>,
        settings: &Settings,
    ) -> Result<Self, StopError> {
        Ok(Self {
            stream: Some(stream),
            detokenizer: Detokenizer::new(Arc::clone(&tokenizer), settings.skip_special_tokens),
            tokenizer,
            stops: StopStrings::new(settings.stop.clone(), settings.include_stop)?,
            include_stop: settings.include_stop,
            min_tokens: outline.min_tokens,
            usage: Usage { num_prompt_tokens: outline.num_prompt_tokens, num_generated_tokens: 0 },
        })
    }

    /// The next piece; `None` after the one with `finish`, or after an error.
    pub async fn next(&mut self) -> Option<Result<Delta, GenerationError>> {
        let event = self.stream.as_mut()?.next().await?;
        Some(self.take(event))
    }

    /// As [`Self::next`], for threads outside an asynchronous run-time.
    pub fn blocking_next(&mut self) -> Option<Result<Delta, GenerationError>> {
        let event = self.stream.as_mut()?.blocking_next()?;
        Some(self.take(event))
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn take(&mut self, event: Event) -> Result<Delta, GenerationError> {
        match event {
            Event::Token(sampled) => Ok(self.token(&sampled)),
            Event::Finished { reason, num_generated_tokens } => {
                self.stream = None;
                self.usage.num_generated_tokens = num_generated_tokens;
                Ok(self.end(reason))
            }
            Event::Failed(failure) => {
                self.stream = None;
                Err(GenerationError(failure))
            }
        }
    }

    fn token(&mut self, sampled: &Sampled) -> Delta {
        self.usage.num_generated_tokens += 1;
        let text = self.detokenizer.push(sampled.token);
        let tokens = self.token_text(sampled).into_iter().collect();
        let (text, finish) = self.watch(text);
        Delta { text, tokens, finish }
    }

    /// Looks for stop strings, but not in the first `min_tokens` tokens.
    fn watch(&mut self, text: String) -> (String, Option<Finish>) {
        if self.usage.num_generated_tokens <= self.min_tokens {
            return (text, None);
        }
        match self.stops.push(&text) {
            StopMatch::Text(text) => (text, None),
            StopMatch::Stopped { text, stop } => {
                self.stream = None;
                let stop = self.stops.get(stop).unwrap_or_default().to_owned();
                (text, Some(Finish::StopString(stop)))
            }
        }
    }

    fn end(&mut self, reason: FinishReason) -> Delta {
        let last = match reason {
            FinishReason::EndOfSequence(id) | FinishReason::StopToken(id) if self.include_stop => {
                self.detokenizer.push(id)
            }
            _ => String::new(),
        };
        let rest = last + &self.detokenizer.flush();
        let (text, stopped) = self.watch(rest);
        let text = text + &self.stops.flush();
        let finish = stopped.unwrap_or(match reason {
            FinishReason::EndOfSequence(_) => Finish::EndOfSequence,
            FinishReason::StopToken(id) => Finish::StopToken(id),
            FinishReason::Length => Finish::Length,
        });
        Delta { text, tokens: Vec::new(), finish: Some(finish) }
    }

    /// `None` unless log-probabilities were asked for.
    fn token_text(&self, sampled: &Sampled) -> Option<TokenText> {
        let bytes = |id, logprob| TokenBytes { id, bytes: self.tokenizer.token_bytes(id), logprob };
        Some(TokenText {
            token: bytes(sampled.token, sampled.logprob?),
            top: sampled.top.iter().map(|&(id, logprob)| bytes(id, logprob)).collect(),
        })
    }
}
