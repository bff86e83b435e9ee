//! What single tokens stand for, so that text can be decoded token by token and still be exact.
//!
//! The library decodes whole texts. Its decoders fall into two families that can be followed incrementally: byte-level
//! (each token is a few bytes) and pieces with byte fallback (each token is text, or one byte as `<0x0A>`). Both are
//! reproduced here to the letter, including what becomes of invalid bytes; a decoder of another shape is decoded
//! whole at each token, see [`Decoding::Whole`].

use std::sync::LazyLock;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::{Decoder, decoders::strip::Strip};

/// How the tokens of a tokenizer become text.
#[derive(Debug, Clone)]
pub(super) enum Decoding {
    /// `ByteLevel`: tokens are bytes in the alphabet of GPT-2.
    ByteLevel,
    /// Tokens are texts, perhaps with byte fallback.
    Pieces(Pieces),
    /// No decoder: tokens joined by spaces.
    Joined,
    /// Any other decoder. The text so far is decoded again for each token, so cost grows with the square of the
    /// length; no tokenizer of a served model family needs it.
    Whole,
}

/// The `Sequence` decoders of SentencePiece tokenizers: some rewriting of each token, byte fallback, and the removal
/// of what the first token has too much.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    rewrites: Vec<DecoderWrapper>,
    byte_fallback: bool,
    strip: Option<Strip>,
}

/// What one token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text of its own.
    Text(String),
    /// One byte of a run.
    Byte(u8),
    /// Some bytes, not necessarily whole characters.
    Bytes(Vec<u8>),
}

impl Decoding {
    /// Recognises the decoder of a tokenizer.
    pub(super) fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let Some(decoder) = decoder else {
            return Self::Joined;
        };
        match flatten(decoder).as_slice() {
            [DecoderWrapper::ByteLevel(_)] | [DecoderWrapper::ByteLevel(_), DecoderWrapper::Fuse(_)] => Self::ByteLevel,
            stages => Pieces::of(stages).map_or(Self::Whole, Self::Pieces),
        }
    }

    /// What `token` stands for.
    pub(super) fn piece(&self, token: String, first: bool) -> Piece {
        match self {
            Self::ByteLevel => Piece::Bytes(byte_level(&token)),
            Self::Pieces(pieces) => pieces.piece(token, first),
            Self::Joined | Self::Whole => Piece::Text(token),
        }
    }
}

impl Pieces {
    /// Accepts: any number of per-token rewrites, at most one byte fallback, at most one fuse, and after the fuse at
    /// most one strip at the start.
    fn of(stages: &[DecoderWrapper]) -> Option<Self> {
        let is_rewrite =
            |stage: &&DecoderWrapper| matches!(stage, DecoderWrapper::Replace(_) | DecoderWrapper::Metaspace(_));
        let rewrites: Vec<_> = stages.iter().take_while(is_rewrite).cloned().collect();
        let (byte_fallback, rest) = match stages.get(rewrites.len()..)? {
            [DecoderWrapper::ByteFallback(_), rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let strip = match rest {
            [] | [DecoderWrapper::Fuse(_)] => None,
            [DecoderWrapper::Fuse(_), DecoderWrapper::Strip(strip)] if strip.stop == 0 => Some(strip.clone()),
            _ => return None,
        };
        Some(Self { rewrites, byte_fallback, strip })
    }

    /// The character that the start of a text loses, and how often at most.
    pub(super) fn strip(&self) -> (char, usize) {
        self.strip.as_ref().map_or((' ', 0), |strip| (strip.content, strip.start))
    }

    fn piece(&self, token: String, first: bool) -> Piece {
        let text = self.rewrites.iter().fold(token, |token, stage| rewrite(stage, token, first));
        match fallback_byte(&text).filter(|_| self.byte_fallback) {
            Some(byte) => Piece::Byte(byte),
            None => Piece::Text(text),
        }
    }
}

/// One stage over one token. A token that is not the first is decoded behind an empty one.
fn rewrite(stage: &DecoderWrapper, token: String, first: bool) -> String {
    let tokens = if first { vec![token.clone()] } else { vec![String::new(), token.clone()] };
    stage.decode_chain(tokens).ok().and_then(|mut decoded| decoded.pop()).unwrap_or(token)
}

/// The stages of nested sequences, in order.
fn flatten(decoder: &DecoderWrapper) -> Vec<DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().flat_map(flatten).collect(),
        single => vec![single.clone()],
    }
}

/// The byte of a token like `<0x0A>`, by the library's own rule.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// A token of the byte alphabet as bytes; a token with any other character (an added one) as its own text.
fn byte_level(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(alphabet_byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

fn alphabet_byte(character: char) -> Option<u8> {
    let byte = ALPHABET.get(character as usize)?;
    *byte
}

/// The byte alphabet of GPT-2 (`bytes_to_unicode` in its `encoder.py`), inverted: printable Latin-1 characters stand
/// for themselves, the 68 other bytes for the characters from U+0100 on, in order.
static ALPHABET: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
    let mut alphabet = vec![None; 0x100 + 68];
    let mut next_substitute = 0x100;
    for byte in 0..=u8::MAX {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let character = if printable { usize::from(byte) } else { next_substitute };
        if !printable {
            next_substitute += 1;
        }
        if let Some(place) = alphabet.get_mut(character) {
            *place = Some(byte);
        }
    }
    alphabet
});
