//! `POST /v1/completions`: text after a prompt.
//!
//! The prompt is a string, a list of strings, a list of token ids, or a list of such lists. Without `max_tokens` an
//! answer has at most 16 tokens (less where the context ends before): that is OpenAI's default for this route and
//! vLLM's too. `echo` puts the prompt before the text; together with `logprobs` it is refused, since the
//! log-probabilities of prompt tokens are not computed.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use super::answer::{self, FinishBody, Head, Shape, UsageBody};
use super::body::{Fields, missing};
use super::choices::{self, Prompt, Update, Whole};
use super::encode::encode;
use super::error::ApiError;
use super::logprobs::CompletionLogprobs;
use super::params::{Params, not_a, token_ids};
use super::state::{AppState, ServedModel, ServerConfig};
use crate::request::TokenId;
use crate::text::Delta;

const DEFAULT_MAX_TOKENS: usize = 16;
const ROUTE: &str = "/v1/completions";

/// The handler.
pub(super) async fn handle(State(state): State<AppState>, mut fields: Fields) -> Result<Response, ApiError> {
    let answering = state.begin_answer()?;
    let name: Option<String> = fields.take("model")?;
    let model = state.model_named(name.as_deref())?;
    let params = Params::take(&mut fields, model, state.config())?;
    let own = Own::take(&mut fields, state.config())?;
    fields.finish(ROUTE)?;
    state.metrics().on_params(params.n, own.max_tokens);

    let num_logprobs = own.num_logprobs;
    let (prompts, echoes) = own.prompts(model).await?;
    let choices = choices::submit(&state, model, &params, &prompts, num_logprobs)?;
    let shape = TextCompletion {
        head: Head::new("cmpl", "text_completion", model),
        offsets: choices
            .iter()
            .map(|choice| echoes.get(choice.prompt).map_or(0, |echo| echo.chars().count()))
            .collect(),
        echoes,
    };
    if params.stream {
        return Ok(answer::events(&state, shape, choices, params.include_usage, answering));
    }
    answer::whole(shape, choices, answering).await
}

/// The fields of this route alone.
struct Own {
    prompts: Vec<PromptInput>,
    max_tokens: Option<usize>,
    num_logprobs: Option<usize>,
    echo: bool,
    add_special_tokens: bool,
}

/// A prompt as it was given.
enum PromptInput {
    Text(String),
    Tokens(Vec<TokenId>),
}

impl Own {
    fn take(fields: &mut Fields, config: &ServerConfig) -> Result<Self, ApiError> {
        let prompt = fields.take_value("prompt").ok_or_else(|| missing("prompt"))?;
        let own = Self {
            prompts: prompt_inputs(prompt, config.max_prompts)?,
            max_tokens: fields.take("max_tokens")?,
            num_logprobs: take_num_logprobs(fields)?,
            echo: fields.take("echo")?.unwrap_or(false),
            add_special_tokens: fields.take("add_special_tokens")?.unwrap_or(true),
        };
        if own.echo && own.num_logprobs.is_some() {
            let message = "`echo` with `logprobs` is not supported: prompt tokens have no log-probabilities here";
            return Err(ApiError::field("unsupported_parameter", "echo", message));
        }
        Ok(own)
    }

    /// The prompts in tokens, and what each answer begins with.
    async fn prompts(self, model: &ServedModel) -> Result<(Vec<Prompt>, Vec<String>), ApiError> {
        let (mut prompts, mut echoes) = (Vec::new(), Vec::new());
        for input in self.prompts {
            let (tokens, text) = match input {
                PromptInput::Text(text) => (encode(model, text.clone(), self.add_special_tokens).await?, text),
                PromptInput::Tokens(tokens) if self.echo => {
                    let text = model.tokenizer.decode(&tokens, true)?;
                    (tokens, text)
                }
                PromptInput::Tokens(tokens) => (tokens, String::new()),
            };
            let room = model.max_model_len().saturating_sub(tokens.len());
            let max_tokens = self.max_tokens.or(Some(DEFAULT_MAX_TOKENS.min(room.max(1))));
            prompts.push(Prompt { tokens, max_tokens });
            echoes.push(if self.echo { text } else { String::new() });
        }
        Ok((prompts, echoes))
    }
}

