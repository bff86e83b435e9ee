//! Log-probabilities as the two routes show them.
//!
//! A token's bytes need not be characters. The chat route gives them as numbers beside the text; the completion route
//! writes a token that is no text as `bytes:\xf0\x9f`, as OpenAI does, so that distinct tokens stay distinct keys.

use std::fmt::Write;

use indexmap::IndexMap;
use serde::Serialize;

use crate::text::{TokenBytes, TokenText};

/// Below this, JSON has no number for a log-probability: a token of probability zero, as in vLLM.
const LEAST_LOGPROB: f32 = -9999.0;

/// `logprobs` of a choice of `/v1/completions`: parallel lists.
#[derive(Debug, Default, Serialize)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<IndexMap<String, f32>>,
    /// Characters before each token, counted from the start of the text with its echo.
    text_offset: Vec<usize>,
}

/// `logprobs` of a choice of `/v1/chat/completions`.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<ChatToken>,
}

#[derive(Debug, Serialize)]
struct ChatToken {
    #[serde(flatten)]
    token: ChatAlternative,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Debug, Serialize)]
struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl CompletionLogprobs {
    /// Lists `tokens`, the first of which begins `offset` characters into the text; leaves where the last one ends.
    pub(super) fn new(tokens: &[TokenText], offset: &mut usize) -> Self {
        let mut lists = Self::default();
        for token in tokens {
            let text = printable(&token.token.bytes);
            lists.text_offset.push(*offset);
            *offset += String::from_utf8_lossy(&token.token.bytes).chars().count();
            lists.token_logprobs.push(finite(token.token.logprob));
            lists.top_logprobs.push(top(token));
            lists.tokens.push(text);
        }
        lists
    }
}

/// The alternatives by their text, and the chosen token among them.
fn top(token: &TokenText) -> IndexMap<String, f32> {
    let all = token.top.iter().chain([&token.token]);
    all.map(|token| (printable(&token.bytes), finite(token.logprob))).collect()
}

impl ChatLogprobs {
    /// Lists `tokens`.
    pub(super) fn new(tokens: &[TokenText]) -> Self {
        let content = tokens.iter().map(|token| ChatToken {
            token: ChatAlternative::new(&token.token),
            top_logprobs: token.top.iter().map(ChatAlternative::new).collect(),
        });
        Self { content: content.collect() }
    }
}

impl ChatAlternative {
    fn new(token: &TokenBytes) -> Self {
        Self {
            token: String::from_utf8_lossy(&token.bytes).into_owned(),
            logprob: finite(token.logprob),
            bytes: token.bytes.clone(),
        }
    }
}

fn finite(logprob: f32) -> f32 {
    logprob.max(LEAST_LOGPROB)
}

fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}
