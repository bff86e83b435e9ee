//! Token ids to text, one at a time, exactly.
//!
//! What has been given out never changes: the deltas put together equal [`Tokenizer::decode`] of all ids, for any
//! tokens in any order. That decides what must be held back. Byte-level tokenizers hold back an incomplete
//! character. With byte fallback the library judges a *run* of byte tokens as a whole, and one invalid byte turns every
//! byte of the run into U+FFFD; so a run is held back until another token ends it.

use std::sync::Arc;

use super::Tokenizer;
use super::decoding::{Decoding, Piece};
use crate::request::TokenId;

/// Turns the tokens of one text into deltas. [`Self::push`] each id, then [`Self::flush`] once.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Bytes of a character that is not complete.
    ByteLevel { pending: Vec<u8> },
    /// A run of byte tokens, and what is still to be removed at the start of the text.
    Pieces { run: Vec<u8>, first: bool, strip: (char, usize) },
    /// Whether a token has been given out, so that the next needs a space.
    Joined { first: bool },
    /// All ids, the text of all but the last, and the bytes of it that have been given out.
    Whole { ids: Vec<TokenId>, text: String, given_bytes: usize },
}

impl Detokenizer {
    /// Starts a text. `skip_special_tokens` leaves out tokens that the tokenizer marks as special.
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special_tokens: bool) -> Self {
        let state = State::of(tokenizer.decoding());
        Self { tokenizer, skip_special: skip_special_tokens, state }
    }

    /// The text that is certain after one more token; often empty, never part of a character.
    pub fn push(&mut self, id: TokenId) -> String {
        if let State::Whole { ids, text, given_bytes } = &mut self.state {
            ids.push(id);
            let now = self.tokenizer.decode(ids, self.skip_special).unwrap_or_default();
            return settled(text, given_bytes, now);
        }
        let first = self.state.is_first();
        match self.tokenizer.piece(id, first, self.skip_special) {
            Some(piece) => self.state.push(piece),
            None => String::new(),
        }
    }

    /// The rest: what was held back, with U+FFFD for what never became a character.
    pub fn flush(&mut self) -> String {
        let next = State::of(self.tokenizer.decoding());
        std::mem::replace(&mut self.state, next).flush()
    }
}

impl State {
    fn of(decoding: &Decoding) -> Self {
        match decoding {
            Decoding::ByteLevel => Self::ByteLevel { pending: Vec::new() },
            Decoding::Pieces(pieces) => Self::Pieces { run: Vec::new(), first: true, strip: pieces.strip() },
            Decoding::Joined => Self::Joined { first: true },
            Decoding::Whole => Self::Whole { ids: Vec::new(), text: String::new(), given_bytes: 0 },
        }
    }

    fn is_first(&self) -> bool {
        matches!(self, Self::Pieces { first: true, .. } | Self::Joined { first: true })
    }

    fn push(&mut self, piece: Piece) -> String {
        match self {
            Self::ByteLevel { pending } => {
                pending.extend(into_bytes(piece));
                take_characters(pending)
            }
            Self::Pieces { run, first, strip } => {
                *first = false;
                let text = match piece {
                    Piece::Byte(byte) => {
                        run.push(byte);
                        return String::new();
                    }
                    Piece::Text(text) => text,
                    Piece::Bytes(bytes) => lossy(&bytes),
                };
                stripped(strip, end_run(run) + &text)
            }
            Self::Joined { first } => {
                let space = if std::mem::take(first) { "" } else { " " };
                format!("{space}{}", lossy(&into_bytes(piece)))
            }
            Self::Whole { .. } => String::new(),
        }
    }

    fn flush(self) -> String {
        match self {
            Self::ByteLevel { pending } => lossy(&pending),
            Self::Pieces { mut run, mut strip, .. } => stripped(&mut strip, end_run(&mut run)),
            Self::Joined { .. } => String::new(),
            Self::Whole { text, given_bytes, .. } => text.get(given_bytes..).unwrap_or_default().to_owned(),
        }
    }
}

fn into_bytes(piece: Piece) -> Vec<u8> {
    match piece {
        Piece::Text(text) => text.into_bytes(),
        Piece::Byte(byte) => vec![byte],
        Piece::Bytes(bytes) => bytes,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Takes all that is decided from the front of `pending`, with one U+FFFD for each maximal invalid part as in
/// [`String::from_utf8_lossy`], and leaves an incomplete character.
fn take_characters(pending: &mut Vec<u8>) -> String {
    let undecided = match pending.utf8_chunks().last() {
        Some(chunk) if is_incomplete(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    };
    let rest = pending.split_off(pending.len() - undecided);
    lossy(&std::mem::replace(pending, rest))
}

/// Whether more bytes could make a character of these, which are a maximal invalid part at the end of a text.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The text of a run of byte tokens: its characters if all are valid, else U+FFFD for every byte.
fn end_run(run: &mut Vec<u8>) -> String {
    let len = run.len();
    String::from_utf8(std::mem::take(run)).unwrap_or_else(|_| "\u{FFFD}".repeat(len))
}

/// Removes what the start of the text has too much; `strip` counts down to 0 at the first other character.
fn stripped((content, left): &mut (char, usize), mut text: String) -> String {
    while *left > 0 && !text.is_empty() {
        if text.starts_with(*content) {
            text.remove(0);
            *left -= 1;
        } else {
            *left = 0;
        }
    }
    text
}

/// Keeps the text of all tokens in `text` and gives out what the last two decodings agree on.
fn settled(text: &mut String, given_bytes: &mut usize, now: String) -> String {
    let agreed: usize = text.chars().zip(now.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let delta = now.get(*given_bytes..agreed).unwrap_or_default().to_owned();
    *given_bytes += delta.len();
    *text = now;
    delta
}

#[cfg(test)]
mod tests;