/// A number of alternatives; gateways also send `false` for none.
fn take_num_logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    match fields.take_value("logprobs") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
            number.map(Some).ok_or_else(|| not_a("a whole number", "logprobs", &value))
        }
    }
}

fn prompt_inputs(value: Value, most: usize) -> Result<Vec<PromptInput>, ApiError> {
    let list = match value {
        Value::String(text) => return Ok(vec![PromptInput::Text(text)]),
        Value::Array(list) => list,
        other => return Err(not_a("a string, a list of strings, or token ids", "prompt", &other)),
    };
    match list.first() {
        None => Err(ApiError::field("empty_prompt", "prompt", "`prompt` is an empty list")),
        Some(Value::Number(_)) => Ok(vec![PromptInput::Tokens(token_ids("prompt", &Value::Array(list))?)]),
        Some(_) if list.len() > most => {
            let message = format!("`prompt` holds {} prompts, allowed are {most}", list.len());
            Err(ApiError::out_of_range("prompt", message))
        }
        Some(_) => list.into_iter().enumerate().map(prompt_input).collect(),
    }
}

fn prompt_input((place, value): (usize, Value)) -> Result<PromptInput, ApiError> {
    let name = format!("prompt[{place}]");
    match value {
        Value::String(text) => Ok(PromptInput::Text(text)),
        Value::Array(_) => Ok(PromptInput::Tokens(token_ids(&name, &value)?)),
        other => Err(not_a("a string or a list of token ids, as its neighbours", &name, &other)),
    }
}

/// The objects of this route; events look like the whole.
struct TextCompletion {
    head: Head,
    /// What each prompt's answers begin with.
    echoes: Vec<String>,
    /// Characters given out so far, by choice, for `text_offset`.
    offsets: Vec<usize>,
}

#[derive(Serialize)]
struct Body {
    #[serde(flatten)]
    head: Head,
    choices: Vec<ChoiceBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageBody>,
}

#[derive(Serialize)]
struct ChoiceBody {
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    #[serde(flatten)]
    finish: FinishBody,
}

impl TextCompletion {
    fn choice(&mut self, index: usize, delta: Delta) -> ChoiceBody {
        let logprobs = match self.offsets.get_mut(index) {
            Some(offset) if !delta.tokens.is_empty() => Some(CompletionLogprobs::new(&delta.tokens, offset)),
            _ => None,
        };
        ChoiceBody { index, text: delta.text, logprobs, finish: delta.finish.into() }
    }

    fn echo(&self, prompt: usize) -> &str {
        self.echoes.get(prompt).map_or("", String::as_str)
    }

    fn chunk(&self, choices: Vec<ChoiceBody>, usage: Option<UsageBody>) -> Body {
        Body { head: self.head.clone(), choices, usage }
    }
}

impl Shape for TextCompletion {
    type Chunk = Body;
    type Body = Body;

    fn opening(&mut self, index: usize, prompt: usize) -> Option<Body> {
        let text = self.echo(prompt).to_owned();
        let choice = ChoiceBody { index, text, logprobs: None, finish: FinishBody::default() };
        (!choice.text.is_empty()).then(|| self.chunk(vec![choice], None))
    }

    fn piece(&mut self, update: Update) -> Body {
        let choice = self.choice(update.index, update.delta);
        self.chunk(vec![choice], None)
    }

    fn usage(&self, usage: UsageBody) -> Body {
        self.chunk(Vec::new(), Some(usage))
    }

    fn body(&mut self, choices: Vec<Whole>, usage: UsageBody) -> Body {
        let choices = choices.into_iter().map(|whole| {
            let choice = self.choice(whole.index, whole.delta);
            ChoiceBody { text: format!("{}{}", self.echo(whole.prompt), choice.text), ..choice }
        });
        let choices = choices.collect();
        self.chunk(choices, Some(usage))
    }
}
