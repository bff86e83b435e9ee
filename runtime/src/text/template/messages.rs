//! Messages as a template is given them: what transformers does to them first, and content in a form it can read.
//!
//! Content is a text or a list of parts. transformers hands over what it gets; a template that knows only texts then
//! prints the list as data, and one that knows only parts loses the text. So each template is tried on both forms, role by
//! role, and content is converted where only the other form shows.

use serde_json::{Map, Value, json};

/// The names that reasoning comes under, the first that has a value counts.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
const ROLES: [&str; 4] = ["user", "system", "assistant", "tool"];

/// The forms of content that a template can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// Only texts.
    #[default]
    Text,
    /// Only lists of parts.
    Parts,
    /// Both.
    Either,
}

/// What a template can read in messages of each role.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forms {
    of_roles: [Form; ROLES.len()],
}

impl Forms {
    /// Tries conversations on a template; `render` gives their text, or nothing where it fails.
    pub(super) fn detect(render: impl Fn(&[Value]) -> Option<String>) -> Self {
        let user = detect_role("user", Form::Text, &render).unwrap_or_default();
        Self { of_roles: ROLES.map(|role| detect_role(role, user, &render).unwrap_or(user)) }
    }

    /// The form for messages of a role; other roles are taken to be read as the user's are.
    pub(super) fn of(&self, role: &str) -> Form {
        let place = ROLES.iter().position(|known| *known == role).unwrap_or(0);
        self.of_roles[place]
    }
}

/// `None` where neither form shows, as when the template wants no messages of this role.
fn detect_role(role: &str, user: Form, render: &impl Fn(&[Value]) -> Option<String>) -> Option<Form> {
    const PROBE: &str = "a probe of this template";
    let shown = |content: Value| render(&probe(role, content, user)).filter(|text| text.contains(PROBE));
    let is_data = |text: &str| {
        ["'text': '", "\"text\": \"", "\"text\":\""].iter().any(|key| text.contains(&format!("{key}{PROBE}")))
    };
    let reads_text = shown(PROBE.into()).is_some();
    let reads_parts = shown(json!([{"type": "text", "text": PROBE}])).is_some_and(|text| !is_data(&text));
    match (reads_text, reads_parts) {
        (true, true) => Some(Form::Either),
        (true, false) => Some(Form::Text),
        (false, true) => Some(Form::Parts),
        (false, false) => None,
    }
}

/// A conversation with `content` in a message of `role`.
fn probe(role: &str, content: Value, user: Form) -> Vec<Value> {
    let question = json!({"role": "user", "content": in_form("?".into(), user)});
    let probe = json!({"role": role, "content": content});
    match role {
        "system" => vec![probe, question],
        "assistant" => vec![question.clone(), probe, question],
        "tool" => {
            let call = json!({"id": "call00000", "type": "function", "function": {"name": "f", "arguments": {}}});
            let probe = json!({"role": role, "tool_call_id": "call00000", "name": "f", "content": probe["content"]});
            vec![question, json!({"role": "assistant", "content": "", "tool_calls": [call]}), probe]
        }
        _ => vec![probe],
    }
}

/// A message as the template gets it.
pub(super) fn prepared(message: &Value, forms: &Forms) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let form = forms.of(fields.get("role").and_then(Value::as_str).unwrap_or_default());
    let present = |key: &&str| fields.get(*key).is_some_and(|value| !value.is_null());
    let reasoning = REASONING.iter().find(|key| present(key)).map(|key| fields[*key].clone());
    let mut prepared = Map::new();
    prepared.extend(reasoning.clone().map(|reasoning| ("thinking".to_owned(), reasoning)));
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let value = if key == "content" { in_form(value.clone(), form) } else { value.clone() };
        prepared.insert(key.clone(), value);
    }
    prepared.extend(reasoning.map(|reasoning| ("reasoning_content".to_owned(), reasoning)));
    Value::Object(prepared)
}

fn in_form(content: Value, form: Form) -> Value {
    match (content, form) {
        (Value::Array(parts), Form::Text) => joined(&parts).into(),
        (Value::String(text), Form::Parts) => json!([{"type": "text", "text": text}]),
        (content, _) => content,
    }
}

/// The texts of content parts, a line each as in vLLM.
fn joined(parts: &[Value]) -> String {
    let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
    texts.join("\n")
}

/// The text of a message's content, or of its last part that has one.
pub(super) fn last_text(content: &mut Value) -> Option<&mut String> {
    match content {
        Value::String(text) => Some(text),
        Value::Array(parts) => parts.iter_mut().rev().find_map(|part| match part.get_mut("text") {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }),
        _ => None,
    }
}
