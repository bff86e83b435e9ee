//! The compiler's middle: a graph and a plan go in, a verified launch schedule comes out.
//!
//! A [`plan::Plan`] says how the dense batch is cut into nano-batches, which streams there are, and in which order
//! launches go. The list of passes ([`pipeline::passes`]) turns a graph into a schedule that does what the plan says:
//!
//! | pass | from | to | what it does |
//! |---|---|---|---|
//! | `lower` | Loaded | Lowered | splits attention by the resource that bounds it |
//! | `hand_on` | Lowered | Lowered | copies what layers could not hand on in one place |
//! | `fuse` | Lowered | Lowered | joins linears of one input, and residual additions with the norms after them |
//! | `nano_batch` | Lowered | Split | makes one nano-operation per range of the batch |
//! | `shard` | Split | Split | divides the model among ranks, with the collectives that takes |
//! | `stream_groups` | Split | Grouped | gives each its stream |
//! | `order` | Grouped | Grouped | puts launches in order: a schedule that may still race |
//! | `sync` | Grouped | Scheduled | adds the fewest events that rule out every race |
//! | `memory` | Scheduled | Scheduled | gives values buffers, shared where the schedule orders their uses anyway |
//!
//! The driver verifies the graph before the first pass and after each ([`trefoil_ir::verify`]), and a broken rule names
//! the pass that broke it. The verifier judges from the schedule alone; nothing here is asked whether it is right.
//!
//! ```
//! use trefoil_ir::schedule::Section;
//!
//! let graph = trefoil_ir::load::load("llama", include_str!("../../models/graphs/llama.ron")).unwrap();
//! let plan = trefoil_passes::plan::Plan::load("overlap-2", include_str!("../../models/plans/overlap-2.ron")).unwrap();
//!
//! let compiled = trefoil_passes::pipeline::compile(graph, &plan).unwrap();
//!
//! let schedule = compiled.schedule.unwrap();
//! assert!(matches!(schedule.sections[1], Section::Repeat { .. }));
//! assert_eq!(schedule.num_events, 4);
//! ```
//!
//! # What a schedule is worth
//!
//! Beside the passes, and known to none of them, stands what plans are judged by: [`profile`], how a device fares;
//! [`cost`], what launches cost and how large a batch fits; [`analyze`], what bounds a model; [`simulate`], which runs a
//! schedule by both; and `search`, which finds plans (feature `search`).
//!
//! # Adding a pass
//!
//! Write a file with a type that implements [`pipeline::Pass`], and add a line to [`pipeline::passes`]. Its effect shows
//! with `trefoil dump GRAPH --after PASS`, and a file in `tests/files/passes/PASS/` keeps it.
//!
//! # Invariants
//!
//! - A pass gives a legal graph of the stage it promises, or diagnostics; never a graph that needs a later pass's help
//!   to be legal.
//! - The same graph and plan give the same schedule: no clock, no environment, no file, no order of hashes.
//! - A plan decides about any graph: passes speak of operators, values and rows, never of a model's names.
//! - Reuse of memory adds no waiting.
//!
//! # What it must not know
//!
//! Code generation, the runtime's batches and requests. No pass knows devices or the sizes of a model or batch.

pub mod analyze;
mod carry;
mod contents;
pub mod cost;
mod fuse;
mod hand_on;
mod lower;
pub mod memory;
mod nano_batch;
mod order;
pub mod pipeline;
pub mod plan;
pub mod profile;
mod program;
mod rewrite;
#[cfg(feature = "search")]
pub mod search;
pub mod shard;
pub mod simulate;
mod source;
mod stream_groups;
mod sync;
mod touch;
mod trace;
