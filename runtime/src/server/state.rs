//! What all handlers share: the model being served, the limits, the metrics, and where the server is in its life.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::error::ApiError;
use crate::checkpoint::{Checkpoint, CheckpointError, GenerationConfig};
use crate::engine::{EngineHandle, Phase};
use crate::metrics::Metrics;
use crate::request::TokenId;
use crate::text::{ChatTemplate, Tokenizer};

/// Limits of the server. The engine's queue has its own.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Largest request body, bytes.
    pub body_limit_bytes: usize,
    /// Time without an event after which a stream gets a comment, so that proxies keep it open.
    pub keep_alive: Duration,
    /// How long running answers may go on after the order to shut down.
    pub shutdown_timeout: Duration,
    /// Time without progress, while there is work, after which `/health` fails.
    pub stall_limit: Duration,
    /// Most answers to one prompt.
    pub max_n: usize,
    /// Most prompts in one request.
    pub max_prompts: usize,
    /// Most stop strings of one request.
    pub max_stops: usize,
    /// Most messages of one conversation.
    pub max_messages: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            body_limit_bytes: 32 << 20,
            keep_alive: Duration::from_secs(15),
            shutdown_timeout: Duration::from_secs(30),
            stall_limit: Duration::from_secs(120),
            max_n: 128,
            max_prompts: 256,
            max_stops: 16,
            max_messages: 2048,
        }
    }
}

/// A model with all that is needed to answer in text.
pub struct ServedModel {
    /// The names that requests may use; answers carry the first.
    pub names: Vec<String>,
    /// Where the checkpoint came from, as `/v1/models` tells it.
    pub root: String,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template; without one `/v1/chat/completions` is refused.
    pub template: Option<Arc<ChatTemplate>>,
    /// Its end-of-sequence tokens.
    pub eos: Vec<TokenId>,
    /// Sampling settings of requests that name none.
    pub defaults: GenerationConfig,
    /// The engine that runs it.
    pub engine: EngineHandle,
}

impl ServedModel {
    /// The model of a checkpoint, under the name of its directory.
    ///
    /// # Errors
    /// The checkpoint's end-of-sequence tokens are malformed.
    pub fn new(checkpoint: Checkpoint, engine: EngineHandle) -> Result<Self, CheckpointError> {
        let eos = checkpoint.eos()?;
        let name = checkpoint.dir.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
        Ok(Self {
            names: vec![name.into_owned()],
            root: checkpoint.dir.display().to_string(),
            tokenizer: checkpoint.tokenizer,
            template: checkpoint.template.map(Arc::new),
            eos,
            defaults: checkpoint.generation,
            engine,
        })
    }

    /// The name that answers carry.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    pub(super) fn max_model_len(&self) -> usize {
        self.engine.bounds().max_model_len
    }
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct AppState {
    shared: Arc<Shared>,
}

struct Shared {
    config: ServerConfig,
    metrics: Arc<Metrics>,
    model: OnceLock<ServedModel>,
    life: watch::Sender<Life>,
    num_answers: watch::Sender<usize>,
    created: u64,
}

/// Where the server is in its life. It only moves downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Takes requests, once the model is there.
    Serving,
    /// Finishes what it has.
    Draining,
    /// What is left ends with an error.
    Ended,
}

/// Counts one request that is being answered, until it is dropped.
pub(super) struct Answering {
    state: AppState,
}

impl AppState {
    /// A server without a model: `/health` is well, `/ready` is not, and all that needs the model answers 503.
    pub fn new(config: ServerConfig, metrics: Arc<Metrics>) -> Self {
        let shared = Shared {
            config,
            metrics,
            model: OnceLock::new(),
            life: watch::Sender::new(Life::Serving),
            num_answers: watch::Sender::new(0),
            created: unix_seconds(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to serve `model`. Of two models the first stays.
    pub fn install(&self, model: ServedModel) {
        if self.shared.model.set(model).is_err() {
            tracing::warn!("a second model was offered to a server that has one; it is dropped");
        }
    }

    /// Refuses new requests, lets those being answered go on for the configured time, then ends them with an error.
    pub async fn drain(&self) {
        self.advance(Life::Draining);
        let mut num_answers = self.shared.num_answers.subscribe();
        let none = num_answers.wait_for(|&number| number == 0);
        let in_time = tokio::time::timeout(self.shared.config.shutdown_timeout, none).await.is_ok();
        self.advance(Life::Ended);
        if !in_time {
            tracing::warn!(num_answers = *self.shared.num_answers.borrow(), "ending answers that are not complete");
        }
    }

    /// Requests being answered now.
    pub fn num_answers(&self) -> usize {
        *self.shared.num_answers.borrow()
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.shared.config
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// When the server started, Unix seconds.
    pub(super) fn created(&self) -> u64 {
        self.shared.created
    }

    pub(super) fn life(&self) -> watch::Receiver<Life> {
        self.shared.life.subscribe()
    }

    /// The model, if it is loaded.
    pub(super) fn model(&self) -> Result<&ServedModel, ApiError> {
        let loading = || ApiError::unavailable("loading", "the model is being loaded");
        self.shared.model.get().ok_or_else(loading)
    }

    /// The model under the name a request asks for; without a name, the one there is.
    pub(super) fn model_named(&self, name: Option<&str>) -> Result<&ServedModel, ApiError> {
        let model = self.model()?;
        match name {
            Some(name) if !model.names.iter().any(|known| known == name) => Err(unknown_model(name)),
            _ => Ok(model),
        }
    }

    /// Counts a request in, unless the server is ending.
    pub(super) fn begin_answer(&self) -> Result<Answering, ApiError> {
        self.shared.num_answers.send_modify(|number| *number += 1);
        let answering = Answering { state: self.clone() };
        match *self.shared.life.borrow() {
            Life::Serving => Ok(answering),
            Life::Draining | Life::Ended => {
                Err(ApiError::unavailable("draining", "the server is about to end and takes no more"))
            }
        }
    }

    /// Whether the process can do its work at all; the reason if not. A model being loaded is no illness.
    pub(super) fn check_health(&self) -> Result<(), ApiError> {
        let Some(model) = self.shared.model.get() else { return Ok(()) };
        if matches!(model.engine.phase(), Phase::Stopped(_)) {
            return Err(ApiError::unavailable("engine_unavailable", "the engine has stopped"));
        }
        let stalled = model.engine.stats().stalled_for(Instant::now());
        if stalled.is_some_and(|time| time > self.shared.config.stall_limit) {
            return Err(ApiError::unavailable("engine_stalled", "the engine has work and makes no progress"));
        }
        Ok(())
    }

    /// Whether new requests should be sent here; the reason if not.
    pub(super) fn check_ready(&self) -> Result<(), ApiError> {
        let model = self.model()?;
        self.check_health()?;
        if *self.shared.life.borrow() != Life::Serving || model.engine.phase() != Phase::Serving {
            return Err(ApiError::unavailable("draining", "the server is about to end and takes no more"));
        }
        Ok(())
    }

    fn advance(&self, to: Life) {
        self.shared.life.send_replace(to);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.state.shared.num_answers.send_modify(|number| *number = number.saturating_sub(1));
    }
}

fn unknown_model(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    let message = format!("the model `{name}` does not exist; `/v1/models` lists those that do");
    ApiError::new(axum::http::StatusCode::NOT_FOUND, "model_not_found", message).about("model")
}

/// Wall-clock time for `created` fields; no decision depends on it.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
