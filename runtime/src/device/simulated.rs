//! A device without mathematics, for tests and simulation of everything above it.
//!
//! It keeps the ids of tokens where a device keeps keys and values: in pages. The logits of a row are a keyed hash of
//! every id before it, *as read back through the page table*, so a page that is swapped, freed too early, shared by
//! mistake or left unwritten changes the text. It checks each step against the contract of [`Executor`], too.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::executor::{Capacity, DeviceFault, Executor, Input, PageIndex, Part, RowError, Slot, Step, StepResult};
use crate::request::TokenId;
use crate::sampler::{Sampled, sample_row};

/// How the simulated device behaves.
#[derive(Debug, Clone, Default)]
pub struct Behavior {
    /// Key of the hash: another key is another model.
    pub key: u64,
    /// How long a step takes.
    pub step_time: Duration,
    /// What goes wrong, if anything.
    pub fault: Option<Fault>,
    /// A row whose newest token is this one gets logits that are not finite.
    pub poison: Option<TokenId>,
}

/// One fault. Calls are counted from 0, launches apart from collections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// That launch fails, and all after it.
    Launch(u64),
    /// That collection fails, and all after it.
    Collect(u64),
    /// That launch panics.
    PanicInLaunch(u64),
    /// That collection panics.
    PanicInCollect(u64),
}

/// An executor without mathematics.
#[derive(Debug)]
pub struct SimulatedExecutor {
    capacity: Capacity,
    behavior: Behavior,
    /// By page, then by offset: the id written there last.
    pages: Vec<Vec<Option<TokenId>>>,
    /// By slot: the token sampled there last.
    slots: Vec<Option<TokenId>>,
    /// Steps run when they are collected, the latest moment that their order allows.
    queue: VecDeque<Step>,
    num_launches: u64,
    num_collections: u64,
}

/// The logits of the row after `history` under the model that `key` names: eight likely tokens among flat ones.
pub fn hash_logits(key: u64, history: impl IntoIterator<Item = TokenId>, vocab: usize) -> Vec<f32> {
    let digest = history.into_iter().fold(mix(key), |hash, token| mix(hash ^ u64::from(token)));
    let mut logits = vec![0.0; vocab];
    for rank in 0..8u64 {
        let token = mix(digest.wrapping_add(rank)) % vocab.max(1) as u64;
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = 8.0 - rank as f32;
        }
    }
    logits
}

/// SplitMix64's step and finalizer (Steele, Lea and Flood, OOPSLA'14).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

impl SimulatedExecutor {
    /// A device with empty pages and slots.
    pub fn new(capacity: Capacity, behavior: Behavior) -> Self {
        Self {
            capacity,
            behavior,
            pages: vec![vec![None; capacity.page_tokens]; capacity.num_pages],
            slots: vec![None; capacity.max_num_seqs],
            queue: VecDeque::new(),
            num_launches: 0,
            num_collections: 0,
        }
    }

    fn run(&mut self, step: &Step) -> Result<StepResult, DeviceFault> {
        let rows: Result<Vec<_>, _> = step.parts.iter().map(|part| self.run_part(part)).collect();
        Ok(StepResult { sampled: rows?.into_iter().flatten().collect() })
    }

    fn run_part(&mut self, part: &Part) -> Result<Option<Result<Sampled, RowError>>, DeviceFault> {
        let tokens = self.input(part)?;
        for (position, token) in (part.position..).zip(&tokens) {
            *self.cell(&part.pages, position)? = Some(*token);
        }
        let Some(sampler) = &part.sample else { return Ok(None) };
        let mut logits = self.logits(part, part.position + tokens.len())?;
        if tokens.last().is_some_and(|token| Some(*token) == self.behavior.poison) {
            logits.fill(f32::NAN);
        }
        let row = sample_row(sampler, &mut logits);
        *self.slot(part.slot)? = Some(row.as_ref().map_or(0, |sampled| sampled.token));
        Ok(Some(row))
    }

    fn input(&mut self, part: &Part) -> Result<Vec<TokenId>, DeviceFault> {
        match &part.input {
            Input::Known(tokens) => Ok(tokens.clone()),
            Input::LastSampled => {
                let token = self.slot(part.slot)?;
                Ok(vec![token.ok_or_else(|| broken("a slot is read before it is written"))?])
            }
        }
    }

