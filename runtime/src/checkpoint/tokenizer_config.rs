//! `tokenizer_config.json`: which tokens are special, and the chat template of older checkpoints.

use std::path::Path;

use serde_json::Value;

use super::config::value_error;
use super::{CheckpointError, read_object};

pub(super) const FILE: &str = "tokenizer_config.json";

/// The tokens that chat templates name, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of a text.
    pub bos: Option<String>,
    /// End of a text.
    pub eos: Option<String>,
    /// Unknown word.
    pub unk: Option<String>,
    /// Padding.
    pub pad: Option<String>,
    /// Between two texts.
    pub sep: Option<String>,
    /// Stands for a whole text.
    pub cls: Option<String>,
    /// Stands for a word to be guessed.
    pub mask: Option<String>,
}

/// What we read of `tokenizer_config.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// The special tokens.
    pub special: SpecialTokens,
    /// Whether encoding puts `bos` first; `None` leaves that to `tokenizer.json`.
    pub add_bos_token: Option<bool>,
    /// The source of the chat template, the one named `default` where there are several.
    pub chat_template: Option<String>,
    /// The source of the template named `tool_use`, for conversations with tools.
    pub tool_use_template: Option<String>,
}

impl TokenizerConfig {
    /// Reads the file in `dir`; empty if there is none.
    ///
    /// # Errors
    /// The file is not a JSON object, or a key we read has the wrong type.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(FILE);
        match read_object(&path)? {
            Some(root) => Self::parse(&path, &root),
            None => Ok(Self::default()),
        }
    }

    fn parse(path: &Path, root: &Value) -> Result<Self, CheckpointError> {
        let token = |key| token(path, root, key);
        let listed = root.get("chat_template").and_then(Value::as_array);
        Ok(Self {
            special: SpecialTokens {
                bos: token("bos_token")?,
                eos: token("eos_token")?,
                unk: token("unk_token")?,
                pad: token("pad_token")?,
                sep: token("sep_token")?,
                cls: token("cls_token")?,
                mask: token("mask_token")?,
            },
            add_bos_token: flag(path, root, "add_bos_token")?,
            chat_template: template(path, root)?,
            tool_use_template: listed.and_then(|list| template_named(list, "tool_use")).map(str::to_owned),
        })
    }
}

/// A token is written as its text, or as an object with the text under `content`.
fn token(path: &Path, root: &Value, key: &str) -> Result<Option<String>, CheckpointError> {
    match root.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value) => match value.get("content").and_then(Value::as_str) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(value_error(path, key, value, "a string, or an object with `content`")),
        },
    }
}

fn flag(path: &Path, root: &Value, key: &str) -> Result<Option<bool>, CheckpointError> {
    match root.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(value) => Err(value_error(path, key, value, "true or false")),
    }
}

fn template(path: &Path, root: &Value) -> Result<Option<String>, CheckpointError> {
    const EXPECTED: &str = "a string, or a list of {\"name\", \"template\"} with one named \"default\"";
    match root.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(value) => match value.as_array().and_then(|list| default_template(list)) {
            Some(source) => Ok(Some(source.to_owned())),
            None => Err(value_error(path, "chat_template", value, EXPECTED)),
        },
    }
}

fn default_template(list: &[Value]) -> Option<&str> {
    template_named(list, "default").or(match list {
        [single] => single.get("template")?.as_str(),
        _ => None,
    })
}

fn template_named<'a>(list: &'a [Value], name: &str) -> Option<&'a str> {
    let entry = list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?;
    entry.get("template")?.as_str()
}
