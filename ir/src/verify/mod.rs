//! What must hold of a graph at each stage.

pub mod schedule;

use crate::diag::Diagnostic;
use crate::graph::Graph;

/// Everything that is wrong with a graph, by the rules of its stage.
pub fn graph(graph: &Graph) -> Vec<Diagnostic> {
    schedule::hazards(graph)
}