    fn logits(&mut self, part: &Part, num_tokens: usize) -> Result<Vec<f32>, DeviceFault> {
        let history: Result<Vec<_>, _> = (0..num_tokens)
            .map(|position| {
                let cell = self.cell(&part.pages, position)?;
                cell.ok_or_else(|| broken("a position is read before it is written"))
            })
            .collect();
        Ok(hash_logits(self.behavior.key, history?, self.capacity.vocab))
    }

    fn cell(&mut self, table: &[PageIndex], position: usize) -> Result<&mut Option<TokenId>, DeviceFault> {
        let page = table.get(position / self.capacity.page_tokens);
        let page = page.ok_or_else(|| broken("the page table is too short"))?;
        let cells = self.pages.get_mut(page.0 as usize);
        cells
            .and_then(|cells| cells.get_mut(position % self.capacity.page_tokens))
            .ok_or_else(|| broken("a page is outside the pool"))
    }

    fn slot(&mut self, slot: Slot) -> Result<&mut Option<TokenId>, DeviceFault> {
        self.slots.get_mut(slot.0 as usize).ok_or_else(|| broken("a slot is out of range"))
    }

    /// What a real device would not notice.
    fn check(&self, step: &Step) -> Result<(), DeviceFault> {
        let capacity = &self.capacity;
        require(self.queue.len() < 2, "a third step is launched")?;
        require(!step.parts.is_empty(), "a step is empty")?;
        require(step.num_tokens() <= capacity.max_num_batched_tokens, "a step is too long")?;
        require(step.parts.len() <= capacity.max_num_seqs, "a step has too many parts")?;
        let decodes = step.parts.get(..step.num_decodes);
        let single = decodes.is_some_and(|parts| parts.iter().all(|part| part.num_tokens() == 1));
        require(single, "a decode has more than one token")?;
        step.parts.iter().try_for_each(|part| self.check_part(part))?;
        require(distinct(step.parts.iter().map(|part| part.slot)), "two parts have one slot")
    }

    fn check_part(&self, part: &Part) -> Result<(), DeviceFault> {
        let end = part.position + part.num_tokens();
        require(part.num_tokens() > 0, "a part is empty")?;
        require(end < self.capacity.max_model_len, "a part goes beyond the context")?;
        require(distinct(part.pages.iter().copied()), "a sequence has one page twice")
    }

    /// Counts a call, and breaks it if it is the one.
    fn strike(&self, fail: Fault, panic: Fault, site: &str) -> Result<(), DeviceFault> {
        let due = |fault: Fault| self.behavior.fault == Some(fault);
        assert!(!due(panic), "a planted panic in {site}");
        if due(fail) {
            return Err(DeviceFault { site: site.to_owned(), what: "a planted fault".to_owned() });
        }
        Ok(())
    }
}

impl Executor for SimulatedExecutor {
    fn capacity(&self) -> Capacity {
        self.capacity
    }

    fn launch(&mut self, step: Step) -> Result<(), DeviceFault> {
        let call = self.num_launches;
        self.strike(Fault::Launch(call), Fault::PanicInLaunch(call), "launch")?;
        self.num_launches += 1;
        self.check(&step)?;
        self.queue.push_back(step);
        Ok(())
    }

    fn collect(&mut self) -> Result<StepResult, DeviceFault> {
        let call = self.num_collections;
        self.strike(Fault::Collect(call), Fault::PanicInCollect(call), "collect")?;
        self.num_collections += 1;
        let step = self.queue.pop_front().ok_or_else(|| broken("there is nothing to collect"))?;
        if !self.behavior.step_time.is_zero() {
            std::thread::sleep(self.behavior.step_time);
        }
        self.run(&step)
    }
}

fn broken(what: &str) -> DeviceFault {
    DeviceFault { site: "contract".to_owned(), what: what.to_owned() }
}

fn require(holds: bool, what: &str) -> Result<(), DeviceFault> {
    if holds { Ok(()) } else { Err(broken(what)) }
}

fn distinct<T: Ord>(items: impl Iterator<Item = T> + Clone) -> bool {
    items.clone().collect::<BTreeSet<_>>().len() == items.count()
}
