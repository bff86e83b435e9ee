//! Keys of `config.json` that a graph does not read.
//!
//! A key that nobody reads may be a name, a token's id, something for training only: then it does not matter. Or it says
//! that the model computes something else than the graph does, such as a cap on its logits: then the model would
//! answer, wrongly. [`unread`] tells the two apart by a table of the keys that transformers' configurations have, each with
//! the values at which the mathematics is that of a model without it. What the table lacks is unknown: worth a note.

use serde_json::Value;

pub use super::meaning::meaning;
use super::neutral::{Neutral, is_inert, neutral};

/// What there is to say of the keys that a graph does not read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unread {
    /// Keys that change the mathematics.
    pub faults: Vec<UnreadKey>,
    /// Paths of keys that no table knows, in the order of the file.
    pub unknown: Vec<String>,
}

/// A key that changes the mathematics and that the graph does not read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "`{key}` is {value} in the config, and the graph does not read it; without it the model computes as if it were {neutral}"
)]
pub struct UnreadKey {
    /// Its path.
    pub key: String,
    /// Its value, cut to a readable length.
    pub value: String,
    /// The values that would do, in words.
    pub neutral: String,
}

impl UnreadKey {
    /// What to do about it.
    pub const REMEDY: &'static str =
        "read the key in the graph's `dims` or `params`, or name the values that the graph serves under `expects`";
}

/// Two values of a configuration that cannot both be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// One number is to divide another.
    #[error(
        "`{whole_key}` is {whole} in the config and `{part_key}` is {part}: the first must be a multiple of the second"
    )]
    NotAMultiple {
        /// Key of the dividend.
        whole_key: &'static str,
        /// Dividend.
        whole: u64,
        /// Key of the divisor.
        part_key: &'static str,
        /// Divisor.
        part: u64,
    },
    /// A list that has an entry for each layer.
    #[error("`{key}` has {length} entries in the config, and there are {layers} layers")]
    Length {
        /// Key of the list.
        key: String,
        /// Its entries.
        length: usize,
        /// Layers of the model.
        layers: u64,
    },
}

const LAYERS: [&str; 3] = ["num_hidden_layers", "n_layer", "n_layers"];
const HEADS: [&str; 3] = ["num_attention_heads", "n_head", "n_heads"];
const KV_HEADS: [&str; 2] = ["num_key_value_heads", "num_kv_heads"];
const HIDDEN: [&str; 3] = ["hidden_size", "n_embd", "d_model"];
/// Lists with an entry for each layer.
const LISTS: [&str; 5] = ["layer_types", "no_rope_layers", "attention_layers", "layers_block_type", "mlp_layer_types"];
/// Parts of a model for images and sounds: a graph of the text model has nothing to do with their insides.
const OTHER_MODELS: [&str; 3] = ["vision_config", "audio_config", "speech_config"];

/// Sorts the keys of a configuration that are not among `read` (paths such as `rope_parameters.rope_theta`; a path
/// covers all below it). A null is as good as an absent key.
pub fn unread(config: &Value, read: &[impl AsRef<str>]) -> Unread {
    let mut found = Unread::default();
    visit(config, "", &mut |path, value| {
        if read.iter().any(|read| covers(read.as_ref(), path)) || is_inert(path) {
            return;
        }
        match neutral(config, path) {
            None => found.unknown.push(path.to_owned()),
            Some(neutral) if neutral.iter().any(|neutral| neutral.is(value)) => {}
            Some(neutral) => found.faults.push(UnreadKey {
                key: path.to_owned(),
                value: shortened(value),
                neutral: in_words(&neutral),
            }),
        }
    });
    found
}

/// Pairs of values that contradict each other, all at once.
pub fn contradictions(config: &Value) -> Vec<Contradiction> {
    let (heads, kv_heads, hidden) = (number(config, &HEADS), number(config, &KV_HEADS), number(config, &HIDDEN));
    let head = number(config, &["head_dim"]);
    let mut found = vec![];
    found.extend(multiple(heads, kv_heads));
    if head.is_none() {
        found.extend(multiple(hidden, heads));
    }
    if let Some((_, layers)) = number(config, &LAYERS) {
        found.extend(LISTS.iter().filter_map(|key| wrong_length(config, key, layers)));
    }
    found
}

/// A list with another number of entries than there are layers; nothing where there is no such list.
pub fn wrong_length(config: &Value, key: &str, layers: u64) -> Option<Contradiction> {
    let length = at(config, key)?.as_array()?.len();
    (length as u64 != layers).then(|| Contradiction::Length { key: key.to_owned(), length, layers })
}

fn multiple(whole: Option<(&'static str, u64)>, part: Option<(&'static str, u64)>) -> Option<Contradiction> {
    let ((whole_key, whole), (part_key, part)) = (whole?, part?);
    let divides = part != 0 && whole.is_multiple_of(part);
    (!divides).then_some(Contradiction::NotAMultiple { whole_key, whole, part_key, part })
}

/// The first of the keys that has a number.
fn number(config: &Value, keys: &[&'static str]) -> Option<(&'static str, u64)> {
    keys.iter().find_map(|key| Some((*key, config.get(key)?.as_u64()?)))
}

/// The value at a dotted path.
pub(super) fn at<'a>(config: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(config, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// Shows every value that is no object, and every empty object, with its path.
fn visit(value: &Value, path: &str, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Null => {}
        Value::Object(fields)
            if path.is_empty() || !(fields.is_empty() || OTHER_MODELS.contains(&path) || is_inert(path)) =>
        {
            for (key, value) in fields {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                visit(value, &path, see);
            }
        }
        value => see(path, value),
    }
}

