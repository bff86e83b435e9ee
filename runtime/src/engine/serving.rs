//! The engine's thread: form a step, launch it, read the one before.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use tokio::sync::watch;

use super::handle::{Command, Post, Submission};
use super::owner::{Owner, Wait};
use super::{Ending, EngineObserver, EngineStats, Event, Failure, FinishReason, Phase, StepSummary};
use crate::batcher::{Batcher, Formed, Outcome, WrongResult};
use crate::executor::{DeviceFault, Executor, StepResult, panic_text};
use crate::sequence::SequenceId;

struct Serving<E> {
    executor: E,
    batcher: Batcher,
    owners: BTreeMap<SequenceId, Owner>,
    launched: VecDeque<Launched>,
    inbox: mpsc::Receiver<Command>,
    phase: Arc<watch::Sender<Phase>>,
    stats: EngineStats,
    published: Arc<Mutex<EngineStats>>,
    observer: Arc<dyn EngineObserver>,
}

/// What is remembered of a step for its summary.
struct Launched {
    at: Instant,
    num_tokens: usize,
    num_decode_tokens: usize,
    num_seqs: usize,
}

/// Runs the engine to its end, which every owner is told of.
pub(super) fn serve<E: Executor>(executor: E, post: Post, observer: Arc<dyn EngineObserver>) {
    let mut serving = Serving::new(executor, post, observer);
    let why = match catch_unwind(AssertUnwindSafe(|| serving.run())) {
        Ok(Ok(())) => Failure::ShutDown,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::Panicked(panic_text(&*panic)),
    };
    serving.stop(why);
}

impl<E: Executor> Serving<E> {
    fn new(executor: E, post: Post, observer: Arc<dyn EngineObserver>) -> Self {
        let capacity = executor.capacity();
        Self {
            executor,
            batcher: Batcher::new(&capacity),
            owners: BTreeMap::new(),
            launched: VecDeque::new(),
            inbox: post.inbox,
            phase: post.phase,
            stats: EngineStats::new(&capacity),
            published: post.stats,
            observer,
        }
    }

    fn run(&mut self) -> Result<(), Failure> {
        while self.take_commands() {
            self.turn()?;
        }
        Ok(())
    }

    /// One turn of the loop. While a step is being read here, the device already works on the next.
    fn turn(&mut self) -> Result<(), Failure> {
        let formed = self.batcher.next_step();
        let launched = self.launch(formed)?;
        self.publish();
        if self.batcher.num_in_flight() > usize::from(launched) {
            let result = self.executor.collect()?;
            self.read(result)?;
        } else if !launched && !self.batcher.is_idle() {
            return Err(Failure::NoProgress);
        }
        Ok(())
    }

