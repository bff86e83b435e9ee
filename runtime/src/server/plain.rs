//! The small routes: models, tokenizer, health, version, load, metrics.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::body::{Fields, missing};
use super::chat;
use super::encode::encode;
use super::error::ApiError;
use super::messages::Conversation;
use super::params::token_ids;
use super::state::{AppState, ServedModel};
use crate::engine::EngineStats;
use crate::request::TokenId;

/// One entry of `/v1/models`.
#[derive(Debug, Serialize)]
pub(super) struct ModelCard {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: String,
    parent: Option<String>,
    max_model_len: usize,
}

impl ModelCard {
    fn new(state: &AppState, model: &ServedModel, name: &str) -> Self {
        Self {
            id: name.to_owned(),
            object: "model",
            created: state.created(),
            owned_by: "trefoil",
            root: model.root.clone(),
            parent: None,
            max_model_len: model.max_model_len(),
        }
    }
}

/// `GET /v1/models`.
pub(super) async fn models(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let model = state.model()?;
    let cards: Vec<_> = model.names.iter().map(|name| ModelCard::new(&state, model, name)).collect();
    Ok(Json(json!({"object": "list", "data": cards})))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(State(state): State<AppState>, Path(id): Path<String>) -> Result<Json<ModelCard>, ApiError> {
    let model = state.model_named(Some(&id))?;
    Ok(Json(ModelCard::new(&state, model, &id)))
}

/// `GET /health`: the process can do its work, or will when the model is loaded.
pub(super) async fn health(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    state.check_health()?;
    Ok(Json(json!({"status": "ok"})))
}

/// `GET /ready`: new requests are welcome.
pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    state.check_ready()?;
    Ok(Json(json!({"status": "ready"})))
}

/// `GET /version`.
pub(super) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /load`: requests being answered.
pub(super) async fn load(State(state): State<AppState>) -> Json<Value> {
    Json(json!({"server_load": state.num_answers()}))
}

/// `GET /v1/loads`, in the form that SMG reads.
pub(super) async fn loads(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let model = state.model()?;
    let capacity = model.engine.capacity();
    let max_total_num_tokens = capacity.num_pages * capacity.page_tokens;
    let EngineStats { num_running, num_waiting, num_pages_free, num_pages_total, .. } = model.engine.stats();
    let num_used_tokens = num_pages_total.saturating_sub(num_pages_free) * capacity.page_tokens;
    let token_usage = num_used_tokens as f64 / max_total_num_tokens.max(1) as f64;
    let load = json!({
        "dp_rank": 0,
        "num_running_reqs": num_running,
        "num_waiting_reqs": num_waiting,
        "num_waiting_uncached_tokens": 0,
        "num_total_reqs": num_running + num_waiting,
        "num_used_tokens": num_used_tokens,
        "max_total_num_tokens": max_total_num_tokens,
        "token_usage": token_usage,
        "gen_throughput": 0.0,
        "cache_hit_rate": 0.0,
        "utilization": num_running as f64 / capacity.max_num_seqs.max(1) as f64,
        "max_running_requests": capacity.max_num_seqs,
    });
    let timestamp = super::state::unix_seconds();
    Ok(Json(json!({
        "timestamp": timestamp.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "dp_rank_count": 1,
        "loads": [load],
    })))
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(state): State<AppState>,
) -> Result<([(HeaderName, &'static str); 1], String), ApiError> {
    let engine = &state.model()?.engine;
    let text = state.metrics().render(&engine.stats(), &engine.expert_loads(), &engine.capacity());
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

#[derive(Debug, Serialize)]
pub(super) struct TokenizeBody {
    count: usize,
    max_model_len: usize,
    tokens: Vec<TokenId>,
    token_strs: Option<Vec<String>>,
}

/// `POST /tokenize`: the tokens of a `prompt`, or of `messages` after the chat template.
pub(super) async fn tokenize(
    State(state): State<AppState>,
    mut fields: Fields,
) -> Result<Json<TokenizeBody>, ApiError> {
    let name: Option<String> = fields.take("model")?;
    let model = state.model_named(name.as_deref())?;
    let wants_strings: bool = fields.take("return_token_strs")?.unwrap_or(false);
    let add_special_tokens: Option<bool> = fields.take("add_special_tokens")?;
    let tokens = match fields.take::<String>("prompt")? {
        Some(prompt) => {
            fields.finish("/tokenize")?;
            encode(model, prompt, add_special_tokens.unwrap_or(true)).await?
        }
        None => {
            let conversation = Conversation::take(&mut fields, state.config())?;
            fields.finish("/tokenize")?;
            chat::prompt_tokens(model, conversation, add_special_tokens.unwrap_or(false)).await?
        }
    };
    let strings = || tokens.iter().map(|&id| model.tokenizer.token(id).unwrap_or_default()).collect();
    let token_strs = wants_strings.then(strings);
    Ok(Json(TokenizeBody { count: tokens.len(), max_model_len: model.max_model_len(), tokens, token_strs }))
}

/// `POST /detokenize`: the text of `tokens`, special ones included.
pub(super) async fn detokenize(State(state): State<AppState>, mut fields: Fields) -> Result<Json<Value>, ApiError> {
    let name: Option<String> = fields.take("model")?;
    let model = state.model_named(name.as_deref())?;
    let value = fields.take_value("tokens").ok_or_else(|| missing("tokens"))?;
    fields.finish("/detokenize")?;
    let prompt = model.tokenizer.decode(&token_ids("tokens", &value)?, false)?;
    Ok(Json(json!({"prompt": prompt})))
}
