//! What a rank reads of the weights: the tensors of the checkpoint, and its part of each.

use trefoil_ir::graph::{Part, Piece, Weight, WeightRole};
use trefoil_ir::ids::WeightId;

use super::Oracle;
use super::matrix::Matrix;
use super::rank::Rank;

impl Oracle<'_> {
    /// A weight in the layer that the rank is in.
    pub(super) fn weight(&self, id: WeightId, rank: &Rank) -> Matrix {
        self.weight_of(id, rank, 0)
    }

    /// An expert's own of a weight, in the layer that the rank is in.
    pub(super) fn weight_of(&self, id: WeightId, rank: &Rank, expert: usize) -> Matrix {
        let weight = &self.graph.weights[id];
        let part = |piece: &Piece| self.part(weight, piece, rank, expert);
        let parts: Vec<f64> = weight.pieces.iter().flat_map(part).collect();
        let columns = self.size(&weight.columns);
        Matrix::new(parts.len() / columns, columns, parts)
    }

    /// The rank's elements of one tensor.
    fn part(&self, weight: &Weight, piece: &Piece, rank: &Rank, expert: usize) -> Vec<f64> {
        let tensor = self.tensor(piece, rank.layer, expert);
        let num_ranks = self.num_ranks();
        let (rows, columns) = match weight.role {
            WeightRole::Vector => (1, tensor.len()),
            WeightRole::Matrix | WeightRole::Table | WeightRole::Experts => {
                let rows = self.size(&piece.rows) * if weight.part == Part::Rows { num_ranks } else { 1 };
                (rows, tensor.len() / rows)
            }
        };
        let whole = Matrix::new(rows, columns, tensor.to_vec());
        match weight.part {
            Part::Whole => tensor.to_vec(),
            Part::Rows => whole.stretch(stretch(rows, rank.number, num_ranks)).elements().to_vec(),
            Part::Columns => {
                let own = stretch(columns, rank.number, num_ranks);
                whole.columns(own.start, own.len()).elements().to_vec()
            }
        }
    }

    fn tensor(&self, piece: &Piece, layer: usize, expert: usize) -> &[f64] {
        let (layer, expert) = (layer.to_string(), expert.to_string());
        let in_place = |name: &str| name.replace("{layer}", &layer).replace("{expert}", &expert);
        let own = in_place(&piece.tensor);
        let tied = piece.tied.as_deref().map(in_place);
        let name = tied.filter(|_| self.tied || !self.tensors.has(&own)).unwrap_or(own);
        self.tensors.get(&name)
    }
}

fn stretch(length: usize, rank: usize, num_ranks: usize) -> std::ops::Range<usize> {
    assert_eq!(length % num_ranks, 0, "{length} is not divided evenly among {num_ranks} ranks");
    let own = length / num_ranks;
    rank * own..(rank + 1) * own
}
