//! The messages of a conversation, checked and made ready for a chat template.

use serde_json::{Map, Value};

use super::body::{Fields, shown};
use super::error::ApiError;
use super::params::not_a;
use super::state::ServerConfig;
use crate::text::{ChatTemplate, TemplateError};

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];
/// Most parts of one message's content.
const MAX_PARTS: usize = 256;
/// Variables that a template gets from elsewhere: `chat_template_kwargs` must not replace them.
const RESERVED_KWARGS: [&str; 10] = [
    "messages",
    "tools",
    "documents",
    "chat_template",
    "tokenize",
    "add_generation_prompt",
    "continue_final_message",
    "bos_token",
    "eos_token",
    "return_dict",
];

/// A conversation and how it is to be rendered.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) messages: Vec<Value>,
    add_generation_prompt: bool,
    continue_final_message: bool,
    kwargs: Map<String, Value>,
}

impl Conversation {
    /// Takes `messages` and the fields that concern the template.
    pub(super) fn take(fields: &mut Fields, config: &ServerConfig) -> Result<Self, ApiError> {
        let messages: Vec<Value> = fields.require("messages")?;
        if messages.is_empty() || messages.len() > config.max_messages {
            let message = format!("`messages` holds {}, allowed are 1 to {}", messages.len(), config.max_messages);
            return Err(ApiError::out_of_range("messages", message));
        }
        let messages = messages.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
        let continue_final_message = fields.take("continue_final_message")?.unwrap_or(false);
        let add_generation_prompt = take_generation_prompt(fields, continue_final_message)?;
        let kwargs = take_kwargs(fields)?;
        Ok(Self { messages, add_generation_prompt, continue_final_message, kwargs })
    }

    /// The prompt text.
    pub(super) fn render(&self, template: &ChatTemplate) -> Result<String, TemplateError> {
        if self.continue_final_message {
            return template.render_continued(&self.messages, &self.kwargs);
        }
        template.render(&self.messages, self.add_generation_prompt, &self.kwargs)
    }
}

/// On by default, unless the last message is to be continued; asking for both is a contradiction.
fn take_generation_prompt(fields: &mut Fields, continue_final_message: bool) -> Result<bool, ApiError> {
    let asked: Option<bool> = fields.take("add_generation_prompt")?;
    if continue_final_message && asked == Some(true) {
        let message = "`continue_final_message` and `add_generation_prompt` exclude each other";
        return Err(ApiError::field("conflicting_parameters", "continue_final_message", message));
    }
    Ok(asked.unwrap_or(!continue_final_message))
}

fn take_kwargs(fields: &mut Fields) -> Result<Map<String, Value>, ApiError> {
    let kwargs: Map<String, Value> = fields.take("chat_template_kwargs")?.unwrap_or_default();
    match kwargs.keys().find(|key| RESERVED_KWARGS.contains(&key.as_str())) {
        Some(key) => {
            let message = format!("`chat_template_kwargs` must not set `{key}`");
            Err(ApiError::field("unsupported_parameter", "chat_template_kwargs", message))
        }
        None => Ok(kwargs),
    }
}

fn message((place, value): (usize, Value)) -> Result<Value, ApiError> {
    let name = format!("messages[{place}]");
    let Value::Object(mut fields) = value else { return Err(not_a("an object", &name, &value)) };
    let role = check_role(&name, &fields)?.to_owned();
    let content = fields.remove("content").unwrap_or(Value::Null);
    let may_be_empty = role == "assistant" && fields.get("tool_calls").is_some_and(Value::is_array);
    let content = match content {
        Value::Null if may_be_empty => Value::String(String::new()),
        Value::String(text) => Value::String(text),
        Value::Array(parts) => check_parts(&format!("{name}.content"), parts)?,
        other => return Err(not_a("a string or a list of parts", &format!("{name}.content"), &other)),
    };
    fields.insert("content".to_owned(), content);
    parse_tool_arguments(&mut fields);
    Ok(Value::Object(fields))
}

fn check_role<'a>(name: &str, message: &'a Map<String, Value>) -> Result<&'a str, ApiError> {
    let role = message.get("role").unwrap_or(&Value::Null);
    let known = role.as_str().filter(|role| ROLES.contains(role));
    known.ok_or_else(|| {
        let text = format!("`{name}.role` is {}, allowed are {}", shown(role), ROLES.join(", "));
        ApiError::field("invalid_value", &format!("{name}.role"), text)
    })
}

fn check_parts(name: &str, parts: Vec<Value>) -> Result<Value, ApiError> {
    if parts.is_empty() || parts.len() > MAX_PARTS {
        let message = format!("`{name}` has {} parts, allowed are 1 to {MAX_PARTS}", parts.len());
        return Err(ApiError::out_of_range(name, message));
    }
    for (place, part) in parts.iter().enumerate() {
        check_part(&format!("{name}[{place}]"), part)?;
    }
    Ok(Value::Array(parts))
}

fn check_part(name: &str, part: &Value) -> Result<(), ApiError> {
    match part.get("type").and_then(Value::as_str) {
        Some("text") if part.get("text").is_some_and(Value::is_string) => Ok(()),
        Some("text") => Err(not_a("a text part with a string under `text`", name, part)),
        Some(kind) => {
            let kind: String = kind.chars().take(64).collect();
            let message = format!("`{name}` is of type {kind:?}; only text parts are supported");
            Err(ApiError::field("unsupported_parameter", name, message))
        }
        None => Err(not_a("an object with a `type`", name, part)),
    }
}

/// OpenAI writes the arguments of tool calls as JSON in a string; templates want the object, as in vLLM.
fn parse_tool_arguments(message: &mut Map<String, Value>) {
    let Some(Value::Array(calls)) = message.get_mut("tool_calls") else { return };
    for call in calls {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        if let Some(Ok(parsed)) = arguments.as_str().map(serde_json::from_str) {
            *arguments = parsed;
        }
    }
}
