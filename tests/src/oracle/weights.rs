//! What a rank reads of the weights: the tensors of the checkpoint, as they are stored, and its part of each.

use trefoil_ir::graph::{Part, Piece, Slice, Weight, WeightRole};
use trefoil_ir::ids::WeightId;

use super::Oracle;
use super::matrix::Matrix;
use super::rank::Rank;

impl Oracle<'_> {
    /// A weight in the layer that the rank is in.
    pub(super) fn weight(&self, id: WeightId, rank: &Rank) -> Matrix {
        self.weight_of(id, rank, 0)
    }

    /// Every expert's own of a weight, in the layer that the rank is in.
    pub(super) fn weights_of_experts(&self, id: WeightId, rank: &Rank) -> Vec<Matrix> {
        let count = self.graph.weights[id].experts.as_ref().expect("a weight that counts its experts");
        (0..self.size(count)).map(|expert| self.weight_of(id, rank, expert)).collect()
    }

    fn weight_of(&self, id: WeightId, rank: &Rank, expert: usize) -> Matrix {
        let weight = &self.graph.weights[id];
        let part = |piece: &Piece| self.part(weight, piece, rank, expert);
        let parts: Vec<f64> = weight.pieces.iter().flat_map(part).collect();
        let columns = self.size(&weight.columns);
        Matrix::new(parts.len() / columns, columns, parts)
    }

    /// The rank's elements of one tensor.
    fn part(&self, weight: &Weight, piece: &Piece, rank: &Rank, expert: usize) -> Vec<f64> {
        let num_ranks = self.num_ranks();
        let (rows, by_rows, by_columns) = match weight.role {
            // The elements of a vector are as the rows of a matrix with one column.
            WeightRole::Vector | WeightRole::ExpertVectors => {
                (self.size(&piece.columns), weight.part != Part::Whole, false)
            }
            WeightRole::Matrix | WeightRole::Table | WeightRole::Experts => {
                (self.size(&piece.rows), weight.part == Part::Rows, weight.part == Part::Columns)
            }
        };
        let (number, among) = if by_rows { (rank.number, num_ranks) } else { (0, 1) };
        let picked = Picked {
            rows,
            slice: piece.stored.slice.as_ref().map(|slice| self.stride(slice, rows)),
            rank: number,
            ranks: among,
        };
        let own = self.whole(weight, piece, rank, expert, picked.of()).rows_at(&picked.numbers());
        let own = if by_columns {
            let columns = stretch(own.num_columns(), rank.number, num_ranks);
            own.columns(columns.start, columns.len())
        } else {
            own
        };
        own.map(|element| element + f64::from(piece.stored.plus)).elements().to_vec()
    }

    /// All `rows` rows that the checkpoint has of a tensor, of one expert where it has those of all, output-major.
    fn whole(&self, weight: &Weight, piece: &Piece, rank: &Rank, expert: usize, rows: usize) -> Matrix {
        let tensor = self.tensor(piece, rank.layer, expert);
        let tensor = match &weight.experts {
            Some(count) if !piece.tensor.contains("{expert}") => {
                let own = stretch(tensor.len(), expert, self.size(count));
                &tensor[own]
            }
            Some(_) | None => tensor,
        };
        let columns = tensor.len() / rows;
        if piece.stored.transposed {
            Matrix::new(columns, rows, tensor.to_vec()).transposed()
        } else {
            Matrix::new(rows, columns, tensor.to_vec())
        }
    }

    fn stride(&self, slice: &Slice, rows: usize) -> Stride {
        let (take, every) = match &slice.stride {
            Some((take, every)) => (self.size(take), self.size(every)),
            None => (rows, rows),
        };
        Stride { of: self.size(&slice.of), from: self.size(&slice.from), take, every, is_one: slice.stride.is_none() }
    }

    fn tensor(&self, piece: &Piece, layer: usize, expert: usize) -> &[f64] {
        let in_place = |name: &str| format!("{}{}", self.prefix, place_numbers(name, layer, expert));
        let own = in_place(&piece.tensor);
        let tied = piece.tied.as_deref().map(in_place);
        let name = tied.filter(|_| self.tied || !self.tensors.has(&own)).unwrap_or(own);
        self.tensors.get(&name)
    }
}

/// A tensor's name in one layer, of one expert.
pub(super) fn place_numbers(name: &str, layer: usize, expert: usize) -> String {
    name.replace("{layer}", &layer.to_string()).replace("{expert}", &expert.to_string())
}

/// A slice in numbers.
struct Stride {
    of: usize,
    from: usize,
    take: usize,
    every: usize,
    /// Whether it is one stretch.
    is_one: bool,
}

/// Which rows of a tensor a rank reads.
struct Picked {
    /// How many.
    rows: usize,
    slice: Option<Stride>,
    rank: usize,
    ranks: usize,
}

impl Picked {
    /// How many the tensor has.
    fn of(&self) -> usize {
        self.slice.as_ref().map_or(self.rows * self.ranks, |slice| slice.of)
    }

    /// Their numbers. Of one stretch, each rank has a stretch of it; of rows in strides, those of the first rank are
    /// followed by those of the second.
    fn numbers(&self) -> Vec<usize> {
        let own = self.rank * self.rows..(self.rank + 1) * self.rows;
        match &self.slice {
            None => own.collect(),
            Some(slice) if slice.is_one => own.map(|row| slice.from + row).collect(),
            Some(slice) => own.map(|row| slice.from + row / slice.take * slice.every + row % slice.take).collect(),
        }
    }
}

fn stretch(length: usize, number: usize, among: usize) -> std::ops::Range<usize> {
    assert_eq!(length % among, 0, "{length} is not divided evenly among {among}");
    let own = length / among;
    number * own..(number + 1) * own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(rows: usize, slice: Option<(usize, usize, usize, usize)>, rank: usize, ranks: usize) -> Vec<usize> {
        let stride = |(of, from, take, every)| Stride { of, from, take, every, is_one: take == rows };
        Picked { rows, slice: slice.map(stride), rank, ranks }.numbers()
    }

    #[test]
    fn rows_of_one_rank() {
        assert_eq!(numbers(3, None, 0, 1), [0, 1, 2]);
        assert_eq!(numbers(3, Some((9, 4, 3, 3)), 0, 1), [4, 5, 6]);
        assert_eq!(numbers(4, Some((12, 1, 2, 6)), 0, 1), [1, 2, 7, 8]);
    }

    /// The number of rows is a rank's own, the tensor is the whole one.
    #[test]
    fn rows_of_two_ranks() {
        assert_eq!(numbers(3, None, 1, 2), [3, 4, 5]);
        assert_eq!(numbers(2, Some((12, 4, 2, 2)), 0, 2), [4, 5]);
        assert_eq!(numbers(2, Some((12, 4, 2, 2)), 1, 2), [6, 7]);
        assert_eq!(numbers(4, Some((24, 1, 2, 6)), 1, 2), [13, 14, 19, 20]);
    }

    #[test]
    fn names_have_their_numbers() {
        assert_eq!(place_numbers("h.{layer}.e.{expert}.up", 3, 12), "h.3.e.12.up");
    }
}
