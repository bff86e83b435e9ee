//! `compile_model!`: a graph and its plans, compiled into the crate that invokes it.
//!
//! ```ignore
//! trefoil_macro::compile_model!("graphs/llama.ron", plans: ["plans/sequential.ron", "plans/overlap-2.ron"]);
//! let model = llama::compiled::<CpuDevice>();
//! ```
//!
//! Paths are relative to the folder of the invoking crate's `Cargo.toml`. Mistakes in a file are shown as the compiler
//! of graphs draws them, since a macro cannot point rustc into another file; touching a file rebuilds. The invoking
//! crate depends on `trefoil-runtime`.
//!
//! This crate reads files and nothing else: what becomes of them is the business of `trefoil-codegen`, where it is
//! tested. It knows nothing of graphs, plans or schedules.

use std::path::PathBuf;

use proc_macro::TokenStream;
use syn::parse_macro_input;
use trefoil_codegen::Invocation;

/// A module with the model that the graph describes, named after the graph's file.
#[proc_macro]
pub fn compile_model(input: TokenStream) -> TokenStream {
    let invocation = parse_macro_input!(input as Invocation);
    // Cargo sets it for every crate it builds; without it, paths count from where the compiler runs.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    invocation.expand(|path| std::fs::read_to_string(root.join(path))).into()
}
