//! How a step is formed: decodes, prefill chunks, admissions, and the preemptions that decodes ask for.

use super::{Batcher, Formed, InFlight};
use crate::executor::Slot;
use crate::kv::PageTable;
use crate::sequence::{Running, SequenceId, StepId};

/// A step while it fills.
#[derive(Debug)]
pub(super) struct Forming {
    id: StepId,
    budget_tokens: usize,
    sampling: Vec<SequenceId>,
    formed: Formed,
}

impl Forming {
    pub(super) fn new(id: StepId, budget_tokens: usize) -> Self {
        Self { id, budget_tokens, sampling: Vec::new(), formed: Formed::default() }
    }
}

impl Batcher {
    /// One row for every sequence that has read its prompt, oldest first.
    pub(super) fn add_decodes(&mut self, forming: &mut Forming) {
        let mut index = 0;
        while index < self.running.len() && forming.budget_tokens > 0 {
            if self.running[index].wants_decode() && self.make_room(index, forming) {
                self.add_part(index, 1, forming);
            }
            index += 1;
        }
        forming.formed.step.num_decodes = forming.formed.step.parts.len();
    }

    /// As many rows of unread prompts as the budget has left, oldest first. Their pages are there since admission.
    pub(super) fn add_prefill_chunks(&mut self, forming: &mut Forming) {
        for index in 0..self.running.len() {
            self.add_prefill_chunk(index, forming);
        }
    }

    /// Admits in order of arrival while the budget lasts; the first that does not fit holds back the rest, so that no
    /// stream of small requests can starve a large one.
    pub(super) fn admit_waiting(&mut self, forming: &mut Forming) {
        while forming.budget_tokens > 0 && self.can_admit() {
            let Some(index) = self.admit(forming) else { break };
            self.add_prefill_chunk(index, forming);
        }
    }

    /// Counts the step as launched, unless it is empty.
    pub(super) fn launch(&mut self, forming: Forming) -> Formed {
        if !forming.formed.step.parts.is_empty() {
            self.next_step = StepId(forming.id.0 + 1);
            let (id, sampling) = (forming.id, forming.sampling);
            self.in_flight.push_back(InFlight { id, sampling, retired: Vec::new() });
        }
        forming.formed
    }

    /// Whether the oldest waiting sequence can run: its tokens are all known, there is a slot, and there are pages for
    /// it beside one spare page for each sequence that runs.
    pub fn can_admit(&self) -> bool {
        self.waiting.front().is_some_and(|sequence| {
            let num_pages = self.pool.pages_for(sequence.num_known());
            sequence.num_in_flight() == 0
                && !self.free_slots.is_empty()
                && self.pool.can_allocate(num_pages + self.running.len())
        })
    }

    /// Gives the oldest waiting sequence a slot and the pages of its known tokens.
    fn admit(&mut self, forming: &mut Forming) -> Option<usize> {
        let sequence = self.waiting.front()?;
        let mut table = PageTable::default();
        table.grow(&self.pool, sequence.num_known()).ok()?;
        let slot = self.free_slots.pop()?;
        let sequence = self.waiting.pop_front()?;
        forming.formed.admitted.push(sequence.id());
        self.running.push(Running::new(sequence, slot, table));
        Some(self.running.len() - 1)
    }

    fn add_prefill_chunk(&mut self, index: usize, forming: &mut Forming) {
        let num_tokens = self.running[index].num_prefill_tokens().min(forming.budget_tokens);
        if num_tokens > 0 {
            self.add_part(index, num_tokens, forming);
        }
    }

    fn add_part(&mut self, index: usize, num_tokens: usize, forming: &mut Forming) {
        let running = &mut self.running[index];
        let part = running.next_part(forming.id, num_tokens, &self.pool);
        if part.sample.is_some() {
            forming.sampling.push(running.id());
        }
        forming.formed.sequences.push(running.id());
        forming.formed.step.parts.push(part);
        forming.budget_tokens -= num_tokens;
    }

    /// Takes the page that a decode may need. Without one, it waits for pages that a step in flight is about to give
    /// back, or else preempts the newest sequence, itself at last. True if the decode can run in this step.
    fn make_room(&mut self, index: usize, forming: &mut Forming) -> bool {
        while index < self.running.len() {
            if self.running[index].can_grow(&self.pool) {
                return self.running[index].grow(&self.pool);
            }
            if self.pages_are_returning() {
                return false;
            }
            self.preempt_newest(forming);
        }
        false
    }

    fn pages_are_returning(&self) -> bool {
        self.in_flight.iter().any(|step| !step.retired.is_empty())
    }

    /// The newest has no part in this step yet: decodes are added oldest first, and all else after them.
    fn preempt_newest(&mut self, forming: &mut Forming) {
        if let Some(newest) = self.running.pop() {
            forming.formed.preempted.push(newest.id());
            let (sequence, slot): (_, Slot) = newest.preempt();
            self.free_slots.push(slot);
            self.waiting.push_front(sequence);
        }
    }
}
