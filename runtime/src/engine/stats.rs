//! Numbers of the engine for gauges, counters and health.

use std::time::{Duration, Instant};

use super::{Event, FinishReason};
use crate::executor::Capacity;

/// A snapshot of the engine. Counters only grow.
#[derive(Debug, Clone)]
pub struct EngineStats {
    /// Sequences that hold pages and take part in steps.
    pub num_running: usize,
    /// Sequences that wait for their first step, or for pages after a preemption.
    pub num_waiting: usize,
    /// KV pages that nobody owns.
    pub num_pages_free: usize,
    /// KV pages of the pool.
    pub num_pages_total: usize,
    /// Prompt tokens of requests that have given their first token.
    pub num_prompt_tokens: u64,
    /// Tokens sampled, without those that were dropped.
    pub num_generation_tokens: u64,
    /// Sequences that gave up their pages to older ones.
    pub num_preemptions: u64,
    /// Steps launched.
    pub num_steps: u64,
    /// Requests that ended, by how.
    pub finished: FinishedCounts,
    /// There is work: requests wait, run, or are in flight.
    pub busy: bool,
    /// When a step was last collected, or work last began after idleness.
    pub last_progress: Instant,
}

/// Requests that ended, by how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FinishedCounts {
    /// By an end-of-sequence or stop token.
    pub stop: u64,
    /// By length.
    pub length: u64,
    /// By their owner.
    pub abort: u64,
    /// By a failure.
    pub error: u64,
}

/// How a request ended, in the words of vLLM's `finished_reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// An end-of-sequence or stop token.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// Its stream was dropped.
    Abort,
    /// It failed.
    Error,
}

impl EngineStats {
    pub(super) fn new(capacity: &Capacity) -> Self {
        Self {
            num_running: 0,
            num_waiting: 0,
            num_pages_free: capacity.num_pages,
            num_pages_total: capacity.num_pages,
            num_prompt_tokens: 0,
            num_generation_tokens: 0,
            num_preemptions: 0,
            num_steps: 0,
            finished: FinishedCounts::default(),
            busy: false,
            last_progress: Instant::now(),
        }
    }

    /// Share of the KV pages that are owned, 0 to 1.
    pub fn kv_usage(&self) -> f64 {
        let in_use = self.num_pages_total - self.num_pages_free;
        in_use as f64 / self.num_pages_total.max(1) as f64
    }

    /// How long the engine has had work without progress; `None` while it is idle. Health compares this with a limit.
    pub fn stalled_for(&self, now: Instant) -> Option<Duration> {
        self.busy.then(|| now.saturating_duration_since(self.last_progress))
    }
}

impl FinishedCounts {
    /// All requests that ended.
    pub fn total(&self) -> u64 {
        self.stop + self.length + self.abort + self.error
    }

    pub(super) fn count(&mut self, ending: Ending) {
        match ending {
            Ending::Stop => self.stop += 1,
            Ending::Length => self.length += 1,
            Ending::Abort => self.abort += 1,
            Ending::Error => self.error += 1,
        }
    }
}

impl Ending {
    /// The label's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Error => "error",
        }
    }

    /// How the last event of a request ends it; `None` for an event that is not the last.
    pub fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Token(_) => None,
            Event::Finished { reason: FinishReason::Length, .. } => Some(Self::Length),
            Event::Finished { .. } => Some(Self::Stop),
            Event::Failed(_) => Some(Self::Error),
        }
    }
}
