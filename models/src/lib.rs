//! The compiled models: every graph of `graphs/` as a Rust module, with a launch schedule for each of its plans.
//!
//! `build.rs` lists the folders, `compile_model!` turns each graph into a module of [`graphs`], and [`registry`] finds the
//! one that serves a checkpoint. To serve another architecture, put a graph into `graphs/` and build; to give all
//! models another plan, put it into `plans/`; to give one to `llama` alone, put it into `plans/llama/`. No Rust is
//! written for any of these. A plan for eight ranks makes a model of its own out of its graph, `llama_tp8`, that has the
//! plans for any number of ranks too.
//!
//! ```
//! use trefoil::registry;
//! let names: Vec<_> = registry::GRAPH_SOURCES.iter().map(|(name, _)| *name).collect();
//! assert!(names.contains(&"llama"));
//! let (first_plan, _) = registry::PLAN_SOURCES[0];
//! assert_eq!(first_plan, "sequential");
//! ```
//!
//! Invariants:
//! - A graph whose schedules are not proven free of races does not build.
//! - No two graphs serve the same architecture; of the models of a graph, a checkpoint is served by that for one rank.
//! - The first plan of every model is the sequential one.
//!
//! This library knows nothing of kernels, requests or sequences. The `trefoil` binary beside it puts compiled models,
//! devices, engine and server together.

pub mod config;
pub mod graphs {
    //! Generated: a module per graph, `all` of them, and their texts.
    include!(concat!(env!("OUT_DIR"), "/graphs.rs"));
}
pub mod registry;
