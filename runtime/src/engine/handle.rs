//! The door of the engine: submission, statistics, drain and shutdown, from any thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{EngineConfig, EngineObserver, EngineStats, Event, Failure, Stream};
use crate::batcher::NeverFits;
use crate::executor::Capacity;
use crate::expert_loads::{ExpertLoads, LayerLoad};
use crate::request::{Bounds, Request};
use crate::sequence::SequenceId;

/// A clone-able reference to a running engine.
#[derive(Clone)]
pub struct EngineHandle {
    door: Arc<Door>,
    queue: Arc<Semaphore>,
    phase: Arc<watch::Sender<Phase>>,
    stats: Arc<Mutex<EngineStats>>,
    observer: Arc<dyn EngineObserver>,
    limits: Limits,
    expert_loads: Option<Arc<ExpertLoads>>,
}

/// Where the engine is in its life. It only moves downwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Takes requests.
    Serving,
    /// Finishes what it has.
    Draining,
    /// Has finished everything; idle.
    Drained,
    /// By [`EngineHandle::shutdown`] or by a fault: every request has been failed, the device is being let go.
    Stopping(Failure),
    /// The executor has been dropped.
    Stopped(Failure),
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The waiting queue is full; try again later.
    #[error("{max_num_queued_reqs} requests are waiting already")]
    QueueFull {
        /// Its bound.
        max_num_queued_reqs: usize,
    },
    /// The engine finishes what it has and takes no more.
    #[error("the engine is draining")]
    Draining,
    /// The engine has ended.
    #[error("the engine has stopped")]
    Stopped,
    /// Prompt and output need more KV pages than there are.
    #[error(transparent)]
    NeverFits(#[from] NeverFits),
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    capacity: Capacity,
    max_num_queued_reqs: usize,
    max_logprobs: usize,
}

/// The sending end of the engine's inbox. The lock makes the order of ids the order of arrival.
pub(super) struct Door {
    inner: Mutex<Inner>,
}

struct Inner {
    commands: mpsc::Sender<Command>,
    next_id: u64,
}

/// What the engine's thread holds of its door.
pub(super) struct Post {
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) phase: Arc<watch::Sender<Phase>>,
    pub(super) stats: Arc<Mutex<EngineStats>>,
}

/// A message to the engine's thread.
pub(super) enum Command {
    Submit(Box<Submission>),
    Cancel(SequenceId),
    Drain,
    ShutDown,
}

/// A request on its way in.
pub(super) struct Submission {
    pub(super) id: SequenceId,
    pub(super) request: Request,
    /// Unbounded, yet holds at most `max_tokens + 1` events: the engine sends no more for one request.
    pub(super) events: UnboundedSender<Event>,
    /// Held until the first step of the request, or its end.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) arrived: Instant,
}

