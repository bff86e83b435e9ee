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
}
