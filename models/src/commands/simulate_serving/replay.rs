//! Requests through the runtime's own batcher, on a clock that only steps move.
//!
//! The loop is that of the engine: a step is formed and launched while the one before runs, takes in what has arrived by
//! then, and begins when the one before ends. Nothing is computed; every sequence ends at its length.

use std::collections::VecDeque;

use anyhow::{Context, bail};
use trefoil_passes::cost::Mix;
use trefoil_passes::simulate::totals::Totals;
use trefoil_runtime::batcher::{Batcher, Formed};
use trefoil_runtime::executor::{Capacity, Part, Step, StepResult};
use trefoil_runtime::request::{Bounds, Draft, Request, Sampling, Stopping};
use trefoil_runtime::sampler::Sampled;
use trefoil_runtime::sequence::SequenceId;

use super::offer::Arriving;

/// What happened, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Replayed {
    pub(super) steps: Vec<Ran>,
    /// By the number of the request.
    pub(super) requests: Vec<Answered>,
}

/// A step. Times are seconds from the first arrival.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ran {
    pub(super) start: f64,
    pub(super) end: f64,
    pub(super) mix: Mix,
    /// The number of its plan.
    pub(super) plan: usize,
    pub(super) totals: Totals,
    /// Tokens of prompts that it read for the first time.
    pub(super) num_prompt_tokens: usize,
    /// Tokens that it sampled.
    pub(super) num_output_tokens: usize,
    pub(super) num_preempted: usize,
    /// When it was formed.
    pub(super) num_running: usize,
    pub(super) num_waiting: usize,
    pub(super) num_pages_in_use: usize,
}

/// A request and its tokens' times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answered {
    pub(super) request: Arriving,
    pub(super) first_token: f64,
    pub(super) last_token: f64,
    pub(super) num_preemptions: usize,
}

/// Runs all requests to their ends. `cost` gives a step's plan, and what the step takes by it.
pub(super) fn replay(
    requests: &[Arriving],
    capacity: &Capacity,
    cost: &mut dyn FnMut(&Mix) -> (usize, Totals),
) -> anyhow::Result<Replayed> {
    let mut clock = Clock::new(requests, capacity);
    while clock.take_arrivals()? {
        clock.turn(cost)?;
    }
    Ok(clock.replayed)
}

struct Clock<'a> {
    requests: &'a [Arriving],
    bounds: Bounds,
    batcher: Batcher,
    /// Requests that the batcher has been given.
    num_arrived: usize,
    now: f64,
    /// Steps launched and not collected, by their numbers.
    in_flight: VecDeque<usize>,
    /// By the number of the request: tokens of its prompt that have been read.
    num_read: Vec<usize>,
    replayed: Replayed,
}

impl<'a> Clock<'a> {
    fn new(requests: &'a [Arriving], capacity: &Capacity) -> Self {
        let unanswered =
            |request: &Arriving| Answered { request: *request, first_token: 0.0, last_token: 0.0, num_preemptions: 0 };
        let requests_answered = requests.iter().map(unanswered).collect();
        Self {
            requests,
            bounds: Bounds { vocab: capacity.vocab, max_model_len: capacity.max_model_len, max_logprobs: 0 },
            batcher: Batcher::new(capacity),
            num_arrived: 0,
            now: 0.0,
            in_flight: VecDeque::new(),
            num_read: vec![0; requests.len()],
            replayed: Replayed { steps: Vec::new(), requests: requests_answered },
        }
    }

    /// Gives the batcher what has arrived; without any work it waits for the next. False at the end of all requests.
    fn take_arrivals(&mut self) -> anyhow::Result<bool> {
        let next = self.requests.get(self.num_arrived);
        if self.batcher.is_idle() {
            let Some(next) = next else { return Ok(false) };
            self.now = self.now.max(next.at);
        }
        while let Some(request) = self.requests.get(self.num_arrived).filter(|request| request.at <= self.now) {
            self.batcher.submit(SequenceId(self.num_arrived as u64), draft(request, self.bounds)?)?;
            self.num_arrived += 1;
        }
        Ok(true)
    }

