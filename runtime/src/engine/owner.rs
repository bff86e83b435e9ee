//! The engine's side of one request: where its events go, and when things happened to it.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::handle::Submission;
use super::{Ending, Event, RequestSummary};

/// Kept from submission to the last event.
pub(super) struct Owner {
    events: UnboundedSender<Event>,
    /// Its place in the waiting queue, until its first step.
    place: Option<OwnedSemaphorePermit>,
    num_prompt_tokens: usize,
    max_tokens: usize,
    num_generated_tokens: usize,
    num_preemptions: usize,
    arrived: Instant,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
}

/// How long a token took.
pub(super) enum Wait {
    /// The first token, since the request's arrival.
    First(Duration),
    /// A further token, since the one before.
    Next(Duration),
}

impl Owner {
    /// Takes over what a submission brought beside its request.
    pub(super) fn new(submission: Submission) -> (Self, crate::request::Request) {
        let request = submission.request;
        let owner = Self {
            events: submission.events,
            place: Some(submission.place),
            num_prompt_tokens: request.prompt().len(),
            max_tokens: request.max_tokens(),
            num_generated_tokens: 0,
            num_preemptions: 0,
            arrived: submission.arrived,
            admitted: None,
            first_token: None,
            last_token: None,
        };
        (owner, request)
    }

    pub(super) fn num_prompt_tokens(&self) -> usize {
        self.num_prompt_tokens
    }

    /// Its first step was launched, or its first after a preemption.
    pub(super) fn admit(&mut self, now: Instant) {
        self.place = None;
        self.admitted.get_or_insert(now);
    }

    pub(super) fn preempt(&mut self) {
        self.num_preemptions += 1;
    }

    /// A token was read for it.
    pub(super) fn count_token(&mut self, now: Instant) -> Wait {
        self.num_generated_tokens += 1;
        self.first_token.get_or_insert(now);
        match self.last_token.replace(now) {
            Some(before) => Wait::Next(now - before),
            None => Wait::First(now - self.arrived),
        }
    }

    /// An owner that has gone away has sent, or is about to send, a cancellation.
    pub(super) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    pub(super) fn summary(&self, ending: Ending, now: Instant) -> RequestSummary {
        let between = |from: Option<Instant>, to: Option<Instant>| Some(to? - from?);
        RequestSummary {
            ending,
            num_prompt_tokens: self.num_prompt_tokens,
            num_generated_tokens: self.num_generated_tokens,
            max_tokens: self.max_tokens,
            num_preemptions: self.num_preemptions,
            queued: between(Some(self.arrived), self.admitted),
            prefill: between(self.admitted, self.first_token),
            decode: between(self.first_token, self.last_token),
            end_to_end: now - self.arrived,
        }
    }
}