fn covers(read: &str, path: &str) -> bool {
    path.strip_prefix(read).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn shortened(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 64 {
        text = text.chars().take(64).chain(['…']).collect();
    }
    text
}

fn in_words(neutral: &[Neutral]) -> String {
    let values: Vec<_> = neutral.iter().map(ToString::to_string).collect();
    if values.is_empty() { "absent".to_owned() } else { format!("absent or {}", values.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(config: &Value, read: &[&str]) -> Vec<String> {
        unread(config, read).faults.into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn keys_are_sorted_by_what_they_do() {
        let config = json!({
            "architectures": ["X"], "model_type": "x", "bos_token_id": 1, "attention_dropout": 0.1, "use_cache": true,
            "hidden_size": 64, "final_logit_softcapping": 30.0, "attn_logit_softcapping": null, "attention_bias": false,
            "sliding_window": 4096, "something_new": 1, "nested": {"also_new": {}},
        });
        let found = unread(&config, &["hidden_size"]);
        assert_eq!(faults(&config, &["hidden_size"]), ["final_logit_softcapping", "sliding_window"]);
        assert_eq!(found.unknown, ["something_new", "nested.also_new"]);
        let text = found.faults[0].to_string();
        assert!(text.contains("`final_logit_softcapping` is 30.0") && text.contains("absent or 0"), "{text}");
        assert!(faults(&config, &["hidden_size", "final_logit_softcapping", "sliding_window"]).is_empty());
    }

    #[test]
    fn sliding_windows_that_are_off_or_never_reached_are_neutral() {
        assert!(
            faults(&json!({"sliding_window": 131072, "use_sliding_window": false, "max_window_layers": 28}), &[])
                .is_empty()
        );
        assert!(faults(&json!({"sliding_window": 4096, "max_position_embeddings": 4096}), &[]).is_empty());
        assert_eq!(faults(&json!({"sliding_window": 4095, "max_position_embeddings": 4096}), &[]), ["sliding_window"]);
        assert_eq!(faults(&json!({"sliding_window": 64, "use_sliding_window": true}), &[]).len(), 2);
        assert!(faults(&json!({"layer_types": ["full_attention", "full_attention"]}), &[]).is_empty());
        assert_eq!(faults(&json!({"layer_types": ["full_attention", "sliding_attention"]}), &[]), ["layer_types"]);
    }

    #[test]
    fn rotary_objects_are_compared_by_path() {
        let llama3 = json!({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}});
        let all = ["rope_parameters.rope_type", "rope_parameters.rope_theta", "rope_parameters.factor"];
        assert_eq!(faults(&llama3, &[]), all);
        assert_eq!(faults(&llama3, &all[1..2]), [all[0], all[2]]);
        assert!(faults(&llama3, &["rope_parameters"]).is_empty());
        assert!(faults(&json!({"rope_scaling": {"type": "default", "factor": 2.0}}), &[]).is_empty());
        assert!(faults(&json!({"rope_scaling": null, "rope_theta": 10000}), &[]).is_empty());
        let by_kind = json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}});
        assert_eq!(faults(&by_kind, &[]), ["rope_parameters.full_attention.rope_theta"]);
    }

    #[test]
    fn values_that_follow_from_others_are_neutral() {
        let config = json!({"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16,
            "query_pre_attn_scalar": 16, "attention_multiplier": 0.25, "n_inner": 256, "text_config": {"head_dim": 16}});
        assert!(faults(&config, &["hidden_size", "num_attention_heads", "text_config"]).is_empty());
        let config = json!({"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
            "query_pre_attn_scalar": 256, "attention_multiplier": 1.0});
        let found = faults(&config, &["hidden_size", "num_attention_heads"]);
        assert_eq!(found, ["num_key_value_heads", "head_dim", "query_pre_attn_scalar", "attention_multiplier"]);
    }

    #[test]
    fn what_other_keys_make_idle_is_neutral() {
        let only_experts = json!({"intermediate_size": 48, "moe_intermediate_size": 24, "decoder_sparse_step": 1,
            "mlp_only_layers": []});
        assert_eq!(faults(&only_experts, &["moe_intermediate_size"]), <[&str; 0]>::default());
        for (key, value) in [("decoder_sparse_step", json!(2)), ("mlp_only_layers", json!([0]))] {
            let mut some_dense = only_experts.clone();
            some_dense[key] = value;
            let found = faults(&some_dense, &["moe_intermediate_size"]);
            assert_eq!(found.iter().filter(|found| *found == "intermediate_size").count(), 1);
        }
        let mut attention = json!({"attention_types": [[["global", "local"], 1]]});
        assert_eq!(faults(&attention, &[]), ["attention_types"]);
        attention["attention_layers"] = json!(["global", "local"]);
        assert_eq!(faults(&attention, &[]), ["attention_layers"]);
    }

    #[test]
    fn contradictions_come_all_at_once_with_both_values() {
        let config = json!({"num_attention_heads": 7, "num_key_value_heads": 2, "hidden_size": 64,
            "num_hidden_layers": 3, "layer_types": ["full_attention"]});
        let found: Vec<_> = contradictions(&config).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3);
        for (text, parts) in found.iter().zip([["is 7", "is 2"], ["is 64", "is 7"], ["1 entries", "3 layers"]]) {
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        assert!(contradictions(&json!({"n_head": 4, "n_embd": 64, "head_dim": null})).is_empty());
        assert!(contradictions(&json!({"num_attention_heads": 7, "hidden_size": 64, "head_dim": 16})).is_empty());
    }
}