    fn turn(&mut self, cost: &mut dyn FnMut(&Mix) -> (usize, Totals)) -> anyhow::Result<()> {
        let formed = self.batcher.next_step();
        let launched = !formed.step.parts.is_empty();
        for id in &formed.preempted {
            self.answered(*id)?.num_preemptions += 1;
        }
        if launched {
            self.launch(&formed, cost);
        }
        if self.in_flight.len() > usize::from(launched) {
            self.collect()?;
        } else if !launched && !self.batcher.is_idle() {
            bail!("the batcher has {} requests and forms no step", self.batcher.num_waiting());
        }
        Ok(())
    }

    fn launch(&mut self, formed: &Formed, cost: &mut dyn FnMut(&Mix) -> (usize, Totals)) {
        let mix = mix(&formed.step);
        let (plan, totals) = cost(&mix);
        let start = self.replayed.steps.last().map_or(self.now, |last| last.end.max(self.now));
        self.in_flight.push_back(self.replayed.steps.len());
        let num_prompt_tokens = self.read_prompts(formed);
        self.replayed.steps.push(Ran {
            start,
            end: start + totals.seconds,
            mix,
            plan,
            totals,
            num_prompt_tokens,
            num_output_tokens: num_sampling(&formed.step),
            num_preempted: formed.preempted.len(),
            num_running: self.batcher.num_running(),
            num_waiting: self.batcher.num_waiting(),
            num_pages_in_use: self.batcher.census().num_in_use,
        });
    }

    /// Tokens of prompts in a step, without those that are read again after a preemption.
    fn read_prompts(&mut self, formed: &Formed) -> usize {
        let mut num_new = 0;
        for (part, id) in formed.step.parts.iter().zip(&formed.sequences) {
            let number = id.0 as usize;
            let end = (part.position + part.num_tokens()).min(self.requests[number].lengths.input);
            num_new += end.saturating_sub(self.num_read[number]);
            self.num_read[number] = self.num_read[number].max(end);
        }
        num_new
    }

    /// Waits for the oldest step in flight.
    fn collect(&mut self) -> anyhow::Result<()> {
        let step = self.in_flight.pop_front().context("no step is in flight")?;
        let Ran { end, num_output_tokens, .. } = self.replayed.steps[step];
        self.now = end;
        let sampled = vec![Ok(Sampled { token: 0, logprob: None, top: Vec::new() }); num_output_tokens];
        for outcome in self.batcher.collect(StepResult { sampled })? {
            let answered = self.answered(outcome.id)?;
            if outcome.num_generated_tokens == 1 {
                answered.first_token = end;
            }
            answered.last_token = end;
        }
        Ok(())
    }

    fn answered(&mut self, id: SequenceId) -> anyhow::Result<&mut Answered> {
        self.replayed.requests.get_mut(id.0 as usize).with_context(|| format!("there is no request {id}"))
    }
}

fn draft(request: &Arriving, bounds: Bounds) -> anyhow::Result<Request> {
    let stopping = Stopping { max_tokens: Some(request.lengths.output), ignore_eos: true, ..Stopping::default() };
    let prompt = vec![0; request.lengths.input];
    Ok(Request::new(Draft { prompt, sampling: Sampling::default(), stopping, num_logprobs: None }, bounds)?)
}

fn num_sampling(step: &Step) -> usize {
    step.parts.iter().filter(|part| part.sample.is_some()).count()
}

/// The rows of a step as the cost model counts them.
fn mix(step: &Step) -> Mix {
    let (decode, prefill) = step.parts.split_at(step.num_decodes);
    let num_kept = |part: &Part| (part.position + part.num_tokens()) as f64;
    // A row sees all tokens before it, and itself.
    let num_keys = |part: &Part| (part.num_tokens() as f64) * (num_kept(part) - (part.num_tokens() as f64 - 1.0) / 2.0);
    let num_prefill: usize = prefill.iter().map(Part::num_tokens).sum();
    // The standard library's sum of no floats is -0.
    let sum = |numbers: &mut dyn Iterator<Item = f64>| numbers.fold(0.0, |sum, number| sum + number);
    let mean = |sum: f64, count: usize| if count > 0 { sum / count as f64 } else { 0.0 };
    Mix {
        decode: decode.len() as u32,
        decode_context: mean(sum(&mut decode.iter().map(num_kept)), decode.len()),
        prefill: num_prefill as u32,
        prefill_keys: mean(sum(&mut prefill.iter().map(num_keys)), num_prefill),
        prefill_kept: sum(&mut prefill.iter().map(num_kept)),
        seqs: num_sampling(step) as u32,
    }
}

#[cfg(test)]
mod tests;
