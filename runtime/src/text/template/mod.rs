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
mod messages;
mod methods;
mod python;
mod source;
mod values;

use std::io;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value};

use self::messages::{Form, Forms};
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
    forms: Forms,
    tool_use: Option<Box<ChatTemplate>>,
}

impl ChatTemplate {
    /// Parses a template and tries it on a few messages, which tells whether it reads content as text or as parts.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`].
    pub fn new(source: &str, special: &SpecialTokens) -> Result<Self, TemplateError> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, source::rewritten(source))
            .map_err(|error| TemplateError::Syntax(describe(&error)))?;
        let template = Self { environment, special: special_tokens(special), forms: Forms::default(), tool_use: None };
        let forms = Forms::detect(|messages| template.render_raw(messages, true, &Map::new()).ok());
        Ok(Self { forms, ..template })
    }

    /// Takes another template for conversations with tools.
    #[must_use]
    pub fn with_tool_use(self, template: Self) -> Self {
        Self { tool_use: Some(Box::new(template)), ..self }
    }

    /// The template for these variables: the one for tools where there are tools, if only an empty list of them.
    fn chosen(&self, extra: &Map<String, Value>) -> &Self {
        let has_tools = extra.get("tools").is_some_and(|tools| !tools.is_null());
        self.tool_use.as_deref().filter(|_| has_tools).unwrap_or(self)
    }

    /// The prompt text for `messages`, each an object with `role` and `content`. `extra` are further variables
    /// (`chat_template_kwargs`); they override `tools` and `documents`, which are null otherwise.
    ///
    /// As in transformers, a message's keys of null are left out, and its reasoning is there under the names
    /// `reasoning_content` and `thinking`, whichever of `reasoning_content`, `thinking` and `reasoning` it came as.
    ///
    /// # Errors
    /// The template refuses the messages, fails, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<String, TemplateError> {
        let chosen = self.chosen(extra);
        let messages: Vec<Value> = messages.iter().map(|message| messages::prepared(message, &chosen.forms)).collect();
        chosen.render_raw(&messages, add_generation_prompt, extra)
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
        let last = messages.last_mut().and_then(|message| messages::last_text(message.get_mut("content")?));
        match last {
            Some(text) => text.push_str(MARK),
            None => return Err(TemplateError::Render("the last message has no content to continue".into())),
        }
        let text = self.render(&messages, false, extra)?;
        let Some((start, rest)) = text.rsplit_once(MARK.trim_end()) else {
            return Err(TemplateError::Render("the last message does not show in the text".into()));
        };
        // Without the blank at the mark's end, the template trims content.
        Ok(if rest.starts_with(' ') { start } else { start.trim_end() }.to_owned())
    }

    /// Whether this template loops over content parts. Most want plain text.
    pub fn wants_parts(&self) -> bool {
        self.forms.of("user") == Form::Parts
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
}

fn special_tokens(special: &SpecialTokens) -> Map<String, Value> {
    let pairs = [
        ("bos_token", &special.bos),
        ("eos_token", &special.eos),
        ("unk_token", &special.unk),
        ("sep_token", &special.sep),
        ("pad_token", &special.pad),
        ("cls_token", &special.cls),
        ("mask_token", &special.mask),
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
    python::install(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)`, as transformers defines it.
fn tojson(value: Jinja, args: Rest<Jinja>, kwargs: Kwargs) -> Result<String, Error> {
    let argument = |place: usize, name: &str| {
        let value = args.get(place).cloned().map_or_else(|| kwargs.get(name), |value| Ok(Some(value)))?;
        Ok::<_, Error>(value.filter(|value: &Jinja| !value.is_none()))
    };
    let style = json::Style {
        ensure_ascii: argument(0, "ensure_ascii")?.is_some_and(|flag| flag.is_true()),
        indent: argument(1, "indent")?.map(indent).transpose()?,
        separators: argument(2, "separators")?.map(separators).transpose()?,
        sort_keys: argument(3, "sort_keys")?.is_some_and(|flag| flag.is_true()),
    };
    kwargs.assert_all_used()?;
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::BadSerialization, "what is undefined has no JSON"));
    }
    let value =
        serde_json::to_value(&value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(json::dumps(&value, &style))
}

/// A number of spaces, or the text itself.
fn indent(value: Jinja) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok(" ".repeat(usize::try_from(value)?.min(OUTPUT_CAP_BYTES))),
    }
}

fn separators(value: Jinja) -> Result<(String, String), Error> {
    let list: Vec<String> = value.try_iter()?.map(|item| item.to_string()).collect();
    match <[String; 2]>::try_from(list) {
        Ok([item, key]) => Ok((item, key)),
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
