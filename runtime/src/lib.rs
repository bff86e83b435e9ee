//! Runs compiled models and serves them.
//!
//! From the outside in: [`server`] speaks HTTP and turns bodies into checked [`request`]s; [`text`] stands between text
//! and token ids; [`engine`] owns a thread that forms steps, launches them and reads the tokens of the step before,
//! with the [`batcher`] choosing who runs, [`sequence`]s remembering what each request has, [`kv`] lending out pages and
//! the [`sampler`] choosing tokens; an [`executor`] runs a step: [`compiled`] puts a compiled [`model`] on a device
//! through the [`launch`] surface, [`device::simulated`] does without mathematics. [`checkpoint`] and [`weights`] read what lies
//! in a checkpoint's folder, [`metrics`] and [`trace`] tell what happened, [`measure`] what a device can do.
//!
//! ```
//! use trefoil_runtime::device::simulated::{Behavior, SimulatedExecutor};
//! use trefoil_runtime::engine::{Engine, EngineConfig, Event};
//! use trefoil_runtime::executor::Capacity;
//! use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
//!
//! let capacity = Capacity {
//!     vocab: 100, max_model_len: 64, max_num_batched_tokens: 16, max_num_seqs: 4, page_tokens: 4, num_pages: 32,
//! };
//! let engine = Engine::start(SimulatedExecutor::new(capacity, Behavior::default()), EngineConfig::default()).unwrap();
//! let stopping = Stopping { max_tokens: Some(3), ..Stopping::default() };
//! let draft = Draft { prompt: vec![1, 2, 3], sampling: Sampling::default(), stopping, num_logprobs: None };
//!
//! let mut stream = engine.submit(Request::new(draft, engine.bounds()).unwrap()).unwrap();
//!
//! let events: Vec<_> = std::iter::from_fn(|| stream.blocking_next()).collect();
//! assert_eq!(events.iter().filter(|event| matches!(event, Event::Token(_))).count(), 3);
//! ```
//!
//! # Invariants
//!
//! - A request reaches the engine only through [`request::Request::new`], so the engine never meets one it cannot run.
//! - A sequence's text depends on its request alone: not on its company, on how its prompt is cut, on preemption, nor,
//!   on the CPU, on the plan or the number of threads.
//! - A KV page has an owner that cannot be copied, and is written by one sequence only.
//! - No fault of one request ends another, and no fault is silent: what was in flight is told so.
//! - Queues are bounded, and the memory of a device is taken at the start.
//!
//! # What it must not know
//!
//! Graphs, passes, plans' making and code generation: it meets the compiler's work as [`model::CompiledModel`], a table of
//! functions.

pub mod batcher;
pub mod checkpoint;
pub mod compiled;
pub mod device;
pub mod engine;
pub mod executor;
pub mod expert_loads;
pub mod kv;
pub mod launch;
pub mod measure;
pub mod metrics;
pub mod model;
pub mod request;
pub mod sampler;
pub mod sequence;
pub mod server;
mod similar;
pub mod text;
pub mod trace;
pub mod weights;
