//! `generation_config.json`: the sampling settings that the model's makers recommend.
//!
//! They are the defaults of requests, as in vLLM; a request that names a setting overrides it. A greedy model says so
//! with `do_sample: false`, which transformers writes for every checkpoint that never set it; like vLLM we read
//! only the settings themselves.

use std::path::Path;

use serde_json::Value;

use super::config::{token_ids, value_error};
use super::{CheckpointError, read_object};
use crate::request::TokenId;

/// The fields of `generation_config.json` that concern sampling; each `None` when absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// End-of-sequence tokens.
    pub eos: Option<Vec<TokenId>>,
    /// Default temperature, at least 0.
    pub temperature: Option<f32>,
    /// Default top-k; 0 keeps all tokens.
    pub top_k: Option<usize>,
    /// Default top-p, above 0 and at most 1.
    pub top_p: Option<f32>,
    /// Default min-p, from 0 to 1.
    pub min_p: Option<f32>,
    /// Default repetition penalty, above 0.
    pub repetition_penalty: Option<f32>,
    /// Default number of new tokens.
    pub max_new_tokens: Option<usize>,
}

const FILE: &str = "generation_config.json";

impl GenerationConfig {
    /// Reads the file in `dir`; all fields are `None` if there is none.
    ///
    /// # Errors
    /// The file is not a JSON object, or a setting is out of its range.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(FILE);
        match read_object(&path)? {
            Some(root) => Self::parse(&path, &root),
            None => Ok(Self::default()),
        }
    }

    fn parse(path: &Path, root: &Value) -> Result<Self, CheckpointError> {
        let number = |key, expected, good: fn(f64) -> bool| number(path, root, key, expected, good);
        let count = |key| count(path, root, key);
        Ok(Self {
            eos: token_ids(path, root, "eos_token_id")?,
            temperature: number("temperature", "a number from 0 on", |x| x >= 0.0)?,
            top_k: top_k(path, root)?,
            top_p: number("top_p", "a number above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?,
            min_p: number("min_p", "a number from 0 to 1", |x| (0.0..=1.0).contains(&x))?,
            repetition_penalty: number("repetition_penalty", "a number above 0", |x| x > 0.0)?,
            max_new_tokens: count("max_new_tokens")?,
        })
    }
}

fn number(
    path: &Path,
    root: &Value,
    key: &str,
    expected: &'static str,
    good: fn(f64) -> bool,
) -> Result<Option<f32>, CheckpointError> {
    let value = root.get(key).unwrap_or(&Value::Null);
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_f64().filter(|&x| good(x)).ok_or_else(|| value_error(path, key, value, expected))?;
    Ok(Some(number as f32))
}

/// Some checkpoints write -1 for "all tokens", which is our 0.
fn top_k(path: &Path, root: &Value) -> Result<Option<usize>, CheckpointError> {
    match root.get("top_k").and_then(Value::as_i64) {
        Some(-1) => Ok(Some(0)),
        _ => count(path, root, "top_k"),
    }
}

fn count(path: &Path, root: &Value, key: &str) -> Result<Option<usize>, CheckpointError> {
    let value = root.get(key).unwrap_or(&Value::Null);
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().and_then(|x| usize::try_from(x).ok());
    number.map(Some).ok_or_else(|| value_error(path, key, value, "a whole number from 0 on"))
}
