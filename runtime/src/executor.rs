//! The seam between the engine and whatever runs a step: a compiled model on a device, or the simulated one.
//!
//! The engine forms step i+1 before it has read the tokens of step i, so an executor accepts a second step while the
//! first is in flight. A token sampled by step i is not known to the engine when it forms step i+1; it names the
//! *slot* of the sequence instead, and the executor puts in the token last sampled there.

use std::any::Any;
use std::sync::{Arc, Mutex};

use crate::expert_loads::ExpertLoads;
use crate::request::TokenId;
use crate::sampler::{Sampled, Sampler};

/// Where a running sequence keeps what outlives a step on the device side (its last sampled token).
/// Below [`Capacity::max_num_seqs`]; stable from admission to the end or preemption of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// The place of a KV page in the pool, for the page tables of kernels. A bare number, not an owner:
/// the owner is [`crate::kv::Page`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageIndex(pub u32);

/// What an executor can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Rows of the output matrix.
    pub vocab: usize,
    /// Longest sequence, in tokens.
    pub max_model_len: usize,
    /// Most tokens of one step (the dense batch).
    pub max_num_batched_tokens: usize,
    /// Most sequences of one step, and so most slots.
    pub max_num_seqs: usize,
    /// Tokens of one KV page.
    pub page_tokens: usize,
    /// KV pages in the pool.
    pub num_pages: usize,
}

impl Capacity {
    /// Longest sequence in tokens, prompt and output together, that the model allows and the pool can hold alone.
    /// The last token of a sequence is never fed back, so it needs no place in the pool.
    pub fn longest_sequence(&self) -> usize {
        self.max_model_len.min(self.page_tokens.saturating_mul(self.num_pages).saturating_add(1))
    }

    /// Refuses limits that nothing could run under.
    ///
    /// # Errors
    /// The name of the first limit that is zero.
    pub fn check(&self) -> Result<(), &'static str> {
        let limits = [
            ("vocab", self.vocab),
            ("max_model_len", self.max_model_len),
            ("max_num_batched_tokens", self.max_num_batched_tokens),
            ("max_num_seqs", self.max_num_seqs),
            ("page_tokens", self.page_tokens),
            ("num_pages", self.num_pages),
        ];
        limits.iter().find(|(_, value)| *value == 0).map_or(Ok(()), |(name, _)| Err(*name))
    }
}

/// The input tokens of one sequence in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The next tokens of the prompt (or of a recomputed sequence), known to the engine. At least one.
    Known(Vec<TokenId>),
    /// One token: the one sampled last in this sequence's slot, by a step that may still be in flight. If that row
    /// failed, any id of the vocabulary: the engine drops what comes of it, but the step must run for the others.
    LastSampled,
}

/// One sequence's part of a step.
#[derive(Debug, Clone)]
pub struct Part {
    /// The sequence's slot.
    pub slot: Slot,
    /// Its tokens in this step.
    pub input: Input,
    /// Position of the first of them, counted from the start of the sequence.
    pub position: usize,
    /// The sequence's pages in order; they cover at least `position + num_tokens` positions.
    pub pages: Vec<PageIndex>,
    /// Sample a token after the last row of this part.
    pub sample: Option<Arc<Mutex<Sampler>>>,
}

/// A dense batch: decode parts (one token each) first, then prefill chunks.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// All parts, the first `num_decodes` of which are decodes.
    pub parts: Vec<Part>,
    /// How many parts are decodes.
    pub num_decodes: usize,
}

impl Step {
    /// Rows of the dense batch.
    pub fn num_tokens(&self) -> usize {
        self.parts.iter().map(Part::num_tokens).sum()
    }
}

impl Part {
    /// Rows of this part.
    pub fn num_tokens(&self) -> usize {
        match &self.input {
            Input::Known(tokens) => tokens.len(),
            Input::LastSampled => 1,
        }
    }
}

/// What came of a step: for each part that asked for one, in the order of the parts, the sampled token.
#[derive(Debug, Clone, Default)]
pub struct StepResult {
    /// One entry per part with `sample`; an error belongs to that sequence alone (logits that are not finite).
    pub sampled: Vec<Result<Sampled, RowError>>,
}

/// A fault of one row; the others are fine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A logit is NaN or infinite.
    #[error("the model gave a logit that is not finite")]
    NotFinite,
    /// The sampler panicked.
    #[error("sampling failed: {0}")]
    Panicked(String),
    /// The request's own rules forbid every token of the vocabulary.
    #[error("every token of the vocabulary is banned")]
    EverythingBanned,
}

/// The device is gone or a launch failed; nothing in flight can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device fault in {site}: {what}")]
pub struct DeviceFault {
    /// The launch that failed, as the schedule names it.
    pub site: String,
    /// The device's own words.
    pub what: String,
}

/// Runs steps in the order they are given, up to two at a time.
///
/// Order is a promise: whatever a step reads from or writes to pages and slots happens after the same of the step
/// before. The engine leans on it when it hands pages of a preempted sequence to the next step while the last step
/// that names them is still in flight. Dropping an executor ends or abandons its steps safely.
pub trait Executor: Send {
    /// Fixed at construction.
    fn capacity(&self) -> Capacity;

    /// Puts a step on the device's queues and returns at once. At most two steps are in flight.
    fn launch(&mut self, step: Step) -> Result<(), DeviceFault>;

    /// Waits for the oldest step in flight and takes its result.
    fn collect(&mut self) -> Result<StepResult, DeviceFault>;

    /// Counts how rows fall to experts; `None` for a model without.
    fn expert_loads(&self) -> Option<Arc<ExpertLoads>> {
        None
    }
}

/// What a caught panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
