//! Rules about weights: T2015 and T2016.

use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::{Graph, Node, Piece, Weight, WeightRole};
use crate::infer::{self, shape};
use crate::op::Op;

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes: Vec<_> = graph.weights.values().filter_map(not_made_up).collect();
    mistakes.extend(graph.weights.values().filter_map(uncounted));
    for (_, nodes) in graph.bodies() {
        mistakes.extend(nodes.iter().filter_map(|node| misrouted(graph, nodes, node)));
    }
    mistakes
}

fn uncounted(weight: &Weight) -> Option<Diagnostic> {
    let counts = weight.experts.is_some();
    let message =
        format!("the weight, {:?}, {} experts", weight.role, if counts { "counts" } else { "does not count its" });
    (counts != matches!(weight.role, WeightRole::Experts | WeightRole::ExpertVectors))
        .then(|| Diagnostic::new("T2016", weight.place, message))
}

fn misrouted(graph: &Graph, nodes: &[Node], node: &Node) -> Option<Diagnostic> {
    let Op::ExpertLinear { experts, weight, .. } = node.op else { return None };
    let (chosen, own) = (infer::chosen_among(graph, nodes, experts), &graph.weights[weight].experts);
    let count = |experts: &Option<Dim>| experts.as_ref().map_or("unknown".to_owned(), Dim::to_string);
    let message = format!("`{}` has {} experts and reads a choice among {}", node.name, count(own), count(&chosen));
    (chosen != *own).then(|| Diagnostic::new("T2016", node.place, message))
}

fn not_made_up(weight: &Weight) -> Option<Diagnostic> {
    let wrong = match weight.role {
        WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => {
            weight.pieces.iter().find(|piece| piece.columns != weight.columns)
        }
        WeightRole::Vector | WeightRole::ExpertVectors => {
            let sum = weight.pieces.iter().fold(Dim::default(), |sum, piece| sum.plus(&piece.columns));
            let has_rows = |piece: &&Piece| piece.rows != Dim::constant(1);
            weight.pieces.iter().find(has_rows).or(weight.pieces.last().filter(|_| sum != weight.columns))
        }
    };
    let Piece { tensor, rows, columns, .. } = wrong?;
    let found = shape(&[rows.clone(), columns.clone()]);
    let message = format!("`{tensor}` is {found}, which makes no {:?} of {} columns", weight.role, weight.columns);
    Some(Diagnostic::new("T2015", weight.place, message))
}
