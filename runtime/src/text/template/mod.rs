//! Chat templates: messages to prompt text, in the Jinja dialect that checkpoints are written for.
//!
//! The environment is that of transformers (`utils/chat_template_utils.py`): `trim_blocks` and `lstrip_blocks`, loop
//! controls, `tojson` as Python's `json.dumps`, `raise_exception`, `strftime_now`, the methods of Python's strings,
//! lists and dicts, and `{% generation %}` blocks, which mark text for training and mean nothing here.
//!
//! Requests cannot bring templates. Even so a template runs with a bound on steps and on output, since a checkpoint
//! is a download like any other.

mod clock;
mod json;

use std::io;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value, json};

use crate::checkpoint::SpecialTokens;

/// Steps of one rendering, far above what a template of thousands of messages takes.
const FUEL: u64 = 1_000_000;
/// Steps added for each message, so that long conversations are bound by the length of the context and not by this.
const FUEL_PER_MESSAGE: u64 = 10_000;
/// Most bytes of one rendering.
const OUTPUT_CAP_BYTES: usize = 16 << 20;
const NAME: &str = "chat_template";

/// A template that cannot be parsed, or messages that it refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The source is not a template.
    #[error("the chat template cannot be parsed: {0}")]
    Syntax(String),
    /// The template called `raise_exception`: its own words.
    #[error("the chat template refuses these messages: {0}")]
    Refused(String),
    /// It ran out of steps or output.
    #[error("the chat template takes too long or writes too much")]
    TooMuch,
    /// Anything else that goes wrong while rendering.
    #[error("the chat template fails: {0}")]
    Render(String),
}

/// The chat template of a checkpoint.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: Map<String, Value>,
    wants_parts: bool,
}

impl ChatTemplate {
    /// Parses a template and tries it on one message, which tells whether it wants content as text or as parts.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn new(source: &str, special: &SpecialTokens) -> Result<Self, TemplateError> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| TemplateError::Syntax(describe(&error)))?;
        let mut template = Self { environment, special: special_tokens(special), wants_parts: false };
        template.wants_parts = template.detect_parts();
        Ok(template)
    }

    /// The prompt text for `messages`, each an object with `role` and `content`. `extra` are further variables
    /// (`chat_template_kwargs`); they override `tools` and `documents`, which are null otherwise.
    ///
    /// # Errors
    /// The template refuses the messages, fails, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages.iter().map(|message| self.in_wanted_form(message)).collect();
        self.render_raw(&messages, add_generation_prompt, extra)
    }

    /// As [`Self::render`], but the text ends inside the last message, so that the model continues it.
    ///
    /// A mark is put at the end of that message and the text cut there, as transformers does it; where the template
    /// trims content, the blank end of the message is gone as well.
    ///
    /// # Errors
    /// As [`Self::render`]; also when the last message does not show in the text.
    pub fn render_continued(&self, messages: &[Value], extra: &Map<String, Value>) -> Result<String, TemplateError> {
        const MARK: &str = "CONTINUE_FINAL_MESSAGE_TAG ";
        let mut messages = messages.to_vec();
        let last = messages.last_mut().and_then(|message| last_text(message.get_mut("content")?));
        match last {
            Some(text) => text.push_str(MARK),
            None => return Err(TemplateError::Render("the last message has no content to continue".into())),
        }
        let text = self.render(&messages, false, extra)?;
        match (text.rsplit_once(MARK), text.rsplit_once(MARK.trim_end())) {
            (Some((start, _)), _) => Ok(start.to_owned()),
            (None, Some((start, _))) => Ok(start.trim_end().to_owned()),
            (None, None) => Err(TemplateError::Render("the last message does not show in the text".into())),
        }
    }

    /// Whether this template loops over content parts. Most want plain text.
    pub fn wants_parts(&self) -> bool {
        self.wants_parts
    }

    fn render_raw(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String, TemplateError> {
        let mut context = self.special.clone();
        context.extend([("tools".to_owned(), Value::Null), ("documents".to_owned(), Value::Null)]);
        context.extend(extra.clone());
        context.insert("add_generation_prompt".to_owned(), add_generation_prompt.into());
        context.insert("messages".to_owned(), messages.into());
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let template = environment.get_template(NAME).map_err(|error| render_error(&error))?;
        let mut output = Capped::default();
        template.render_captured_to(Jinja::from(Serde(&context)), &mut output).map_err(|error| render_error(&error))?;
        String::from_utf8(output.bytes).map_err(|error| TemplateError::Render(error.to_string()))
    }

    fn in_wanted_form(&self, message: &Value) -> Value {
        let mut message = message.clone();
        if let Some(content) = message.get_mut("content") {
            match (&*content, self.wants_parts) {
                (Value::Array(parts), false) => *content = joined(parts).into(),
                (Value::String(text), true) => *content = json!([{"type": "text", "text": text}]),
                _ => {}
            }
        }
        message
    }

    /// A template wants parts if a text gets lost in it and the same text as a part does not.
    fn detect_parts(&self) -> bool {
        const PROBE: &str = "a probe of this template";
        let shows = |content: Value| {
            let message = json!({"role": "user", "content": content});
            let rendered = self.render_raw(&[message], true, &Map::new());
            rendered.is_ok_and(|text| text.contains(PROBE))
        };
        !shows(PROBE.into()) && shows(json!([{"type": "text", "text": PROBE}]))
    }
}

