//! Chooses which sequences run in the next step (continuous batching), and owns their pages.
//!
//! Pure and deterministic: no clock, no device, no threads. A step holds one decode row for every sequence that has
//! read its prompt, then prefill chunks of the others, cut at any token to fill the budget.
//!
//! **Order.** Sequences are served in order of arrival. At every moment the ids of `running` and then of `waiting`
//! ascend: admission takes the oldest that waits, preemption takes the newest that runs and puts it back at the front.
//! So the oldest sequence always holds what it needs, and completes.
//!
//! **Pages.** Admission takes the pages of all known tokens at once, so a prefill in chunks never stops half-way
//! between two others that did the same. Only decodes grow. Admission leaves one page per running sequence free, so
//! that a newcomer is not admitted merely to be preempted by the next decode.
//!
//! **Steps in flight.** A step is formed before the one before is read.
//! - A sequence whose last row was sampled there goes on with [`crate::executor::Input::LastSampled`], unless the token
//!   in flight is its last by length.
//! - A sequence that ends or is cancelled while a launched step names its pages keeps them, and its slot, until that
//!   step has been collected; the step's token for it is dropped.
//! - A *preempted* sequence gives its pages and slot to the very step that is being formed, although the step before
//!   may still be reading and writing them. That is safe because an executor runs steps in order: whatever the last
//!   step does to those pages comes before anything the next step does. The one thing the host reads, the token in
//!   flight, is matched by sequence and not by slot, so it arrives and is kept. Until it has, the sequence is not
//!   admitted again, since its tokens are not all known.

use std::collections::VecDeque;

use crate::executor::{Capacity, RowError, Slot, Step, StepResult};
use crate::kv::{Census, Page, PagePool, PageTable};
use crate::request::Request;
use crate::sampler::Sampled;
use crate::sequence::{FinishReason, Running, Sequence, SequenceId, StepId};

pub use audit::AuditError;
use forming::Forming;

mod audit;
mod forming;
#[cfg(test)]
mod tests;

/// The sequences of an engine and the pages they share.
#[derive(Debug)]
pub struct Batcher {
    max_num_batched_tokens: usize,
    max_num_seqs: usize,
    pool: PagePool,
    free_slots: Vec<Slot>,
    waiting: VecDeque<Sequence>,
    running: Vec<Running>,
    in_flight: VecDeque<InFlight>,
    next_step: StepId,
}

/// A step as formed, and what it took to form it. Launch it unless it has no parts.
#[derive(Debug, Default)]
pub struct Formed {
    /// The step.
    pub step: Step,
    /// The sequence of each part.
    pub sequences: Vec<SequenceId>,
    /// Sequences that have their first part, or their first after a preemption, in this step.
    pub admitted: Vec<SequenceId>,
    /// Sequences that gave up their pages to older ones.
    pub preempted: Vec<SequenceId>,
}

/// What a collected step brought for one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The sequence.
    pub id: SequenceId,
    /// Its token, or why it failed; a failure ends it.
    pub row: Result<Sampled, RowError>,
    /// Why the token ends it, if it does.
    pub ends: Option<FinishReason>,
    /// Tokens read for it, with this one.
    pub num_generated_tokens: usize,
    /// How often it was preempted.
    pub num_preemptions: usize,
}

/// The sequence would need more pages at its full length than the pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request needs {num_needed} KV pages, the pool has {num_pages}")]
pub struct NeverFits {
    /// Pages at full length.
    pub num_needed: usize,
    /// Pages of the pool.
    pub num_pages: usize,
}

impl NeverFits {
    /// Whether a pool of that capacity could hold the request alone.
    ///
    /// # Errors
    /// When it could not.
    pub fn check(request: &Request, capacity: &Capacity) -> Result<(), Self> {
        Self::check_pages(request, capacity.num_pages, capacity.page_tokens)
    }

    fn check_pages(request: &Request, num_pages: usize, page_tokens: usize) -> Result<(), Self> {
        let num_needed = request.max_kv_tokens().div_ceil(page_tokens);
        if num_needed > num_pages {
            return Err(Self { num_needed, num_pages });
        }
        Ok(())
    }
}

/// A step's result has another number of rows than the step asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a step that samples {asked} rows came back with {got}")]
pub struct WrongResult {
    /// Parts with a sampler in the oldest step in flight; 0 if there is no step.
    pub asked: usize,
    /// Rows of the result.
    pub got: usize,
}

/// What is remembered of a launched step.
#[derive(Debug)]
struct InFlight {
    id: StepId,
    /// The sequences that get a token, in the order of the parts.
    sampling: Vec<SequenceId>,
    /// Ended sequences whose pages this step names.
    retired: Vec<Running>,
}

