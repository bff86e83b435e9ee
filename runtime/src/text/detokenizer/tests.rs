//! The deltas together are the library's decoding of the whole, for any tokens.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::text::fixtures;

fn in_deltas(tokenizer: &Arc<Tokenizer>, ids: &[TokenId], skip_special: bool) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), skip_special);
    let mut deltas: Vec<String> = ids.iter().map(|&id| detokenizer.push(id)).collect();
    deltas.push(detokenizer.flush());
    deltas
}

/// Ids in and out of the vocabulary, bytes and specials among them.
fn some_ids() -> impl Strategy<Value = Vec<TokenId>> {
    prop::collection::vec(0_u32..290, 0..40)
}

/// The bytes of some text with any characters, now and then with one byte broken.
fn some_utf8() -> impl Strategy<Value = Vec<u8>> {
    (any::<String>(), any::<Option<(prop::sample::Index, u8)>>()).prop_map(|(text, broken)| {
        let mut bytes = text.into_bytes();
        if let Some((place, byte)) = broken.filter(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn deltas_make_the_whole(ids in some_ids(), skip in any::<bool>()) {
        for tokenizer in fixtures::all() {
            let whole = tokenizer.decode(&ids, skip).unwrap();
            prop_assert_eq!(in_deltas(&tokenizer, &ids, skip).concat(), whole);
        }
    }

    #[test]
    fn deltas_of_bytes_make_the_whole(bytes in some_utf8()) {
        for (tokenizer, first_byte) in [(fixtures::byte_level(), 0), (fixtures::byte_fallback(), 3)] {
            let ids: Vec<TokenId> = bytes.iter().map(|&byte| TokenId::from(byte) + first_byte).collect();
            let whole = tokenizer.decode(&ids, true).unwrap();
            prop_assert_eq!(in_deltas(&tokenizer, &ids, true).concat(), whole);
        }
    }

    #[test]
    fn valid_text_never_shows_a_replacement(text in any::<String>()) {
        prop_assume!(!text.contains('\u{FFFD}'));
        let ids: Vec<TokenId> = text.bytes().map(TokenId::from).collect();
        let deltas = in_deltas(&fixtures::byte_level(), &ids, true);
        let replaced = deltas.iter().any(|delta| delta.contains('\u{FFFD}'));
        prop_assert!(!replaced);
        prop_assert_eq!(deltas.concat(), text);
    }
}

#[test]
fn a_character_waits_for_its_last_byte() {
    let wave: Vec<TokenId> = "👋".bytes().map(TokenId::from).collect();
    assert_eq!(in_deltas(&fixtures::byte_level(), &wave, true), ["", "", "", "👋", ""]);
}

#[test]
fn an_unfinished_character_is_one_replacement_at_the_end() {
    let deltas = in_deltas(&fixtures::byte_level(), &[0x61, 0xF0, 0x9F, 0x91], true);
    assert_eq!(deltas, ["a", "", "", "", "\u{FFFD}"]);
}

#[test]
fn an_invalid_byte_shows_as_soon_as_it_is_certain() {
    let deltas = in_deltas(&fixtures::byte_level(), &[0xF0, 0x61, 0xFF, 0x62], true);
    assert_eq!(deltas, ["", "\u{FFFD}a", "\u{FFFD}", "b", ""]);
}

#[test]
fn special_tokens_show_only_when_asked_for() {
    let tokenizer = fixtures::byte_level();
    assert_eq!(in_deltas(&tokenizer, &[256, 258, 259], true).concat(), "he[tool]");
    assert_eq!(in_deltas(&tokenizer, &[256, 258, 259], false).concat(), "he<|end|>[tool]");
}

#[test]
fn the_first_space_of_a_piece_tokenizer_is_dropped_once() {
    let tokenizer = fixtures::byte_fallback();
    let ids = [tokenizer.id("▁he").unwrap(), tokenizer.id("▁he").unwrap()];
    assert_eq!(in_deltas(&tokenizer, &ids, true), ["he", " he", ""]);
}

#[test]
fn the_shipped_tokenizer_decodes_incrementally() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny/tokenizer.json");
    let tokenizer = Arc::new(Tokenizer::from_bytes(&std::fs::read(path).unwrap()).unwrap());
    let text = "Once upon a time, Ärger mit 叫 and 👋🏽 — the end.";
    let ids = tokenizer.encode(text, false).unwrap();
    assert_eq!(in_deltas(&tokenizer, &ids, true).concat(), text);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.num_ids()));
}
