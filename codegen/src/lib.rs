//! Emits a launch schedule as readable Rust.
//!
//! A graph and its plans come in as texts. [`compile`] loads them, runs the passes for each plan, and asks the verifier
//! whether every schedule is free of races; all mistakes come back together, each drawn under the line it is about.
//! [`emit`] then writes one module per graph and number of ranks: the numbers of sizes, settings, weights and caches by name; `bind`, which
//! reads a `config.json`; and for each plan `embed`, `layers` and `head`, in which every launch, record and wait of the
//! schedule is one statement. [`source`] is the same module as a file one would like to read:
//!
//! ```
//! let graph = r#"Model(
//!     serves: ["Echo"],
//!     dims: { "vocab": "config.vocab_size", "hidden": "config.hidden_size", "layers": "2", "tokens": "step", "seqs": "step" },
//!     inputs: { "ids": Tensor(i32, ["tokens"]), "last": Tensor(i32, ["seqs"]) },
//!     blocks: { "mix": Block(
//!         weights: "layers.{layer}", takes: { "h": Tensor(model, ["tokens", "hidden"]) },
//!         nodes: { "o": Linear(x: "h", weight: "mix", out: "hidden"), "h1": Add(a: "h", b: "o") }, gives: "h1",
//!     ) },
//!     nodes: {
//!         "emb": Embed(ids: "ids", weight: "table", rows: "vocab", out: "hidden"),
//!         "h": Repeat(blocks: ["mix"], times: "layers", with: { "h": "emb" }),
//!         "rows": Rows(x: "h", at: "last"),
//!         "logits": Linear(x: "rows", weight: "table2", out: "vocab"),
//!     },
//!     gives: "logits",
//! )"#;
//! let plan = r#"Plan(suits: (), points: [], streams: [Stream(name: "compute", group: Compute, share: 1.0)], order: AsWritten)"#;
//! let compiled = trefoil_codegen::compile("echo", graph, &[("sequential", plan)]).unwrap();
//! let source = trefoil_codegen::source(&compiled);
//! assert!(source.contains("pub mod echo"));
//! assert!(source.contains("run.linear("));
//! ```
//!
//! Invariants:
//! - The text depends on the graph and the plans alone: no clock, no environment, no hash order, no files (the macro in
//!   front of this crate reads those).
//! - Generated code calls `trefoil_runtime::{launch, model, checkpoint}` and nothing else, keeps no state, and does not
//!   allocate on the way of a step.
//! - A plan whose schedule the verifier does not accept is never emitted.
//! - A new operator does not compile here until its launch is written down: no match over operators has a `_`.
//!
//! It knows nothing of how kernels work, of requests, or of which devices there are.

mod bind;
mod compile;
mod invocation;
mod launch;
mod launchable;
mod module;
mod names;
mod plan;
mod ranks;
mod sizes;
mod tables;
mod text;

use proc_macro2::TokenStream;

pub use compile::{Compiled, Mistakes, PlannedGraph, RenderedMistake, compile};
pub use invocation::Invocation;
pub use ranks::module_names;

/// The Rust modules of a compiled graph: one for each number of ranks.
pub fn emit(compiled: &Compiled) -> TokenStream {
    ranks::models(compiled).iter().map(module::module).collect()
}

/// The module as formatted source text.
pub fn source(compiled: &Compiled) -> String {
    let tokens = emit(compiled);
    match syn::parse2(tokens.clone()) {
        Ok(file) => with_air(&prettyplease::unparse(&file)),
        // Only a mistake in this crate leads here; its tokens are the best there is to look at.
        Err(error) => format!("// not Rust: {error}\n{tokens}\n"),
    }
}

/// A blank line before each item that has a text of its own, which the formatter leaves out.
fn with_air(text: &str) -> String {
    let mut aired = String::with_capacity(text.len() + 1024);
    let mut before = "{";
    for line in text.lines() {
        let begins_item = ["///", "pub ", "fn ", "const "].iter().any(|start| line.trim_start().starts_with(start));
        let ends_item = before.trim() == "}" || before.trim() == "];" || before.trim_start().starts_with("use ");
        if begins_item && ends_item {
            aired.push('\n');
        }
        aired.push_str(line);
        aired.push('\n');
        before = line;
    }
    aired
}
