//! Text to token ids and back, over the `tokenizers` library.

use tokenizers::Tokenizer as Library;

use super::decoding::{Decoding, Piece};
use crate::request::TokenId;

/// The text cannot be encoded, or `tokenizer.json` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// `tokenizer.json` is malformed; the library's words.
    #[error("not a tokenizer of the `tokenizers` library: {0}")]
    File(String),
    /// The library refused a text.
    #[error("the text cannot be encoded: {0}")]
    Encode(String),
}

/// A tokenizer with all its special tokens.
///
/// Special tokens written out in a text are encoded as such: `/v1/completions` is the raw interface to the model, and
/// rendered templates depend on it.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    library: Library,
    decoding: Decoding,
    first: First,
    longest_token_bytes: usize,
    num_ids: usize,
}

/// What `tokenizer_config.json` says about the first token, where it differs from `tokenizer.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    AsEncoded,
    Prepend(TokenId),
    Remove(TokenId),
}

impl Tokenizer {
    /// Reads the bytes of a `tokenizer.json`. Truncation and padding that it may ask for are switched off: a prompt
    /// is taken whole or refused.
    ///
    /// # Errors
    /// The library cannot read them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let library = Library::from_bytes(bytes).map_err(|error| TokenizerError::File(error.to_string()))?;
        Self::from_library(library)
    }

    /// Takes a tokenizer of the library.
    ///
    /// # Errors
    /// Its truncation cannot be switched off.
    pub fn from_library(mut library: Library) -> Result<Self, TokenizerError> {
        library.with_truncation(None).map_err(|error| TokenizerError::File(error.to_string()))?;
        library.with_padding(None);
        let decoding = Decoding::of(library.get_decoder());
        let vocabulary = library.get_vocab(true);
        let longest_token_bytes = vocabulary.keys().map(String::len).max().unwrap_or(1).max(1);
        let num_ids = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        Ok(Self { library, decoding, first: First::AsEncoded, longest_token_bytes, num_ids })
    }

    /// Applies `add_bos_token` of `tokenizer_config.json`, where `tokenizer.json` does otherwise.
    #[must_use]
    pub fn with_bos_rule(mut self, bos: Option<&str>, add_bos: Option<bool>) -> Self {
        let Some(id) = bos.and_then(|token| self.id(token)) else {
            return self;
        };
        let encoded_first = self.encode("", true).unwrap_or_default().first() == Some(&id);
        self.first = match (add_bos, encoded_first) {
            (Some(true), false) => First::Prepend(id),
            (Some(false), true) => First::Remove(id),
            _ => First::AsEncoded,
        };
        self
    }

    /// The ids of `text`; `add_special_tokens` adds what the tokenizer puts around a text (often a first token).
    ///
    /// # Errors
    /// The library refuses the text.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<TokenId>, TokenizerError> {
        let encoding = self
            .library
            .encode_fast(text, add_special_tokens)
            .map_err(|error| TokenizerError::Encode(error.to_string()))?;
        let mut ids = encoding.get_ids().to_vec();
        if add_special_tokens {
            self.first.apply(&mut ids);
        }
        Ok(ids)
    }

    /// The text of `ids`; ids without a token give nothing, bytes that are no UTF-8 give U+FFFD.
    ///
    /// # Errors
    /// The decoder of the library refuses, which none of the shipped ones does.
    pub fn decode(&self, ids: &[TokenId], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        // One of the library's decoders panics over no tokens at all.
        let shows = |&id: &TokenId| self.piece(id, false, skip_special_tokens).is_some();
        if !ids.iter().any(shows) {
            return Ok(String::new());
        }
        self.library.decode(ids, skip_special_tokens).map_err(|error| TokenizerError::Encode(error.to_string()))
    }

    /// The id of a token given as it stands in the vocabulary.
    pub fn id(&self, token: &str) -> Option<TokenId> {
        self.library.token_to_id(token)
    }

    /// The token as it stands in the vocabulary, with its marks for spaces and bytes.
    pub fn token(&self, id: TokenId) -> Option<String> {
        let added = self.library.get_added_vocabulary().simple_id_to_token(id);
        added.or_else(|| self.library.id_to_token(id))
    }

    /// The bytes that a token adds inside a text; empty for ids without a token. They need not be whole characters.
    pub fn token_bytes(&self, id: TokenId) -> Vec<u8> {
        match self.piece(id, false, false) {
            None => Vec::new(),
            Some(Piece::Text(text)) => text.into_bytes(),
            Some(Piece::Byte(byte)) => vec![byte],
            Some(Piece::Bytes(bytes)) => bytes,
        }
    }

    /// One above the highest id that has a token. A model may have more rows than that.
    pub fn num_ids(&self) -> usize {
        self.num_ids
    }

    /// Bytes of the longest token: a text of `n` times as many has, but for normalisation, at least `n` tokens.
    pub fn longest_token_bytes(&self) -> usize {
        self.longest_token_bytes
    }

    pub(super) fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// What a token stands for; `None` if it has no text or is special and skipped. `first` is for decoders that treat
    /// the first token of a text in another way.
    pub(super) fn piece(&self, id: TokenId, first: bool, skip_special: bool) -> Option<Piece> {
        let token = self.token(id)?;
        if skip_special && self.library.get_added_vocabulary().is_special_token(&token) {
            return None;
        }
        Some(self.decoding.piece(token, first))
    }
}

impl First {
    fn apply(self, ids: &mut Vec<TokenId>) {
        match self {
            Self::AsEncoded => {}
            Self::Prepend(id) => ids.insert(0, id),
            Self::Remove(id) if ids.first() == Some(&id) => {
                ids.remove(0);
            }
            Self::Remove(_) => {}
        }
    }
}