impl Batcher {
    /// A batcher without sequences. Every limit must be above zero ([`Capacity::check`]).
    pub fn new(capacity: &Capacity) -> Self {
        let num_slots = u32::try_from(capacity.max_num_seqs).unwrap_or(u32::MAX);
        Self {
            max_num_batched_tokens: capacity.max_num_batched_tokens,
            max_num_seqs: num_slots as usize,
            pool: PagePool::new(capacity.num_pages, capacity.page_tokens),
            free_slots: (0..num_slots).rev().map(Slot).collect(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            in_flight: VecDeque::new(),
            next_step: StepId(0),
        }
    }

    /// Queues a request. Ids ascend from call to call.
    ///
    /// # Errors
    /// When the pool could not hold the sequence even alone.
    pub fn submit(&mut self, id: SequenceId, request: Request) -> Result<(), NeverFits> {
        NeverFits::check_pages(&request, self.census().num_total, self.pool.page_tokens())?;
        self.waiting.push_back(Sequence::new(id, request));
        Ok(())
    }

    /// Forgets a request; a token in flight for it will be dropped. False if there is none of that id.
    pub fn cancel(&mut self, id: SequenceId) -> bool {
        self.remove(id)
    }

    /// Forms the next step, which from here on counts as launched.
    pub fn next_step(&mut self) -> Formed {
        let mut forming = Forming::new(self.next_step, self.max_num_batched_tokens);
        self.add_decodes(&mut forming);
        self.add_prefill_chunks(&mut forming);
        self.admit_waiting(&mut forming);
        self.launch(forming)
    }

    /// Takes in the result of the oldest step in flight: one outcome for each sequence that is still here.
    ///
    /// # Errors
    /// When the result does not belong to that step; then nothing changes.
    pub fn collect(&mut self, result: StepResult) -> Result<Vec<Outcome>, WrongResult> {
        let (asked, got) = (self.num_awaited(), result.sampled.len());
        let step = self.in_flight.pop_front_if(|_| asked == got).ok_or(WrongResult { asked, got })?;
        step.retired.into_iter().for_each(|running| self.release(running));
        let rows = step.sampling.into_iter().zip(result.sampled);
        Ok(rows.filter_map(|(id, row)| self.read(id, row)).collect())
    }

    /// Sequences that hold pages.
    pub fn num_running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that hold none.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Steps launched and not collected.
    pub fn num_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.in_flight.is_empty()
    }

    /// The pages of the pool.
    pub fn census(&self) -> Census {
        self.pool.census()
    }

    fn num_awaited(&self) -> usize {
        self.in_flight.front().map_or(0, |step| step.sampling.len())
    }

    fn read(&mut self, id: SequenceId, row: Result<Sampled, RowError>) -> Option<Outcome> {
        let sequence = self.find(id)?;
        let ends = row.as_ref().ok().and_then(|sampled| sequence.read(sampled.token));
        let outcome = Outcome {
            id,
            ends,
            num_generated_tokens: sequence.num_generated(),
            num_preemptions: sequence.num_preemptions(),
            row,
        };
        if outcome.ends.is_some() || outcome.row.is_err() {
            self.remove(id);
        }
        Some(outcome)
    }

    fn find(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        if let Ok(index) = self.running.binary_search_by_key(&id, Running::id) {
            return self.running.get_mut(index).map(Running::sequence_mut);
        }
        let index = self.waiting.binary_search_by_key(&id, Sequence::id).ok()?;
        self.waiting.get_mut(index)
    }

    fn remove(&mut self, id: SequenceId) -> bool {
        if let Ok(index) = self.running.binary_search_by_key(&id, Running::id) {
            let running = self.running.remove(index);
            self.retire(running);
            return true;
        }
        let waiting = self.waiting.binary_search_by_key(&id, Sequence::id);
        waiting.is_ok_and(|index| self.waiting.remove(index).is_some())
    }

    /// Frees what a sequence holds as soon as no launched step names it.
    fn retire(&mut self, running: Running) {
        let last = running.last_step();
        match self.in_flight.iter_mut().find(|step| Some(step.id) == last) {
            Some(step) => step.retired.push(running),
            None => self.release(running),
        }
    }

    fn release(&mut self, running: Running) {
        self.free_slots.push(running.slot());
    }

    fn tables(&self) -> impl Iterator<Item = &PageTable> {
        let retired = self.in_flight.iter().flat_map(|step| &step.retired);
        self.running.iter().chain(retired).map(Running::table)
    }

    fn pages(&self) -> impl Iterator<Item = &Page> {
        self.tables().flat_map(PageTable::pages)
    }
}
