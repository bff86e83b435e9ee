//! One request on its way through the batcher: its tokens, and how far the model has come with them.
//!
//! A step is formed before the tokens of the step before are read, so a sequence counts the tokens *in flight*:
//! sampled by a launched step, not known yet. They have positions, but no ids on this side.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::executor::{Input, Part, Slot};
use crate::kv::{PagePool, PageTable};
use crate::request::{Request, TokenId};
use crate::sampler::Sampler;

/// A request's number in its engine, in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq{}", self.0)
    }
}

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-sequence token.
    EndOfSequence(TokenId),
    /// One of the request's stop tokens.
    StopToken(TokenId),
    /// `max_tokens` or the end of the context; the last token belongs to the text.
    Length,
}

/// A sequence without pages: it waits.
#[derive(Debug)]
pub(crate) struct Sequence {
    id: SequenceId,
    request: Request,
    /// The prompt, then every token that was read.
    tokens: Vec<TokenId>,
    num_in_flight: usize,
    num_preemptions: usize,
    sampler: Arc<Mutex<Sampler>>,
}

/// A sequence with pages and a slot: it takes part in steps.
#[derive(Debug)]
pub(crate) struct Running {
    sequence: Sequence,
    slot: Slot,
    table: PageTable,
    /// Positions whose keys and values are written, or will be by a launched step.
    num_computed: usize,
    /// The newest step that names its pages.
    last_step: Option<StepId>,
}

/// A step's number, in the order of launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepId(pub(crate) u64);

impl Sequence {
    pub(crate) fn new(id: SequenceId, request: Request) -> Self {
        let sampler = Sampler::new(request.sampling(), request.stopping(), request.prompt(), request.num_logprobs());
        Self {
            id,
            tokens: request.prompt().to_vec(),
            request,
            num_in_flight: 0,
            num_preemptions: 0,
            sampler: Arc::new(Mutex::new(sampler)),
        }
    }

    pub(crate) fn id(&self) -> SequenceId {
        self.id
    }

    /// Known tokens: the prompt and what was read.
    pub(crate) fn num_known(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn num_in_flight(&self) -> usize {
        self.num_in_flight
    }

    pub(crate) fn num_preemptions(&self) -> usize {
        self.num_preemptions
    }

    /// Tokens that were sampled and read.
    pub(crate) fn num_generated(&self) -> usize {
        self.tokens.len() - self.request.prompt().len()
    }

    /// Takes in a token that was in flight, and says whether it ends the sequence.
    pub(crate) fn read(&mut self, token: TokenId) -> Option<FinishReason> {
        self.num_in_flight = self.num_in_flight.saturating_sub(1);
        self.tokens.push(token);
        let stopping = self.request.stopping();
        if !stopping.ignore_eos && stopping.eos.contains(&token) {
            return Some(FinishReason::EndOfSequence(token));
        }
        if stopping.stop_tokens.contains(&token) {
            return Some(FinishReason::StopToken(token));
        }
        (self.num_generated() >= self.request.max_tokens()).then_some(FinishReason::Length)
    }

    /// Whether the tokens in flight are its last, whatever they turn out to be.
    fn ends_in_flight(&self) -> bool {
        self.num_generated() + self.num_in_flight >= self.request.max_tokens()
    }
}

impl Running {
    pub(crate) fn new(sequence: Sequence, slot: Slot, table: PageTable) -> Self {
        Self { sequence, slot, table, num_computed: 0, last_step: None }
    }

    pub(crate) fn id(&self) -> SequenceId {
        self.sequence.id
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn table(&self) -> &PageTable {
        &self.table
    }

    pub(crate) fn last_step(&self) -> Option<StepId> {
        self.last_step
    }

    pub(crate) fn sequence_mut(&mut self) -> &mut Sequence {
        &mut self.sequence
    }

    /// Whether the next row is a decode: everything before its newest token is computed.
    pub(crate) fn wants_decode(&self) -> bool {
        let num_tokens = self.sequence.num_known() + self.sequence.num_in_flight;
        self.num_computed > 0 && self.num_computed + 1 == num_tokens && !self.sequence.ends_in_flight()
    }

    /// Known tokens that the model has yet to read, beside a decode.
    pub(crate) fn num_prefill_tokens(&self) -> usize {
        if self.wants_decode() {
            return 0;
        }
        self.sequence.num_known().saturating_sub(self.num_computed)
    }

    /// Whether there are pages for one more row.
    pub(crate) fn can_grow(&self, pool: &PagePool) -> bool {
        self.table.can_grow(pool, self.num_computed + 1)
    }

    /// Takes pages for one more row; without room it changes nothing.
    pub(crate) fn grow(&mut self, pool: &PagePool) -> bool {
        self.table.grow(pool, self.num_computed + 1).is_ok()
    }

    /// Its part in a step: the next `num_tokens` rows. The part that reaches the newest token samples the next.
    pub(crate) fn next_part(&mut self, step: StepId, num_tokens: usize, pool: &PagePool) -> Part {
        let position = self.num_computed;
        let end = position + num_tokens;
        let sequence = &mut self.sequence;
        let samples = end == sequence.num_known() + sequence.num_in_flight;
        let known = sequence.tokens.get(position..end);
        let part = Part {
            slot: self.slot,
            input: known.map_or(Input::LastSampled, |tokens| Input::Known(tokens.to_vec())),
            position,
            pages: self.table.indices(pool, end),
            sample: samples.then(|| Arc::clone(&sequence.sampler)),
        };
        sequence.num_in_flight += usize::from(samples);
        self.num_computed = end;
        self.last_step = Some(step);
        part
    }

    /// Gives up pages and slot, to begin again from the known tokens. A token in flight still arrives.
    pub(crate) fn preempt(self) -> (Sequence, Slot) {
        let mut sequence = self.sequence;
        sequence.num_preemptions += 1;
        (sequence, self.slot)
    }
}