/// Makes both sides of a door.
pub(super) fn open(
    capacity: Capacity,
    expert_loads: Option<Arc<ExpertLoads>>,
    config: &EngineConfig,
) -> (EngineHandle, Post) {
    let (commands, inbox) = mpsc::channel();
    let phase = Arc::new(watch::Sender::new(Phase::Serving));
    let stats = Arc::new(Mutex::new(EngineStats::new(&capacity)));
    let max_num_queued_reqs = config.max_num_queued_reqs.min(Semaphore::MAX_PERMITS);
    let handle = EngineHandle {
        door: Arc::new(Door { inner: Mutex::new(Inner { commands, next_id: 0 }) }),
        queue: Arc::new(Semaphore::new(max_num_queued_reqs)),
        phase: Arc::clone(&phase),
        stats: Arc::clone(&stats),
        observer: Arc::clone(&config.observer),
        limits: Limits { capacity, max_num_queued_reqs, max_logprobs: config.max_logprobs },
        expert_loads,
    };
    (handle, Post { inbox, phase, stats })
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl EngineHandle {
    /// How rows have fallen to experts since the start, layer by layer; nothing for a model without experts.
    pub fn expert_loads(&self) -> Vec<LayerLoad> {
        self.expert_loads.as_ref().map(|loads| loads.snapshot()).unwrap_or_default()
    }

    /// What a [`Request`] for this engine must keep to. The longest sequence is what the model allows or the KV pool
    /// holds, whichever is less, so a request made with these bounds always fits.
    pub fn bounds(&self) -> Bounds {
        let capacity = &self.limits.capacity;
        Bounds {
            vocab: capacity.vocab,
            max_model_len: capacity.longest_sequence(),
            max_logprobs: self.limits.max_logprobs,
        }
    }

    /// What the executor can hold.
    pub fn capacity(&self) -> Capacity {
        self.limits.capacity
    }

    /// Queues a request. Never waits. Dropping the stream cancels the request.
    ///
    /// # Errors
    /// See [`SubmitError`]; the observer hears of each.
    pub fn submit(&self, request: Request) -> Result<Stream, SubmitError> {
        let answer = self.try_submit(request);
        if let Err(error) = &answer {
            self.observer.on_refused(error);
        }
        answer
    }

    /// A snapshot, at most one step old.
    pub fn stats(&self) -> EngineStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the engine is in its life.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Takes no more requests and waits until those it has are finished, or the engine has stopped.
    /// The refusal begins with the call, not with the first poll of the future.
    pub fn drain(&self) -> impl Future<Output = Phase> + Send + 'static {
        self.door.begin_drain(&self.phase);
        self.reached(|phase| !matches!(phase, Phase::Serving | Phase::Draining))
    }

    /// Fails what is left and ends the thread; resolves when the executor has been dropped.
    /// The order goes out with the call, not with the first poll of the future.
    pub fn shutdown(&self) -> impl Future<Output = Phase> + Send + 'static {
        self.door.tell(Command::ShutDown);
        self.stopped()
    }

    /// Resolves when the engine's thread has ended, for whatever reason.
    pub fn stopped(&self) -> impl Future<Output = Phase> + Send + 'static {
        self.reached(|phase| matches!(phase, Phase::Stopped(_)))
    }

    fn reached(&self, awaited: fn(&Phase) -> bool) -> impl Future<Output = Phase> + Send + 'static {
        let sender = Arc::clone(&self.phase);
        async move {
            // The sender lives in this future, so waiting cannot fail; the phase is the answer either way.
            let mut phases = sender.subscribe();
            let _ = phases.wait_for(awaited).await;
            sender.borrow().clone()
        }
    }

    fn try_submit(&self, request: Request) -> Result<Stream, SubmitError> {
        NeverFits::check(&request, &self.limits.capacity)?;
        let max_num_queued_reqs = self.limits.max_num_queued_reqs;
        let place =
            Arc::clone(&self.queue).try_acquire_owned().map_err(|_| SubmitError::QueueFull { max_num_queued_reqs })?;
        let (events, receiver) = unbounded_channel();
        let id = self.door.submit(&self.phase, request, events, place)?;
        Ok(Stream::new(id, receiver, Arc::clone(&self.door)))
    }
}

impl Door {
    /// Tells the engine that nobody reads the events of a request any more.
    pub(super) fn cancel(&self, id: SequenceId) {
        self.tell(Command::Cancel(id));
    }

    fn submit(
        &self,
        phase: &watch::Sender<Phase>,
        request: Request,
        events: UnboundedSender<Event>,
        place: OwnedSemaphorePermit,
    ) -> Result<SequenceId, SubmitError> {
        let mut inner = self.lock();
        match &*phase.borrow() {
            Phase::Serving => {}
            Phase::Draining | Phase::Drained => return Err(SubmitError::Draining),
            Phase::Stopping(_) | Phase::Stopped(_) => return Err(SubmitError::Stopped),
        }
        let id = SequenceId(inner.next_id);
        inner.next_id += 1;
        let submission = Submission { id, request, events, place, arrived: Instant::now() };
        inner.commands.send(Command::Submit(Box::new(submission))).map_err(|_| SubmitError::Stopped)?;
        Ok(id)
    }

    /// Under the lock, so that every submission is either before the change in the inbox, or refused.
    fn begin_drain(&self, phase: &watch::Sender<Phase>) {
        let inner = self.lock();
        phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Draining;
            }
            serving
        });
        // An engine that has stopped needs no telling.
        let _ = inner.commands.send(Command::Drain);
    }

    fn tell(&self, command: Command) {
        // An engine that has stopped has already cancelled, drained and shut down.
        let _ = self.lock().commands.send(command);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
