//! Text on this side, tokens on the engine's: tokenizer, incremental detokenizer, stop strings, chat templates.
//!
//! The engine knows only token ids. What turns a prompt into ids and the engine's ids back into text lives here, and
//! is used alike by the HTTP server and by offline generation: [`Generation`] is the one place where a stream of
//! tokens becomes text.
//!
//! Invariants:
//! - the deltas of a [`Detokenizer`], put together, are the decoded whole, whatever the split;
//! - no delta ever holds part of a character, or a part of a stop string that may still complete;
//! - templates come from the checkpoint only, and run with a bound on steps and output.
//!
//! This module must not know HTTP, devices or KV pages.

mod decoding;
mod detokenizer;
mod generation;
mod stop;
mod template;
mod tokenizer;

pub use detokenizer::Detokenizer;
pub use generation::{Delta, Finish, Generation, GenerationError, Outline, Settings, TokenBytes, TokenText, Usage};
pub use stop::{StopError, StopMatch, StopStrings};
pub use template::{ChatTemplate, TemplateError};
pub use tokenizer::{Tokenizer, TokenizerError};

#[cfg(test)]
pub(crate) mod fixtures;
