//! The answers to one HTTP request: one [`Choice`] per prompt and per `n`, each a generation of its own.
//!
//! A choice that is dropped before its end cancels its request in the engine. So whatever ends the HTTP request early
//! (the client goes away, another choice fails, the server ends) frees what its choices hold, without further care.

use std::sync::Arc;

use tokio::sync::watch;

use super::error::ApiError;
use super::params::Params;
use super::state::{AppState, Life, ServedModel};
use crate::metrics::Metrics;
use crate::request::{Draft, Request, TokenId};
use crate::text::{Delta, Finish, Generation, Outline, Usage};

/// One prompt, in tokens, with what is common to all its answers.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    pub(super) tokens: Vec<TokenId>,
    /// At most this many new tokens; `None` goes on to the end of the context.
    pub(super) max_tokens: Option<usize>,
}

/// One answer, as it comes.
pub(super) struct Choice {
    /// Its place in the response.
    pub(super) index: usize,
    /// The place of its prompt in the request.
    pub(super) prompt: usize,
    generation: Generation,
    life: watch::Receiver<Life>,
    ending: Ending,
}

/// A piece of one answer.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) index: usize,
    pub(super) prompt: usize,
    pub(super) delta: Delta,
    /// With the last piece.
    pub(super) usage: Option<Usage>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) index: usize,
    pub(super) prompt: usize,
    /// All pieces put together; `finish` is there.
    pub(super) delta: Delta,
    pub(super) usage: Usage,
}

/// Counts why a choice ended, once.
struct Ending {
    metrics: Arc<Metrics>,
    counted: bool,
}

/// Queues the answers to `prompts`, all or none.
pub(super) fn submit(
    state: &AppState,
    model: &ServedModel,
    params: &Params,
    prompts: &[Prompt],
    num_logprobs: Option<usize>,
) -> Result<Vec<Choice>, ApiError> {
    let bounds = model.engine.bounds();
    let numbered = prompts.iter().enumerate().flat_map(|prompt| (0..params.n).map(move |sample| (prompt, sample)));
    let requests = numbered.map(|((place, prompt), sample)| {
        let draft = draft(params, prompt, sample, num_logprobs);
        Ok((place, Request::new(draft, bounds)?))
    });
    // All are checked before the first is queued.
    let requests: Vec<(usize, Request)> = requests.collect::<Result<_, ApiError>>()?;
    let numbered = requests.into_iter().enumerate();
    numbered.map(|(index, (prompt, request))| Choice::start(state, model, params, index, prompt, request)).collect()
}

fn draft(params: &Params, prompt: &Prompt, sample: usize, num_logprobs: Option<usize>) -> Draft {
    let mut stopping = params.stopping.clone();
    stopping.max_tokens = prompt.max_tokens;
    Draft { prompt: prompt.tokens.clone(), sampling: params.sampling_of(sample), stopping, num_logprobs }
}

impl Choice {
    fn start(
        state: &AppState,
        model: &ServedModel,
        params: &Params,
        index: usize,
        prompt: usize,
        request: Request,
    ) -> Result<Self, ApiError> {
        let outline = Outline::of(&request);
        let stream = model.engine.submit(request)?;
        let tokenizer = Arc::clone(&model.tokenizer);
        Ok(Self {
            index,
            prompt,
            generation: Generation::new(stream, &outline, tokenizer, &params.settings)?,
            life: state.life(),
            ending: Ending { metrics: Arc::clone(state.metrics()), counted: false },
        })
    }

    /// The next piece; `None` after the last one or an error.
    pub(super) async fn next(&mut self) -> Option<Result<Update, ApiError>> {
        let ended = self.life.wait_for(|life| *life == Life::Ended);
        let delta = tokio::select! {
            biased;
            delta = self.generation.next() => delta?.map_err(ApiError::from),
            _ = ended => Err(ApiError::ended()),
        };
        Some(self.note(delta))
    }

    /// All pieces put together.
    pub(super) async fn whole(mut self) -> Result<Whole, ApiError> {
        let (index, prompt) = (self.index, self.prompt);
        let mut sum = Delta::default();
        while let Some(update) = self.next().await {
            let Update { delta, usage, .. } = update?;
            sum.text += &delta.text;
            sum.tokens.extend(delta.tokens);
            if let Some(usage) = usage {
                sum.finish = delta.finish;
                return Ok(Whole { index, prompt, delta: sum, usage });
            }
        }
        Err(ApiError::ended())
    }

    fn note(&mut self, delta: Result<Delta, ApiError>) -> Result<Update, ApiError> {
        match &delta {
            Ok(Delta { finish: None, .. }) => {}
            Ok(Delta { finish: Some(Finish::Length), .. }) => self.ending.count("length"),
            Ok(_) => self.ending.count("stop"),
            Err(_) => self.ending.count("error"),
        }
        let delta = delta?;
        let usage = delta.finish.is_some().then(|| self.generation.usage());
        Ok(Update { index: self.index, prompt: self.prompt, delta, usage })
    }
}

impl Ending {
    fn count(&mut self, finished_reason: &'static str) {
        if !std::mem::replace(&mut self.counted, true) {
            self.metrics.on_answer(finished_reason);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.count("abort");
    }
}
