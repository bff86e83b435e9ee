//! The small files beside the weights of a checkpoint: configuration, generation defaults, tokenizer, chat template.
//!
//! [`Checkpoint::open`] reads a directory in the layout of the Hugging Face Hub. Only `config.json` and
//! `tokenizer.json` must be there. The weights themselves are read elsewhere; nothing here knows a device.
//!
//! Every error names the file, the key, the value found and what would be right.

mod config;
mod error;
mod generation;
pub mod keys;
mod meaning;
mod neutral;
mod tokenizer_config;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

pub use config::Config;
pub use error::CheckpointError;
pub use generation::GenerationConfig;
pub use tokenizer_config::{SpecialTokens, TokenizerConfig};

use crate::request::TokenId;
use crate::text::{ChatTemplate, TemplateError, Tokenizer};

/// What the small files of a checkpoint say.
#[derive(Debug)]
pub struct Checkpoint {
    /// The directory they came from.
    pub dir: PathBuf,
    /// `config.json`, as it stands.
    pub config: Config,
    /// `generation_config.json`; all fields absent when the file is.
    pub generation: GenerationConfig,
    /// `tokenizer.json` with the rules of `tokenizer_config.json` about the first token.
    pub tokenizer: Arc<Tokenizer>,
    /// The tokens that templates name.
    pub special: SpecialTokens,
    /// The chat template; `None` when the checkpoint has none.
    pub template: Option<ChatTemplate>,
}

impl Checkpoint {
    /// Reads the directory `dir`.
    ///
    /// # Errors
    /// `dir` is not a directory, a needed file is absent, or a file does not hold what its name promises.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        if !dir.is_dir() {
            return Err(CheckpointError::NotADirectory { path: dir.to_owned() });
        }
        let config = Config::open(dir)?;
        let generation = GenerationConfig::open(dir)?;
        let tokenizer_config = TokenizerConfig::open(dir)?;
        let tokenizer = open_tokenizer(dir, &tokenizer_config)?;
        let template = open_template(dir, &tokenizer_config)?;
        Ok(Self {
            dir: dir.to_owned(),
            config,
            generation,
            tokenizer: Arc::new(tokenizer),
            special: tokenizer_config.special,
            template,
        })
    }

    /// The tokens that end a text: those of `generation_config.json`, or of `config.json` where that names none,
    /// and always the tokenizer's own. In order, without repeats; empty if the checkpoint names none.
    ///
    /// # Errors
    /// `eos_token_id` in `config.json` is neither a number nor a list of numbers.
    pub fn eos(&self) -> Result<Vec<TokenId>, CheckpointError> {
        let mut eos = match &self.generation.eos {
            Some(ids) => ids.clone(),
            None => self.config.eos()?.unwrap_or_default(),
        };
        let named = self.special.eos.as_deref().and_then(|token| self.tokenizer.id(token));
        if let Some(id) = named.filter(|id| !eos.contains(id)) {
            eos.push(id);
        }
        Ok(eos)
    }
}

fn open_tokenizer(dir: &Path, config: &TokenizerConfig) -> Result<Tokenizer, CheckpointError> {
    let path = dir.join("tokenizer.json");
    let bytes = read(&path)?.ok_or_else(|| CheckpointError::Missing {
        path: path.clone(),
        advice: "save the checkpoint with a fast tokenizer: AutoTokenizer.from_pretrained(..).save_pretrained(..)",
    })?;
    let tokenizer =
        Tokenizer::from_bytes(&bytes).map_err(|error| CheckpointError::Invalid { path, what: error.to_string() })?;
    Ok(tokenizer.with_bos_rule(config.special.bos.as_deref(), config.add_bos_token))
}

/// The default template, with the one for conversations with tools where there is one. As in transformers, files take
/// precedence over the key in `tokenizer_config.json`.
fn open_template(dir: &Path, config: &TokenizerConfig) -> Result<Option<ChatTemplate>, CheckpointError> {
    let default = dir.join("chat_template.jinja");
    let tool_use = dir.join("additional_chat_templates").join("tool_use.jinja");
    let key = dir.join(tokenizer_config::FILE);
    let (default, tool_use) = match (read_template(default, config)?, read_template(tool_use, config)?) {
        (None, None) => {
            let parse = |source: &Option<String>| source.as_ref().map(|source| parse_template(&key, source, config));
            (parse(&config.chat_template).transpose()?, parse(&config.tool_use_template).transpose()?)
        }
        files => files,
    };
    Ok(match (default, tool_use) {
        (Some(default), Some(tool_use)) => Some(default.with_tool_use(tool_use)),
        (default, tool_use) => default.or(tool_use),
    })
}

fn read_template(path: PathBuf, config: &TokenizerConfig) -> Result<Option<ChatTemplate>, CheckpointError> {
    let Some(bytes) = read(&path)? else { return Ok(None) };
    parse_template(&path, &utf8(&path, bytes)?, config).map(Some)
}

fn parse_template(path: &Path, source: &str, config: &TokenizerConfig) -> Result<ChatTemplate, CheckpointError> {
    let invalid = |error: TemplateError| CheckpointError::Invalid { path: path.to_owned(), what: error.to_string() };
    ChatTemplate::new(source, &config.special).map_err(invalid)
}

/// The bytes of a file, `None` if there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CheckpointError::Read { path: path.to_owned(), source }),
    }
}

/// The JSON object in a file, `None` if there is no such file.
fn read_object(path: &Path) -> Result<Option<Value>, CheckpointError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(CheckpointError::Invalid {
            path: path.to_owned(),
            what: "this is a Git LFS pointer, not the file itself: run `git lfs pull` in the checkpoint".into(),
        });
    }
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| CheckpointError::Invalid { path: path.to_owned(), what: format!("not JSON: {error}") })?;
    if !value.is_object() {
        return Err(CheckpointError::Invalid { path: path.to_owned(), what: "not a JSON object".into() });
    }
    Ok(Some(value))
}

fn utf8(path: &Path, bytes: Vec<u8>) -> Result<String, CheckpointError> {
    String::from_utf8(bytes)
        .map_err(|error| CheckpointError::Invalid { path: path.to_owned(), what: format!("not UTF-8: {error}") })
}

#[cfg(test)]
mod tests;
