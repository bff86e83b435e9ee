//! Rules about weights: T2015.

use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::{Graph, Piece, Weight, WeightRole};
use crate::infer::shape;

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    graph.weights.values().filter_map(not_made_up).collect()
}

fn not_made_up(weight: &Weight) -> Option<Diagnostic> {
    let wrong = match weight.role {
        WeightRole::Matrix | WeightRole::Table => weight.pieces.iter().find(|piece| piece.columns != weight.columns),
        WeightRole::Vector => {
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