    /// Does what the inbox asks for; without any work it sleeps there. False when the engine is to end.
    fn take_commands(&mut self) -> bool {
        while self.batcher.is_idle() {
            self.rest();
            let Ok(command) = self.inbox.recv() else { return false };
            if !self.obey(command) {
                return false;
            }
        }
        while let Ok(command) = self.inbox.try_recv() {
            if !self.obey(command) {
                return false;
            }
        }
        true
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Submit(submission) => self.submit(*submission),
            Command::Cancel(id) => self.cancel(id),
            // The phase says so already; this only wakes the thread.
            Command::Drain => {}
            Command::ShutDown => return false,
        }
        true
    }

    fn submit(&mut self, submission: Submission) {
        let id = submission.id;
        let (owner, request) = Owner::new(submission);
        if !self.stats.busy {
            self.stats.busy = true;
            self.stats.last_progress = Instant::now();
        }
        self.owners.insert(id, owner);
        if let Err(never_fits) = self.batcher.submit(id, request) {
            self.end(id, Event::Failed(never_fits.into()), Instant::now());
        }
    }

    fn cancel(&mut self, id: SequenceId) {
        self.batcher.cancel(id);
        if let Some(owner) = self.owners.remove(&id) {
            self.count_end(&owner, Ending::Abort, Instant::now());
        }
    }

    /// True if there was anything to launch.
    fn launch(&mut self, formed: Formed) -> Result<bool, DeviceFault> {
        let now = Instant::now();
        self.note_moves(&formed, now);
        if formed.step.parts.is_empty() {
            return Ok(false);
        }
        self.launched.push_back(Launched {
            at: now,
            num_tokens: formed.step.num_tokens(),
            num_decode_tokens: formed.step.num_decodes,
            num_seqs: formed.step.parts.len(),
        });
        self.stats.num_steps += 1;
        self.executor.launch(formed.step)?;
        Ok(true)
    }

    fn note_moves(&mut self, formed: &Formed, now: Instant) {
        for id in &formed.preempted {
            self.stats.num_preemptions += 1;
            if let Some(owner) = self.owners.get_mut(id) {
                owner.preempt();
            }
        }
        for id in &formed.admitted {
            if let Some(owner) = self.owners.get_mut(id) {
                owner.admit(now);
            }
        }
    }

    fn read(&mut self, result: StepResult) -> Result<(), Failure> {
        let outcomes = self.batcher.collect(result).map_err(wrong_result)?;
        let now = Instant::now();
        self.stats.last_progress = now;
        self.summarize_step(now);
        for outcome in outcomes {
            self.pass_on(outcome, now);
        }
        Ok(())
    }

    fn summarize_step(&mut self, now: Instant) {
        if let Some(step) = self.launched.pop_front() {
            self.observer.on_step(&StepSummary {
                num_tokens: step.num_tokens,
                num_decode_tokens: step.num_decode_tokens,
                num_seqs: step.num_seqs,
                elapsed: now - step.at,
            });
        }
    }

    fn pass_on(&mut self, outcome: Outcome, now: Instant) {
        let Outcome { id, row, ends, num_generated_tokens, .. } = outcome;
        let sampled = match row {
            Ok(sampled) => sampled,
            Err(error) => return self.end(id, Event::Failed(error.into()), now),
        };
        self.count_token(id, now);
        if matches!(ends, None | Some(FinishReason::Length))
            && let Some(owner) = self.owners.get(&id)
        {
            owner.tell(Event::Token(sampled));
        }
        if let Some(reason) = ends {
            self.end(id, Event::Finished { reason, num_generated_tokens }, now);
        }
    }

    fn count_token(&mut self, id: SequenceId, now: Instant) {
        let Some(owner) = self.owners.get_mut(&id) else { return };
        self.stats.num_generation_tokens += 1;
        match owner.count_token(now) {
            Wait::First(wait) => {
                self.stats.num_prompt_tokens += owner.num_prompt_tokens() as u64;
                self.observer.on_first_token(wait);
            }
            Wait::Next(wait) => self.observer.on_token(wait),
        }
    }

    /// Tells an owner the last event of its request.
    fn end(&mut self, id: SequenceId, event: Event, now: Instant) {
        let Some(owner) = self.owners.remove(&id) else { return };
        // Counted first, so that whoever reads the event finds it in the statistics.
        let ending = Ending::of(&event).unwrap_or(Ending::Error);
        self.count_end(&owner, ending, now);
        owner.tell(event);
    }

    fn count_end(&mut self, owner: &Owner, ending: Ending, now: Instant) {
        self.stats.finished.count(ending);
        self.publish();
        self.observer.on_finished(&owner.summary(ending, now));
    }

    /// Nothing to do, and everything is told.
    fn rest(&mut self) {
        self.stats.busy = false;
        self.publish();
        self.phase.send_if_modified(|phase| {
            let draining = *phase == Phase::Draining;
            if draining {
                *phase = Phase::Drained;
            }
            draining
        });
    }

    fn publish(&mut self) {
        let census = self.batcher.census();
        self.stats.num_running = self.batcher.num_running();
        self.stats.num_waiting = self.batcher.num_waiting();
        self.stats.num_pages_free = census.num_free;
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = self.stats.clone();
    }

    /// Refuses what comes, fails what is left, and lets go of the device. The order matters: an executor whose device
    /// hangs may never finish dropping, and by then every owner has been told.
    fn stop(mut self, why: Failure) {
        if why != Failure::ShutDown {
            tracing::error!(%why, "the engine stops");
        }
        self.phase.send_replace(Phase::Stopping(why.clone()));
        self.fail_all(&why);
        let Self { executor, inbox, phase, .. } = self;
        // Submissions still in the inbox end here: their streams see the channel close.
        drop(inbox);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(executor))) {
            tracing::error!(panic = panic_text(&*panic), "the executor panicked while it was dropped");
        }
        phase.send_replace(Phase::Stopped(why));
    }

    /// The observer may be what panicked, so it is not asked again.
    fn fail_all(&mut self, why: &Failure) {
        for (_, owner) in std::mem::take(&mut self.owners) {
            self.stats.finished.count(Ending::Error);
            owner.tell(Event::Failed(why.clone()));
        }
        self.stats = EngineStats { busy: false, num_running: 0, num_waiting: 0, ..self.stats.clone() };
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = self.stats.clone();
    }
}

fn wrong_result(error: WrongResult) -> Failure {
    Failure::Device(DeviceFault { site: "collect".to_owned(), what: error.to_string() })
}
