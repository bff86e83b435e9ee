//! The fields that both completion routes share: sampling, stopping, streaming.
//!
//! Names and meanings are OpenAI's, with vLLM's extensions. A setting that a request does not name comes from the
//! checkpoint's `generation_config.json`, as in vLLM. A request without `seed` gets a fresh one; the answers
//! `index` 0, 1, .. of one prompt use `seed`, `seed + 1`, ..

use serde_json::{Map, Value};

use super::body::{Fields, shown};
use super::error::ApiError;
use super::random;
use super::state::{ServedModel, ServerConfig};
use crate::request::{Sampling, Stopping, TokenId};
use crate::text::Settings;

/// Longest stop string, bytes.
const MAX_STOP_BYTES: usize = 1024;
/// Most entries of `logit_bias`.
const MAX_BIASES: usize = 1024;

/// The shared fields of a request.
#[derive(Debug, Clone)]
pub(super) struct Params {
    /// Answers to each prompt.
    pub(super) n: usize,
    /// Answer in events.
    pub(super) stream: bool,
    /// End the events with one about usage.
    pub(super) include_usage: bool,
    pub(super) sampling: Sampling,
    /// Without `max_tokens`, which the routes treat each in their own way.
    pub(super) stopping: Stopping,
    pub(super) settings: Settings,
}

impl Params {
    /// Takes the shared fields.
    pub(super) fn take(fields: &mut Fields, model: &ServedModel, config: &ServerConfig) -> Result<Self, ApiError> {
        let stream = fields.take("stream")?.unwrap_or(false);
        Ok(Self {
            n: take_n(fields, config.max_n)?,
            stream,
            include_usage: take_include_usage(fields, stream)?,
            sampling: take_sampling(fields, model)?,
            stopping: take_stopping(fields, model)?,
            settings: take_settings(fields, config.max_stops)?,
        })
    }

    /// The sampling of the answer at `index` to a prompt.
    pub(super) fn sampling_of(&self, index: usize) -> Sampling {
        let seed = self.sampling.seed.wrapping_add(index as u64);
        Sampling { seed, ..self.sampling.clone() }
    }
}

fn take_n(fields: &mut Fields, most: usize) -> Result<usize, ApiError> {
    let n: usize = fields.take("n")?.unwrap_or(1);
    if n == 0 || n > most {
        return Err(ApiError::out_of_range("n", format!("`n` is {n}, allowed is 1 to {most}")));
    }
    Ok(n)
}

fn take_include_usage(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(mut options) = fields.take::<Map<String, Value>>("stream_options")? else { return Ok(false) };
    if !stream {
        let message = "`stream_options` is allowed only with `stream: true`";
        return Err(ApiError::field("conflicting_parameters", "stream_options", message));
    }
    match options.remove("include_usage") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(value) => Err(not_a("true or false", "stream_options.include_usage", &value)),
    }
}

fn take_sampling(fields: &mut Fields, model: &ServedModel) -> Result<Sampling, ApiError> {
    let plain = Sampling::default();
    let defaults = &model.defaults;
    let mut number = |name: &str, default: f32| Ok::<f32, ApiError>(fields.take(name)?.unwrap_or(default));
    Ok(Sampling {
        temperature: number("temperature", defaults.temperature.unwrap_or(plain.temperature))?,
        top_p: number("top_p", defaults.top_p.unwrap_or(plain.top_p))?,
        min_p: number("min_p", defaults.min_p.unwrap_or(plain.min_p))?,
        presence_penalty: number("presence_penalty", plain.presence_penalty)?,
        frequency_penalty: number("frequency_penalty", plain.frequency_penalty)?,
        repetition_penalty: number(
            "repetition_penalty",
            defaults.repetition_penalty.unwrap_or(plain.repetition_penalty),
        )?,
        top_k: take_top_k(fields)?.or(defaults.top_k).unwrap_or(plain.top_k),
        logit_bias: take_logit_bias(fields)?,
        seed: take_seed(fields)?,
    })
}

/// -1 and 0 keep all tokens.
fn take_top_k(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let Some(top_k) = fields.take::<i64>("top_k")? else { return Ok(None) };
    match usize::try_from(top_k) {
        Ok(top_k) => Ok(Some(top_k)),
        Err(_) if top_k == -1 => Ok(Some(0)),
        Err(_) => Err(ApiError::out_of_range("top_k", format!("`top_k` is {top_k}, allowed is -1 and up"))),
    }
}

