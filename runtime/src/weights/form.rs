//! Where a rank's part of a piece is in its tensor.

use std::ops::Range;

use trefoil_kernels::cpu::{PackError, RowPick, SourceType, WeightRows};

use super::Rank;
use super::layout::{Entry, Kind, ResolvedPiece};
use crate::model::{Part, Slice};

/// How a tensor lies in its file and what of it is read. A vector is a matrix of one column.
#[derive(Debug)]
pub(super) struct Form {
    is_vector: bool,
    transposed: bool,
    /// The expert that is read and how many there are, where the tensor holds those of all.
    stacked: Option<(usize, usize)>,
    /// Rows of the whole tensor, of one expert.
    total_rows: usize,
    total_columns: usize,
    rows: usize,
    pick: RowPick,
    columns: Range<usize>,
}

impl Form {
    /// What `rank` reads for a piece.
    pub(super) fn new(entry: &Entry, piece: &ResolvedPiece, rank: Rank) -> Self {
        let is_vector = entry.kind == Kind::Vector;
        let (rows, columns) = if is_vector { (piece.columns, 1) } else { (piece.rows, piece.columns) };
        let along_rows = rank.along(entry.part == if is_vector { Part::Columns } else { Part::Rows });
        let along_columns = rank.along(entry.part == Part::Columns && !is_vector);
        let first_column = along_columns.number * columns;
        Self {
            is_vector,
            transposed: piece.transposed && !is_vector,
            stacked: piece.stacked,
            total_rows: piece.slice.map_or(rows * along_rows.num_ranks, |slice| slice.of),
            total_columns: columns * along_columns.num_ranks,
            rows,
            pick: pick(piece.slice, rows, along_rows),
            columns: first_column..first_column + columns,
        }
    }

    /// The shape of the tensor in the file.
    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape: Vec<usize> = self.stacked.map(|(_, experts)| experts).into_iter().collect();
        match (self.is_vector, self.transposed) {
            (true, _) => shape.push(self.total_rows),
            (false, false) => shape.extend([self.total_rows, self.total_columns]),
            (false, true) => shape.extend([self.total_columns, self.total_rows]),
        }
        shape
    }

    /// Why the rows that are read are not among the tensor's. The graph and the configuration are to blame for it.
    pub(super) fn misfit(&self) -> Option<String> {
        let RowPick { from, take, every } = self.pick;
        let (rows, total) = (self.rows, self.total_rows);
        if rows == 0 {
            return None;
        }
        let group = if take == every { rows } else { take };
        if group == 0 || take > every || rows % group != 0 {
            return Some(format!("{rows} rows cannot be made of {take} out of each {every}"));
        }
        let end = (rows / group - 1).saturating_mul(every).saturating_add(group).saturating_add(from);
        (end > total).then(|| format!("{rows} rows from row {from} on end at row {end}, but it has {total}"))
    }

    /// The rows that are read, where `bytes` are those of the whole tensor.
    pub(super) fn rows<'a>(&self, bytes: &'a [u8], element: SourceType) -> Result<WeightRows<'a>, PackError> {
        let bytes = self.stacked.map_or(bytes, |(expert, experts)| {
            let own = bytes.len() / experts.max(1);
            &bytes[expert * own..(expert + 1) * own]
        });
        let new = if self.transposed { WeightRows::transposed } else { WeightRows::new };
        let all = new(bytes, element, self.total_rows, self.total_columns)?;
        Ok(all.picked(self.rows, self.pick)?.columns(self.columns.clone()))
    }
}

/// The place in the tensor of the rank's rows; see [`Slice`].
fn pick(slice: Option<Slice>, rows: usize, rank: Rank) -> RowPick {
    match slice {
        None => RowPick::stretch(rank.number * rows),
        Some(Slice { from, take, every, .. }) if take == every => RowPick::stretch(from + rank.number * rows),
        Some(Slice { from, take, every, .. }) => {
            let groups = rows.checked_div(take).unwrap_or(0);
            RowPick { from: from + rank.number * groups * every, take, every }
        }
    }
}
