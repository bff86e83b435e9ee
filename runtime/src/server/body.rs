//! Request bodies: JSON objects, read field by field.
//!
//! Fields are taken out of the object one by one, so that an error can name the field, and so that what is left over at
//! the end is known: fields that nobody knows are named once in the log and otherwise ignored, as OpenAI's clients
//! and gateways rely on. Fields that another server would honour and that change the output are refused by name
//! instead: ignoring them would silently answer another question.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::ApiError;

/// A JSON object of which fields can be taken.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "the body is too large")
            }
            status => ApiError::new(status, "bad_http", "the body cannot be read"),
        })?;
        Self::parse(&bytes)
    }
}

impl Fields {
    /// Reads an object, in which no key may come twice.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let invalid = |error: serde_json::Error| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not a JSON object: {error}"))
        };
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let map = deserializer.deserialize_map(UniqueKeys).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        Ok(Self { map })
    }

    /// Takes a field; `None` if it is absent or null.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.take_value(name) else { return Ok(None) };
        let shown = shown(&value);
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| ApiError::field("invalid_type", name, format!("`{name}` is {shown}: {error}")))
    }

    /// Takes a field as it is; `None` if it is absent or null.
    pub(super) fn take_value(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field that must be there.
    pub(super) fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ApiError> {
        self.take(name)?.ok_or_else(|| missing(name))
    }

    /// Ends the reading: refuses fields that would change the output, and names unknown ones in the log.
    pub(super) fn finish(self, route: &'static str) -> Result<(), ApiError> {
        for (name, value) in &self.map {
            if HARMLESS.contains(&name.as_str()) || is_neutral(name, value) {
                continue;
            }
            if UNSUPPORTED.contains(&name.as_str()) {
                let message = format!("`{name}` is not supported; leave it out");
                return Err(ApiError::field("unsupported_parameter", name, message));
            }
            warn_once(route, name);
        }
        Ok(())
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::field("missing_field", name, format!("`{name}` is missing"))
}

/// A value as error messages show it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Fields that say nothing about the output.
const HARMLESS: [&str; 12] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "spaces_between_special_tokens",
    "priority",
    "request_id",
    "no_stop_trim",
    "separate_reasoning",
];

/// Fields of OpenAI, vLLM and SGLang that would change the output, and that this server does not have.
const UNSUPPORTED: [&str; 43] = [
    "allowed_token_ids",
    "audio",
    "bad_words",
    "best_of",
    "cache_salt",
    "chat_template",
    "documents",
    "ebnf",
    "function_call",
    "functions",
    "guided_choice",
    "guided_decoding_backend",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "guided_whitespace_pattern",
    "json_schema",
    "kv_transfer_params",
    "length_penalty",
    "logits_processors",
    "lora_path",
    "mm_processor_kwargs",
    "modalities",
    "prediction",
    "prompt_embeds",
    "prompt_logprobs",
    "reasoning_effort",
    "regex",
    "response_format",
    "return_tokens_as_token_ids",
    "structural_tag",
    "structured_outputs",
    "suffix",
    "thinking",
    "tool_choice",
    "tools",
    "top_n_sigma",
    "truncate_prompt_tokens",
    "typical_p",
    "use_beam_search",
    "vllm_xargs",
    "web_search_options",
    "xtc_probability",
];

/// Values that ask for nothing: clients and gateways fill them in unasked.
fn is_neutral(name: &str, value: &Value) -> bool {
    match (name, value) {
        (_, Value::Null | Value::Bool(false)) => true,
        (_, Value::Array(list)) if list.is_empty() => true,
        (_, Value::Object(map)) if map.is_empty() => true,
        (_, Value::String(text)) if text.is_empty() => true,
        ("best_of" | "length_penalty" | "typical_p", Value::Number(number)) => number.as_f64() == Some(1.0),
        ("prompt_logprobs" | "xtc_probability", Value::Number(number)) => number.as_f64() == Some(0.0),
        ("response_format", Value::Object(map)) => map.get("type").is_some_and(|kind| kind == "text"),
        ("tool_choice", Value::String(choice)) => choice == "none" || choice == "auto",
        ("modalities", Value::Array(list)) => list.iter().all(|modality| modality == "text"),
        _ => false,
    }
}

/// Names an unknown field in the log, the first time only.
fn warn_once(route: &'static str, name: &str) {
    /// Enough for every mistake anyone makes; a client that invents names does not fill the memory.
    const MOST_NAMES: usize = 256;
    static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let name: String = name.chars().take(64).collect();
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    if named.len() < MOST_NAMES && named.insert(name.clone()) {
        tracing::warn!(route, field = ?name, "ignoring a field of a request that is not known here");
    }
}

/// JSON may be said to be something else only by naming no type at all, as plain `curl -d` does in its way.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let message = "compressed bodies are not accepted";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
    }
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json") {
        return Ok(());
    }
    let message = "send the body as `Content-Type: application/json`";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// An object in which a repeated key is an error: which of the two counts would depend on who reads it.
struct UniqueKeys;

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = entries.next_entry::<String, Value>()? {
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("the field `{key}` comes twice")));
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}
