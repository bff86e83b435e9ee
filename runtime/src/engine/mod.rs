//! The serving loop and its door: requests go in, streams of events come out.
//!
//! One thread owns the executor and the [`crate::batcher::Batcher`]. Each turn forms step i+1 and launches it before it
//! reads the tokens of step i, so that the device never waits for the host. The price is known: when the token of
//! step i turns out to end a sequence, its row of step i+1 was for nothing, and that token is dropped.
//!
//! Every request that [`EngineHandle::submit`] took ends in exactly one [`Event::Finished`] or [`Event::Failed`],
//! whatever becomes of the device, or of the engine.
//!
//! ```
//! use trefoil_runtime::device::simulated::{Behavior, SimulatedExecutor};
//! use trefoil_runtime::engine::{Engine, EngineConfig, Event};
//! use trefoil_runtime::executor::Capacity;
//! use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
//!
//! let capacity = Capacity {
//!     vocab: 100,
//!     max_model_len: 64,
//!     max_num_batched_tokens: 32,
//!     max_num_seqs: 4,
//!     page_tokens: 16,
//!     num_pages: 8,
//! };
//! let executor = SimulatedExecutor::new(capacity, Behavior::default());
//! let engine = Engine::start(executor, EngineConfig::default())?;
//!
//! let draft = Draft {
//!     prompt: vec![1, 2, 3],
//!     sampling: Sampling::default(),
//!     stopping: Stopping { max_tokens: Some(5), ..Stopping::default() },
//!     num_logprobs: None,
//! };
//! let mut stream = engine.submit(Request::new(draft, engine.bounds())?)?;
//! let mut num_tokens = 0;
//! while let Some(Event::Token(_)) = stream.blocking_next() {
//!     num_tokens += 1;
//! }
//! assert_eq!(num_tokens, 5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::sync::Arc;

use crate::batcher::NeverFits;
use crate::executor::{DeviceFault, Executor, RowError};
use crate::sampler::Sampled;

pub use crate::sequence::{FinishReason, SequenceId};
pub use handle::{EngineHandle, Phase, SubmitError};
pub use observer::{EngineObserver, RequestSummary, StepSummary, Unobserved};
pub use stats::{Ending, EngineStats, FinishedCounts};
pub use stream::Stream;

mod handle;
mod observer;
mod owner;
mod serving;
mod stats;
mod stream;

/// What the engine tells the owner of a request, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// One new token that belongs to the text. The token that ends a sequence comes with [`Event::Finished`] instead.
    Token(Sampled),
    /// The last event of a request that ran.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens sampled for it, with the one that ended it.
        num_generated_tokens: usize,
    },
    /// The last event of a request that failed.
    Failed(Failure),
}

/// Why a request failed after it was taken. The text is for logs: it may name parts of the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// This request alone: its logits or its sampler.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The device; the engine has stopped.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// The engine's thread panicked, and has stopped.
    #[error("the engine panicked: {0}")]
    Panicked(String),
    /// Requests wait, nothing runs and none can be admitted; the engine has stopped rather than spin.
    #[error("no waiting request can be admitted although nothing runs")]
    NoProgress,
    /// The pool could not hold the request even alone; [`EngineHandle::submit`] refuses such requests before.
    #[error(transparent)]
    NeverFits(#[from] NeverFits),
    /// The engine was shut down before the request ended.
    #[error("the engine was shut down")]
    ShutDown,
    /// The engine stopped before it took up the request.
    #[error("the engine stopped before it took up the request")]
    NeverBegun,
}

/// What an engine is started with, beside its executor.
#[derive(Clone)]
pub struct EngineConfig {
    /// Most requests that wait for their first step; one more is refused.
    pub max_num_queued_reqs: usize,
    /// Most alternatives that may be reported per token.
    pub max_logprobs: usize,
    /// Told of steps, tokens and ends as they happen.
    pub observer: Arc<dyn EngineObserver>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { max_num_queued_reqs: 1024, max_logprobs: 20, observer: Arc::new(Unobserved) }
    }
}

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Starts the engine's thread. It ends by [`EngineHandle::shutdown`], by a fault, or when the last handle and the
    /// last stream are gone.
    ///
    /// # Errors
    /// An executor that holds nothing, or an operating system without a thread to give.
    pub fn start(executor: impl Executor + 'static, config: EngineConfig) -> Result<EngineHandle, StartError> {
        let capacity = executor.capacity();
        capacity.check().map_err(StartError::EmptyCapacity)?;
        let (handle, post) = handle::open(capacity, executor.expert_loads(), &config);
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || serving::serve(executor, post, config.observer))
            .map_err(StartError::Thread)?;
        Ok(handle)
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A limit of the executor is zero.
    #[error("the executor's {0} is zero")]
    EmptyCapacity(&'static str),
    /// No thread.
    #[error("cannot start the engine's thread")]
    Thread(#[source] io::Error),
}
