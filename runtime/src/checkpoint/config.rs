//! `config.json`: kept as it stands, looked up by dotted path.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{CheckpointError, read_object};
use crate::request::TokenId;

/// The raw `config.json` of a checkpoint.
///
/// ```
/// use trefoil_runtime::checkpoint::Config;
/// let config = Config::from_json(r#"{"rope": {"theta": 10000.0}, "head_dim": null}"#).unwrap();
/// assert_eq!(config.get("rope.theta").and_then(|value| value.as_f64()), Some(10000.0));
/// assert!(config.get("head_dim").is_none(), "null is absent");
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    path: PathBuf,
    root: Value,
}

impl Config {
    /// Reads `config.json` in `dir`.
    ///
    /// # Errors
    /// The file is absent, unreadable or not a JSON object.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join("config.json");
        let root = read_object(&path)?.ok_or_else(|| CheckpointError::Missing {
            path: path.clone(),
            advice: "it comes with the checkpoint and names its architecture and sizes",
        })?;
        Ok(Self { path, root })
    }

    /// Takes a configuration from text, for tests and tools.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn from_json(text: &str) -> Result<Self, CheckpointError> {
        let path = PathBuf::from("config.json");
        let root = serde_json::from_str(text)
            .map_err(|error| CheckpointError::Invalid { path: path.clone(), what: format!("not JSON: {error}") })?;
        Ok(Self { path, root })
    }

    /// The value at a dotted path, as in `rope_parameters.rope_theta`; a `null` counts as absent.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.root, |value, key| value.get(key)).filter(|value| !value.is_null())
    }

    /// The whole file.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Where it was read from, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names under `architectures`, in order.
    ///
    /// # Errors
    /// The key is absent, or not a list of names.
    pub fn architectures(&self) -> Result<Vec<&str>, CheckpointError> {
        let value = self.root.get("architectures").unwrap_or(&Value::Null);
        let names: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        names.filter(|names| !names.is_empty()).ok_or_else(|| {
            value_error(&self.path, "architectures", value, "a list of class names, as [\"LlamaForCausalLM\"]")
        })
    }

    /// `eos_token_id`, a number or a list of numbers; `None` when absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn eos(&self) -> Result<Option<Vec<TokenId>>, CheckpointError> {
        token_ids(&self.path, &self.root, "eos_token_id")
    }
}

/// A token id or a list of them under `key`; `None` when absent or null.
pub(super) fn token_ids(path: &Path, root: &Value, key: &str) -> Result<Option<Vec<TokenId>>, CheckpointError> {
    let value = root.get(key).unwrap_or(&Value::Null);
    let ids: Option<Vec<TokenId>> = match value {
        Value::Null => return Ok(None),
        Value::Array(list) => list.iter().map(token_id).collect(),
        single => token_id(single).map(|id| vec![id]),
    };
    ids.map(Some).ok_or_else(|| value_error(path, key, value, "a token id or a list of token ids"))
}

fn token_id(value: &Value) -> Option<TokenId> {
    value.as_u64().and_then(|id| TokenId::try_from(id).ok())
}

pub(super) fn value_error(path: &Path, key: &str, value: &Value, expected: &'static str) -> CheckpointError {
    let mut text = value.to_string();
    if text.chars().count() > 64 {
        text = text.chars().take(64).chain(['…']).collect();
    }
    CheckpointError::Value { path: path.to_owned(), key: key.to_owned(), value: text, expected }
}
