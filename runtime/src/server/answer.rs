//! From choices to an HTTP response: whole, or as server-sent events.
//!
//! Both routes go through here; a [`Shape`] says what their objects look like. An event stream ends in exactly one of
//! two ways: with `data: [DONE]` after the last choice (and the usage, if it was asked for), or with one event that
//! holds an error, and nothing after it.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;

use axum::Json;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll, select_all, unfold};
use serde::Serialize;

use super::choices::{Choice, Update, Whole};
use super::error::ApiError;
use super::random;
use super::state::{Answering, AppState, ServedModel, unix_seconds};
use crate::text::{Finish, Usage};

/// What the objects of a route look like.
pub(super) trait Shape: Send + 'static {
    /// One event of a stream.
    type Chunk: Serialize;
    /// The whole response.
    type Body: Serialize;

    /// The event before the first piece of a choice, if there is one.
    fn opening(&mut self, index: usize, prompt: usize) -> Option<Self::Chunk>;
    /// A piece of a choice.
    fn piece(&mut self, update: Update) -> Self::Chunk;
    /// The event after the last piece of all choices.
    fn usage(&self, usage: UsageBody) -> Self::Chunk;
    /// All choices at once.
    fn body(&mut self, choices: Vec<Whole>, usage: UsageBody) -> Self::Body;
}

/// What the objects of one response have in common.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Head {
    id: String,
    object: &'static str,
    created: u64,
    model: String,
}

impl Head {
    /// A head with a fresh id.
    pub(super) fn new(id_prefix: &str, object: &'static str, model: &ServedModel) -> Self {
        let id = format!("{id_prefix}-{}", random::id());
        Self { id, object, created: unix_seconds(), model: model.name().to_owned() }
    }
}

/// Token counts: each prompt counts once, whatever `n` is.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: usize,
    total_tokens: usize,
    completion_tokens: usize,
}

/// Adds up the usage of choices.
#[derive(Debug, Default)]
struct Tally {
    prompts: BTreeSet<usize>,
    usage: UsageBody,
}

impl Tally {
    fn add(&mut self, prompt: usize, usage: Usage) {
        if self.prompts.insert(prompt) {
            self.usage.prompt_tokens += usage.num_prompt_tokens;
        }
        self.usage.completion_tokens += usage.num_generated_tokens;
        self.usage.total_tokens = self.usage.prompt_tokens + self.usage.completion_tokens;
    }
}

/// `finish_reason` and vLLM's `stop_reason`: the stop string or stop token that ended the text, null for the model's own.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct FinishBody {
    finish_reason: Option<&'static str>,
    stop_reason: Option<StopReason>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum StopReason {
    Token(u32),
    String(String),
}

impl From<Option<Finish>> for FinishBody {
    fn from(finish: Option<Finish>) -> Self {
        let stop = |stop_reason| Self { finish_reason: Some("stop"), stop_reason };
        match finish {
            None => Self::default(),
            Some(Finish::EndOfSequence) => stop(None),
            Some(Finish::StopToken(id)) => stop(Some(StopReason::Token(id))),
            Some(Finish::StopString(text)) => stop(Some(StopReason::String(text))),
            Some(Finish::Length) => Self { finish_reason: Some("length"), stop_reason: None },
        }
    }
}

/// Waits for all choices. Dropping the future cancels them, as does the failure of one.
pub(super) async fn whole<S: Shape>(
    mut shape: S,
    choices: Vec<Choice>,
    answering: Answering,
) -> Result<Response, ApiError> {
    let wholes = futures::future::try_join_all(choices.into_iter().map(Choice::whole)).await?;
    let mut tally = Tally::default();
    for whole in &wholes {
        tally.add(whole.prompt, whole.usage);
    }
    drop(answering);
    Ok(Json(shape.body(wholes, tally.usage)).into_response())
}

/// Answers in events. Dropping the response cancels the choices.
pub(super) fn events<S: Shape>(
    state: &AppState,
    shape: S,
    choices: Vec<Choice>,
    include_usage: bool,
    answering: Answering,
) -> Response {
    let streaming = Streaming {
        shape,
        choices: select_all(choices.into_iter().map(updates)),
        opened: BTreeSet::new(),
        ready: VecDeque::new(),
        tally: Tally::default(),
        include_usage,
        ended: false,
        _answering: answering,
    };
    let stream = unfold(streaming, async |mut streaming| {
        let event = streaming.next().await?;
        Some((Ok::<Event, Infallible>(event), streaming))
    });
    let keep_alive = KeepAlive::new().interval(state.config().keep_alive).text("keep-alive");
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))];
    (unbuffered, Sse::new(stream).keep_alive(keep_alive)).into_response()
}

type Updates = BoxStream<'static, Result<Update, ApiError>>;

fn updates(choice: Choice) -> Updates {
    unfold(choice, async |mut choice| Some((choice.next().await?, choice))).boxed()
}

/// A response in events, half way.
struct Streaming<S> {
    shape: S,
    choices: SelectAll<Updates>,
    opened: BTreeSet<usize>,
    ready: VecDeque<Event>,
    tally: Tally,
    include_usage: bool,
    ended: bool,
    _answering: Answering,
}

impl<S: Shape> Streaming<S> {
    /// The next event; `None` after the last.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            match self.choices.next().await {
                Some(Ok(update)) => self.take(update),
                Some(Err(error)) => self.fail(error),
                None => self.end(),
            }
        }
    }

    fn take(&mut self, update: Update) {
        if self.opened.insert(update.index) {
            let opening = self.shape.opening(update.index, update.prompt);
            self.ready.extend(opening.map(event));
        }
        if let Some(usage) = update.usage {
            self.tally.add(update.prompt, usage);
        }
        let delta = &update.delta;
        if !delta.text.is_empty() || !delta.tokens.is_empty() || delta.finish.is_some() {
            let chunk = self.shape.piece(update);
            self.ready.push_back(event(chunk));
        }
    }

    /// The other choices are cancelled: their text could not be told from a complete one.
    fn fail(&mut self, error: ApiError) {
        self.ended = true;
        self.choices.clear();
        self.ready.push_back(event(error.into_body()));
    }

    fn end(&mut self) {
        self.ended = true;
        if self.include_usage {
            self.ready.push_back(event(self.shape.usage(self.tally.usage)));
        }
        self.ready.push_back(Event::default().data("[DONE]"));
    }
}

/// One `data:` line. All our objects can be written as JSON; should one not, the client is told.
fn event(object: impl Serialize) -> Event {
    Event::default().json_data(object).unwrap_or_else(|error| {
        tracing::error!(%error, "an event cannot be written as JSON");
        Event::default()
            .data(r#"{"error":{"message":"internal error","type":"server_error","param":null,"code":"internal"}}"#)
    })
}