/// As in vLLM, -1 asks for a fresh seed.
fn take_seed(fields: &mut Fields) -> Result<u64, ApiError> {
    match fields.take::<i64>("seed")? {
        None | Some(-1) => Ok(random::number()),
        Some(seed) => Ok(seed.cast_unsigned()),
    }
}

fn take_logit_bias(fields: &mut Fields) -> Result<Vec<(TokenId, f32)>, ApiError> {
    let Some(map) = fields.take::<Map<String, Value>>("logit_bias")? else { return Ok(Vec::new()) };
    if map.len() > MAX_BIASES {
        let message = format!("`logit_bias` has {} entries, allowed are {MAX_BIASES}", map.len());
        return Err(ApiError::out_of_range("logit_bias", message));
    }
    map.iter().map(|(token, bias)| logit_bias(token, bias)).collect()
}

fn logit_bias(token: &str, bias: &Value) -> Result<(TokenId, f32), ApiError> {
    let id = token.parse().map_err(|_| {
        let token: String = token.chars().take(64).collect();
        ApiError::field("invalid_token_id", "logit_bias", format!("`logit_bias` has the key {token:?}, no token id"))
    })?;
    let bias = bias.as_f64().ok_or_else(|| not_a("a number", &format!("logit_bias.{id}"), bias))?;
    Ok((id, bias as f32))
}

fn take_stopping(fields: &mut Fields, model: &ServedModel) -> Result<Stopping, ApiError> {
    let stop_tokens = match fields.take_value("stop_token_ids") {
        Some(value) => token_ids("stop_token_ids", &value)?,
        None => Vec::new(),
    };
    Ok(Stopping {
        max_tokens: None,
        min_tokens: fields.take("min_tokens")?.unwrap_or(0),
        eos: model.eos.clone(),
        stop_tokens,
        ignore_eos: fields.take("ignore_eos")?.unwrap_or(false),
    })
}

fn take_settings(fields: &mut Fields, max_stops: usize) -> Result<Settings, ApiError> {
    Ok(Settings {
        skip_special_tokens: fields.take("skip_special_tokens")?.unwrap_or(true),
        stop: take_stop(fields, max_stops)?,
        include_stop: fields.take("include_stop_str_in_output")?.unwrap_or(false),
    })
}

fn take_stop(fields: &mut Fields, max_stops: usize) -> Result<Vec<String>, ApiError> {
    let stops = match fields.take_value("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(stop)) => vec![stop],
        Some(Value::Array(list)) => list.iter().map(stop_string).collect::<Result<_, _>>()?,
        Some(value) => return Err(not_a("a string or a list of strings", "stop", &value)),
    };
    if stops.len() > max_stops {
        let message = format!("`stop` has {} strings, allowed are {max_stops}", stops.len());
        return Err(ApiError::out_of_range("stop", message));
    }
    match stops.iter().find(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        Some(stop) => {
            let message = format!("a string in `stop` has {} bytes, allowed is 1 to {MAX_STOP_BYTES}", stop.len());
            Err(ApiError::out_of_range("stop", message))
        }
        None => Ok(stops),
    }
}

fn stop_string(value: &Value) -> Result<String, ApiError> {
    value.as_str().map(str::to_owned).ok_or_else(|| not_a("a string", "stop", value))
}

/// A list of token ids under `name`; that they are below the vocabulary is checked by the engine's request.
pub(super) fn token_ids(name: &str, value: &Value) -> Result<Vec<TokenId>, ApiError> {
    let list = value.as_array().ok_or_else(|| not_a("a list of token ids", name, value))?;
    list.iter().enumerate().map(|(place, value)| token_id(&format!("{name}[{place}]"), value)).collect()
}

fn token_id(name: &str, value: &Value) -> Result<TokenId, ApiError> {
    if !value.is_i64() && !value.is_u64() {
        return Err(not_a("a token id", name, value));
    }
    let id = value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    id.ok_or_else(|| ApiError::field("invalid_token_id", name, format!("`{name}` is {value}, no token id")))
}

/// The error about a value of the wrong type.
pub(super) fn not_a(expected: &str, name: &str, value: &Value) -> ApiError {
    ApiError::field("invalid_type", name, format!("`{name}` is {}, expected {expected}", shown(value)))
}