/// The text of a message's content, or of its last part.
fn last_text(content: &mut Value) -> Option<&mut String> {
    match content {
        Value::String(text) => Some(text),
        Value::Array(parts) => match parts.last_mut()?.get_mut("text")? {
            Value::String(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// The texts of content parts, a line each as in vLLM.
fn joined(parts: &[Value]) -> String {
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    texts.join("\n")
}

fn special_tokens(special: &SpecialTokens) -> Map<String, Value> {
    let pairs = [
        ("bos_token", &special.bos),
        ("eos_token", &special.eos),
        ("unk_token", &special.unk),
        ("pad_token", &special.pad),
    ];
    let named = pairs.into_iter().filter_map(|(name, token)| Some((name.to_owned(), token.clone()?.into())));
    named.collect()
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as transformers defines it.
fn tojson(value: Jinja, ensure_ascii: Option<Jinja>, kwargs: Kwargs) -> Result<String, Error> {
    let named: Option<bool> = kwargs.get("ensure_ascii")?;
    let style = json::Style {
        indent: kwargs.get("indent")?,
        ensure_ascii: ensure_ascii.map_or(named.unwrap_or(false), |flag| flag.is_true()),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: separators(&kwargs)?,
    };
    kwargs.assert_all_used()?;
    let value =
        serde_json::to_value(&value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(json::dumps(&value, &style))
}

fn separators(kwargs: &Kwargs) -> Result<Option<(String, String)>, Error> {
    let Some(list) = kwargs.get::<Option<Vec<String>>>("separators")? else {
        return Ok(None);
    };
    match <[String; 2]>::try_from(list) {
        Ok([item, key]) => Ok(Some((item, key))),
        Err(_) => Err(Error::new(ErrorKind::InvalidOperation, "`separators` takes two strings")),
    }
}

/// Marks the template's own refusals among other errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn strftime_now(format: String) -> String {
    clock::strftime(&format, SystemTime::now())
}

/// `{% generation %}` becomes a block that is always taken: minijinja knows no custom tags.
fn without_generation_blocks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tail)) = rest.split_once("{%") {
        result.push_str(before);
        result.push_str("{%");
        let (tag, after) = tail.split_once("%}").unwrap_or((tail, ""));
        let word = tag.trim_matches(['-', '+']).trim();
        match word {
            "generation" => result.push_str(&tag.replace(word, "if true")),
            "endgeneration" => result.push_str(&tag.replace(word, "endif")),
            _ => result.push_str(tag),
        }
        if tail.len() > tag.len() {
            result.push_str("%}");
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

fn render_error(error: &Error) -> TemplateError {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => TemplateError::TooMuch,
        _ => TemplateError::Render(describe(error)),
    }
}

/// Kind, detail and line, without the excerpt that the full display adds.
fn describe(error: &Error) -> String {
    let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
    let line = error.line().map_or_else(String::new, |line| format!(" (line {line})"));
    format!("{}{detail}{line}", error.kind())
}

/// A buffer that refuses to grow past the cap.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_CAP_BYTES {
            return Err(io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
