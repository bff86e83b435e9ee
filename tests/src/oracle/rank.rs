//! What one rank has computed so far, row by row.

use std::collections::BTreeMap;
use std::ops::Range as Rows;

use trefoil_ir::graph::{Graph, Point, Range};
use trefoil_ir::ids::{CacheId, Id, ValueId};

use super::matrix::Matrix;

/// A rank.
pub(super) struct Rank {
    /// Its number among all, from 0.
    pub(super) number: usize,
    /// The layer it is in.
    pub(super) layer: usize,
    /// The rows at which the batch is cut, with its beginning and end.
    cuts: Vec<usize>,
    values: BTreeMap<ValueId, Matrix>,
    caches: BTreeMap<(CacheId, usize), (Matrix, Matrix)>,
}

impl Rank {
    pub(super) fn new(number: usize, cuts: Vec<usize>) -> Self {
        Self { number, layer: 0, cuts, values: BTreeMap::new(), caches: BTreeMap::new() }
    }

    /// The rows of a range; all of them without one.
    pub(super) fn rows(&self, range: Option<Range>) -> Rows<usize> {
        let whole = 0..self.cuts[self.cuts.len() - 1];
        range.map_or(whole, |range| self.cuts[range.from.index()]..self.cuts[range.to.index()])
    }

    /// Rows of a value.
    pub(super) fn value(&self, id: ValueId, rows: Rows<usize>) -> Matrix {
        self.values[&id].stretch(rows)
    }

    /// All rows of a value.
    pub(super) fn whole(&self, id: ValueId) -> Matrix {
        self.values[&id].clone()
    }

    /// Gives a value's rows from `first` on.
    pub(super) fn give(&mut self, id: ValueId, first: usize, rows: Matrix) {
        let num_rows = self.cuts[self.cuts.len() - 1];
        self.values.entry(id).or_insert_with(|| Matrix::missing(num_rows, rows.num_columns())).put(first, &rows);
    }

    /// Drops the values that `is_old` says.
    pub(super) fn forget(&mut self, is_old: impl Fn(ValueId) -> bool) {
        self.values.retain(|id, _| !is_old(*id));
    }

    /// Keeps keys and values of rows from `first` on in this layer's cache.
    pub(super) fn keep(&mut self, cache: CacheId, first: usize, k: Matrix, v: Matrix) {
        let empty = || (Matrix::missing(0, k.num_columns()), Matrix::missing(0, v.num_columns()));
        let (keys, values) = self.caches.entry((cache, self.layer)).or_insert_with(empty);
        keys.put(first, &k);
        values.put(first, &v);
    }

    /// Keys and values of this layer's cache.
    pub(super) fn kept(&self, cache: CacheId) -> (&Matrix, &Matrix) {
        let (keys, values) = &self.caches[&(cache, self.layer)];
        (keys, values)
    }
}

/// Where the graph cuts a batch of so many prefill rows.
pub(super) fn cuts(graph: &Graph, num_rows: usize) -> Vec<usize> {
    let Some(split) = &graph.split else { return vec![0, num_rows] };
    let mut cuts = vec![0];
    for point in &split.points {
        let row = match *point {
            Point::Share(share) => (num_rows as f64 * f64::from(share)).floor() as usize,
            Point::Tokens(tokens) => tokens as usize,
            Point::DecodeShare(_) => 0,
        };
        let before = cuts[cuts.len() - 1];
        let multiple = split.multiple_of as usize;
        cuts.push((row / multiple * multiple).clamp(before, num_rows));
    }
    cuts.push(num_rows);
    cuts
}
