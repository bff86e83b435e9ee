//! (being written)
pub mod diag;
pub mod dim;
pub mod graph;
pub mod ids;
pub mod op;
pub mod schedule;
pub mod types;
