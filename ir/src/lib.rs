//! The graph of a model, from the porter's file to the launch schedule: the data that all rooms of the compiler share.
//!
//! A porter writes a model as a small RON file of named assignments: mathematics, and the names the checkpoint gives its
//! weights. [`load`] reads it into a [`Graph`] and reports all mistakes at once, each a [`Diagnostic`] with a code, its
//! place in the file and what to do. The graph holds operators ([`Op`]) on values whose sizes are symbols
//! ([`Dim`]): nothing here knows how large a batch is, or a model. Types follow from operands ([`infer`]).
//!
//! Passes, which live elsewhere, then take the graph through its stages ([`graph::Stage`]): operators that devices have,
//! nano-operations on ranges of the dense batch, streams, and at last a [`schedule`] of launches with the events
//! between. After each of them [`verify`] checks every rule of the stage, knowing nothing of how the pass worked.
//!
//! ```
//! use trefoil_ir::{Graph, Stage, load, text, verify};
//!
//! let source = r#"
//!     Model(
//!         serves: ["TinyForCausalLM"],
//!         dims: {
//!             "vocab": "config.vocab_size", "hidden": "config.hidden_size", "layers": "config.num_hidden_layers",
//!             "tokens": "step", "seqs": "step",
//!         },
//!         params: { "eps": "config.rms_norm_eps ?? 1e-5" },
//!         inputs: { "ids": Tensor(i32, ["tokens"]), "last": Tensor(i32, ["seqs"]) },
//!         blocks: {
//!             "layer": Block(
//!                 weights: "layers.{layer}",
//!                 takes: { "h": Tensor(model, ["tokens", "hidden"]) },
//!                 nodes: {
//!                     "n": RmsNorm(x: "h", weight: "norm", eps: "eps"),
//!                     "h1": Add(a: "h", b: "n"),
//!                 },
//!                 gives: "h1",
//!             ),
//!         },
//!         nodes: {
//!             "emb": Embed(ids: "ids", weight: "embed", rows: "vocab", out: "hidden"),
//!             "deep": Repeat(blocks: ["layer"], times: "layers", with: { "h": "emb" }),
//!             "rows": Rows(x: "deep", at: "last"),
//!             "logits": Linear(x: "rows", weight: "head", tied: "embed", out: "vocab"),
//!         },
//!         gives: "logits",
//!     )
//! "#;
//! let graph: Graph = load::load("tiny", source).unwrap();
//! assert_eq!(graph.stage, Stage::Loaded);
//! assert_eq!(verify::graph(&graph), []);
//!
//! // Every graph can be read as text, and the text as a graph.
//! let printed = text::print(&graph);
//! assert!(printed.contains("n: v3[tokens, hidden] = RmsNorm(x: h, weight: w0, eps: eps)"));
//! assert_eq!(text::parse(&printed).unwrap().without_places(), graph.without_places());
//!
//! // A mistake points at itself and says what was meant.
//! let mistakes = load::load("tiny", &source.replace(r#"b: "n""#, r#"b: "m""#)).unwrap_err();
//! assert_eq!(mistakes[0].code, "T0203");
//! assert_eq!(mistakes[0].place.line, 16);
//! ```
//!
//! # In which file
//!
//! What there is: [`ids`], [`dim`], [`types`], [`op`], [`graph`], [`schedule`]; [`diag`] for what is wrong with it.
//! In: [`load`] reads RON, [`bind`] gives the symbols their numbers from a config. Questions: [`infer`] for types,
//! [`depend`] for who waits for whom, [`verify`] for the rules. Out: [`text`] and back, [`print_ron`], [`dot`].
//!
//! # Invariants
//!
//! - An id is only used with the table that gave it, and tables only grow: passes leave behind what they no longer need.
//! - Every question about an operator is a `match` over all of [`Op`], with no arm for "the rest".
//! - Equal input gives equal output: no clock, environment, file system, or order of a hash map has a say.
//! - Codes of diagnostics are stable: `T0…` the porter's file ([`load`], [`bind`], [`text`]), `T2…` rules of the stages
//!   and `T3…` races ([`verify`]). Each table of codes stands in its module, and a test breaks every rule in it.
//! - This room knows nothing of passes and plans' files, of devices and kernels, of requests, or of what a checkpoint
//!   holds.

pub mod bind;
pub mod depend;
pub mod diag;
pub mod dim;
pub mod dot;
pub mod graph;
pub mod ids;
pub mod infer;
pub mod load;
pub mod op;
mod print_ron;
pub mod schedule;
pub mod text;
pub mod types;
pub mod verify;

pub use diag::{Diagnostic, Place};
pub use dim::Dim;
pub use graph::{Graph, Stage};
pub use op::Op;
pub use print_ron::print_ron;
