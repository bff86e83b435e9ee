//! Sampling as a launch: it runs in stream order after the logits, so the next step can be put on the queues before
//! the tokens are known to anyone.

use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use super::memory::Memory;
use crate::executor::{RowError, Slot};
use crate::launch::Region;
use crate::sampler::{Sampled, Sampler, sample_row};

/// The rows of one step that are sampled, and what came of them.
#[derive(Debug)]
pub struct SampledRows {
    logits: Region,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    slot: Slot,
    sampler: Arc<Mutex<Sampler>>,
    result: OnceLock<Result<Sampled, RowError>>,
}

impl SampledRows {
    /// Row `i` of `logits` is sampled by the `i`-th sampler into its slot.
    pub fn new(logits: Region, rows: impl Iterator<Item = (Slot, Arc<Mutex<Sampler>>)>) -> Self {
        let rows = rows.map(|(slot, sampler)| Row { slot, sampler, result: OnceLock::new() }).collect();
        Self { logits, rows }
    }

    /// The results in row order, `None` before the launch has run.
    pub fn results(&self) -> Option<Vec<Result<Sampled, RowError>>> {
        self.rows.iter().map(|row| row.result.get().cloned()).collect()
    }

    pub(super) fn num_rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn logits(&self) -> Region {
        self.logits
    }

    pub(super) fn run(&self, memory: &Memory, items: Range<usize>) {
        for index in items {
            let row = &self.rows[index];
            let sampled = sample_row(&row.sampler, memory.arena.row_mut(self.logits, index));
            if let Ok(sampled) = &sampled {
                memory.set_sampled(row.slot, sampled.token);
            }
            // Set once: an item runs once.
            let _ = row.result.set(sampled);
        }
    }
}
