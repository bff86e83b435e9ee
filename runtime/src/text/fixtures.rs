//! Tokenizers made on the spot: one of each decoder family, small enough to write down.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Tokenizer;

/// Byte-level, as GPT-2, Llama 3 and Qwen: ids 0 to 255 are the bytes in order, then `he`, `llo`, the special
/// `<|end|>` (258) and the plain added `[tool]` (259).
pub(crate) fn byte_level() -> Arc<Tokenizer> {
    let mut vocab: Map<String, Value> = Map::new();
    for byte in 0..=u8::MAX {
        vocab.insert(alphabet(byte).to_string(), byte.into());
    }
    for (token, id) in [("he", 256), ("ll", 257)] {
        vocab.insert(token.to_owned(), id.into());
    }
    build(&json!({
        "version": "1.0",
        "added_tokens": [added("<|end|>", 258, true), added("[tool]", 259, false)],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["h e", "l l"]},
    }))
}

/// With byte fallback, as Llama 2: 0 `<unk>`, 1 `<s>`, 2 `</s>`, 3 to 258 the bytes, then pieces.
pub(crate) fn byte_fallback() -> Arc<Tokenizer> {
    let mut vocab = byte_fallback_vocab();
    for (place, piece) in FALLBACK_PIECES.iter().enumerate() {
        vocab.insert((*piece).to_owned(), (259 + place).into());
    }
    build(&json!({
        "version": "1.0",
        "added_tokens": [added("<unk>", 0, true), added("<s>", 1, true), added("</s>", 2, true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["h e", "▁ he"], "byte_fallback": true,
            "unk_token": "<unk>", "fuse_unk": true},
    }))
}

/// A decoder of `Metaspace` alone, which treats the first token in its own way.
pub(crate) fn metaspace() -> Arc<Tokenizer> {
    with_decoder(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}))
}

/// A decoder that the detokenizer does not follow token by token.
pub(crate) fn unfollowed() -> Arc<Tokenizer> {
    with_decoder(json!({"type": "BPEDecoder", "suffix": "e"}))
}

/// No decoder at all: tokens joined by spaces.
pub(crate) fn undecoded() -> Arc<Tokenizer> {
    with_decoder(Value::Null)
}

/// All of them.
pub(crate) fn all() -> Vec<Arc<Tokenizer>> {
    vec![byte_level(), byte_fallback(), metaspace(), unfollowed(), undecoded()]
}

const FALLBACK_PIECES: [&str; 12] = ["▁", "h", "e", "l", "o", "he", "▁he", "叫", "é", "▁▁", "n", "\u{1F44B}"];

fn with_decoder(decoder: Value) -> Arc<Tokenizer> {
    let mut vocab = byte_fallback_vocab();
    for (place, piece) in FALLBACK_PIECES.iter().enumerate() {
        vocab.insert((*piece).to_owned(), (259 + place).into());
    }
    build(&json!({
        "version": "1.0",
        "added_tokens": [added("</s>", 2, true)],
        "decoder": decoder,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }))
}

fn byte_fallback_vocab() -> Map<String, Value> {
    let names = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter();
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    names.chain(bytes).zip(0_u32..).map(|(token, id)| (token, id.into())).collect()
}

fn added(content: &str, id: u32, special: bool) -> Value {
    json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false})
}

/// The character that stands for a byte in GPT-2's alphabet.
fn alphabet(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|earlier| !printable(earlier)).count();
    char::from_u32(0x100 + u32::try_from(place).expect("at most 68")).expect("a Latin character")
}

fn build(json: &Value) -> Arc<Tokenizer> {
    let bytes = serde_json::to_vec(json).expect("a JSON value");
    Arc::new(Tokenizer::from_bytes(&bytes).expect("a tokenizer"))
}
