//! Under which names a checkpoint has a model's tensors.

use std::collections::BTreeSet;

use super::layout::places;
use super::shards::Shards;
use crate::model::{Names, WeightSpec};

/// The prefix under which most of the model's tensors are found, the first of several; without any, none.
pub(super) fn prefix<'a>(shards: &Shards, specs: &[WeightSpec], names: Names<'a>) -> &'a str {
    let [first, others @ ..] = names.prefixes else { return "" };
    if others.is_empty() {
        return first;
    }
    let tensors = tensors(specs);
    let count = |prefix: &str| tensors.iter().filter(|name| shards.has(&format!("{prefix}{name}"))).count();
    let mut best = (*first, count(first));
    for other in others {
        let found = count(other);
        if found > best.1 {
            best = (*other, found);
        }
    }
    best.0
}

/// The names of all of the model's tensors, without prefix.
pub(super) fn tensors(specs: &[WeightSpec]) -> BTreeSet<String> {
    let of = |spec| {
        move |piece: &crate::model::Piece| places(spec).map(|place| place.name(&piece.tensor)).collect::<Vec<_>>()
    };
    specs.iter().flat_map(|spec| spec.pieces.iter().flat_map(of(spec))).collect()
}

/// How many layers the model has.
pub(super) fn num_layers(specs: &[WeightSpec]) -> usize {
    specs.iter().flat_map(|spec| spec.layers.iter().flatten()).max().map_or(0, |last| last + 1)
}

/// Whether a tensor is one of those that `ignores` names, below the prefix or as it stands.
pub(super) fn is_ignored(tensor: &str, prefix: &str, names: Names<'_>, num_layers: usize) -> bool {
    let below = tensor.strip_prefix(prefix);
    let is_it = |pattern: &&str| {
        matches(pattern, tensor, num_layers) || below.is_some_and(|below| matches(pattern, below, num_layers))
    };
    names.ignores.iter().any(is_it)
}

/// Whether `text` has the form of `pattern`: `{layer}` and `{expert}` are any number, `{beyond}` that of a layer behind
/// the model's last, `*` is any text.
fn matches(pattern: &str, text: &str, num_layers: usize) -> bool {
    for (number, least) in [("{layer}", 0), ("{expert}", 0), ("{beyond}", num_layers)] {
        if let Some(rest) = pattern.strip_prefix(number) {
            let (digits, after) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
            return digits.parse().is_ok_and(|number: usize| number >= least) && matches(rest, after, num_layers);
        }
    }
    let mut chars = pattern.chars();
    match chars.next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len())
            .any(|from| text.is_char_boundary(from) && matches(chars.as_str(), &text[from..], num_layers)),
        Some(own) => text.strip_prefix(own).is_some_and(|rest| matches(chars.as_str(), rest, num_layers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_behind_the_last_are_no_others() {
        let is_beyond = |text| super::matches("model.layers.{beyond}.*", text, 46);
        assert!(is_beyond("model.layers.46.norm.weight") && is_beyond("model.layers.100.norm.weight"));
        assert!(!is_beyond("model.layers.45.norm.weight") && !is_beyond("model.layers.x.norm.weight"));
    }

    #[test]
    fn patterns_stand_for_numbers_and_any_text() {
        let matches = |pattern, text| super::matches(pattern, text, 0);
        let pattern = "h.{layer}.attn.bias";
        assert!(matches(pattern, "h.0.attn.bias") && matches(pattern, "h.117.attn.bias"));
        assert!(!matches(pattern, "h..attn.bias") && !matches(pattern, "h.x.attn.bias"));
        assert!(!matches(pattern, "h.0.attn.bias2") && !matches(pattern, "xh.0.attn.bias"));
        assert!(matches("a.{layer}.{expert}.*", "a.1.22.b.c") && !matches("a.{layer}.{expert}.*", "a.1.b"));
        assert!(matches("*", "") && matches("*.mtp.*", "model.mtp.0") && !matches("*.mtp.*", "mtp.0"));
        assert!(matches("vision*bias", "vision.é.bias") && !matches("vision*bias", "vision.bias.weight"));
    }

    #[test]
    fn ignored_tensors_are_named_below_the_prefix_or_whole() {
        let names = Names { prefixes: &["", "model."], ignores: &["h.{layer}.b", "lm_head.weight"] };
        let is_ignored = |tensor| is_ignored(tensor, "model.", names, 0);
        assert!(is_ignored("model.h.3.b") && is_ignored("h.3.b") && is_ignored("lm_head.weight"));
        assert!(!is_ignored("other.h.3.b") && !is_ignored("model.h.3.c"));
    }
}
