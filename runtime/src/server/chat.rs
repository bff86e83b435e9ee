//! `POST /v1/chat/completions`: the next message of a conversation.
//!
//! Without `max_tokens` or `max_completion_tokens` an answer goes on to its end, or to the end of the context, unless
//! the checkpoint's `generation_config.json` names a length. Tools, images and audio are refused by name.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::answer::{self, FinishBody, Head, Shape, UsageBody};
use super::body::Fields;
use super::choices::{self, Prompt, Update, Whole};
use super::encode::{apart, encode};
use super::error::ApiError;
use super::logprobs::ChatLogprobs;
use super::messages::Conversation;
use super::params::Params;
use super::state::{AppState, ServedModel};
use crate::request::TokenId;
use crate::text::Delta;

const ROUTE: &str = "/v1/chat/completions";
/// Conversations above this are rendered on a thread for blocking work.
const LONG_MESSAGES: usize = 64;

/// The handler.
pub(super) async fn handle(State(state): State<AppState>, mut fields: Fields) -> Result<Response, ApiError> {
    let answering = state.begin_answer()?;
    let name: Option<String> = fields.take("model")?;
    let model = state.model_named(name.as_deref())?;
    let params = Params::take(&mut fields, model, state.config())?;
    let conversation = Conversation::take(&mut fields, state.config())?;
    let add_special_tokens = fields.take("add_special_tokens")?.unwrap_or(false);
    let num_logprobs = take_num_logprobs(&mut fields)?;
    let asked = take_max_tokens(&mut fields)?;
    fields.finish(ROUTE)?;
    state.metrics().on_params(params.n, asked);

    let tokens = prompt_tokens(model, conversation, add_special_tokens).await?;
    let max_tokens = asked.or_else(|| default_max_tokens(model, tokens.len()));
    let choices = choices::submit(&state, model, &params, &[Prompt { tokens, max_tokens }], num_logprobs)?;
    if params.stream {
        let shape = ChatCompletion { head: Head::new("chatcmpl", "chat.completion.chunk", model) };
        return Ok(answer::events(&state, shape, choices, params.include_usage, answering));
    }
    let shape = ChatCompletion { head: Head::new("chatcmpl", "chat.completion", model) };
    answer::whole(shape, choices, answering).await
}

/// The tokens of a conversation after the model's template.
pub(super) async fn prompt_tokens(
    model: &ServedModel,
    conversation: Conversation,
    add_special_tokens: bool,
) -> Result<Vec<TokenId>, ApiError> {
    let template = model.template.as_ref().ok_or_else(|| {
        let message =
            "this model has no chat template; use /v1/completions, or add chat_template.jinja to the checkpoint";
        ApiError::new(StatusCode::BAD_REQUEST, "template_error", message)
    })?;
    let template = Arc::clone(template);
    let is_long = conversation.messages.len() > LONG_MESSAGES;
    let text = apart(is_long, move || conversation.render(&template)).await??;
    encode(model, text, add_special_tokens).await
}

/// `max_completion_tokens` is OpenAI's newer name; routers write one for the other.
fn take_max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let newer: Option<usize> = fields.take("max_completion_tokens")?;
    let older: Option<usize> = fields.take("max_tokens")?;
    Ok(newer.or(older))
}

/// The length that the model's makers recommend, as far as the context has room for it.
fn default_max_tokens(model: &ServedModel, num_prompt_tokens: usize) -> Option<usize> {
    let room = model.max_model_len().saturating_sub(num_prompt_tokens);
    model.defaults.max_new_tokens.map(|tokens| tokens.min(room).max(1))
}

fn take_num_logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted: bool = fields.take("logprobs")?.unwrap_or(false);
    let top: Option<usize> = fields.take("top_logprobs")?;
    match (wanted, top) {
        (true, top) => Ok(Some(top.unwrap_or(0))),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            let message = "`top_logprobs` is allowed only with `logprobs: true`";
            Err(ApiError::field("conflicting_parameters", "top_logprobs", message))
        }
    }
}

/// The objects of this route.
struct ChatCompletion {
    head: Head,
}

#[derive(Serialize)]
struct Body<C> {
    #[serde(flatten)]
    head: Head,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
}

#[derive(Serialize)]
struct DeltaChoice {
    index: usize,
    delta: Message,
    logprobs: Option<ChatLogprobs>,
    #[serde(flatten)]
    finish: FinishBody,
}

#[derive(Serialize)]
struct MessageChoice {
    index: usize,
    message: Message,
    logprobs: Option<ChatLogprobs>,
    #[serde(flatten)]
    finish: FinishBody,
}

#[derive(Serialize)]
struct Message {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    content: String,
}

impl ChatCompletion {
    fn chunk(&self, choices: Vec<DeltaChoice>, usage: Option<UsageBody>) -> Body<DeltaChoice> {
        Body { head: self.head.clone(), choices, usage }
    }
}

fn logprobs(delta: &Delta) -> Option<ChatLogprobs> {
    (!delta.tokens.is_empty()).then(|| ChatLogprobs::new(&delta.tokens))
}

impl Shape for ChatCompletion {
    type Chunk = Body<DeltaChoice>;
    type Body = Body<MessageChoice>;

    fn opening(&mut self, index: usize, _prompt: usize) -> Option<Self::Chunk> {
        let delta = Message { role: Some("assistant"), content: String::new() };
        Some(self.chunk(vec![DeltaChoice { index, delta, logprobs: None, finish: FinishBody::default() }], None))
    }

    fn piece(&mut self, update: Update) -> Self::Chunk {
        let logprobs = logprobs(&update.delta);
        let delta = Message { role: None, content: update.delta.text };
        let finish = update.delta.finish.into();
        self.chunk(vec![DeltaChoice { index: update.index, delta, logprobs, finish }], None)
    }

    fn usage(&self, usage: UsageBody) -> Self::Chunk {
        self.chunk(Vec::new(), Some(usage))
    }

    fn body(&mut self, choices: Vec<Whole>, usage: UsageBody) -> Self::Body {
        let choices = choices.into_iter().map(|whole| MessageChoice {
            index: whole.index,
            logprobs: logprobs(&whole.delta),
            message: Message { role: Some("assistant"), content: whole.delta.text },
            finish: whole.delta.finish.into(),
        });
        Body { head: self.head.clone(), choices: choices.collect(), usage: Some(usage) }
    }
}
