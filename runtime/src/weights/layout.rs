//! Which tensors each weight of the table is made of, with equal ones found only once.

use std::collections::HashMap;

use crate::model::{Part, Piece, WeightRole, WeightSpec};

/// The weight table with its names resolved.
#[derive(Debug)]
pub(super) struct Layout {
    /// The distinct weights.
    pub(super) entries: Vec<Entry>,
    /// By weight, then by layer: an index into `entries`.
    pub(super) table: Vec<Vec<Option<usize>>>,
}

/// A distinct weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) is_vector: bool,
    pub(super) columns: usize,
    pub(super) part: Part,
    /// Stacked along rows.
    pub(super) pieces: Vec<ResolvedPiece>,
}

/// A tensor by its name in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ResolvedPiece {
    pub(super) tensor: String,
    pub(super) rows: usize,
}

impl Entry {
    pub(super) fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }
}

impl Layout {
    /// `choose` picks between a tensor and the one it may be tied to.
    pub(super) fn new(specs: &[WeightSpec], choose: impl for<'a> Fn(&'a str, &'a str) -> &'a str) -> Self {
        let (mut entries, mut found) = (Vec::new(), HashMap::new());
        let mut index_of = |entry: Entry| {
            *found.entry(entry).or_insert_with_key(|entry| {
                entries.push(entry.clone());
                entries.len() - 1
            })
        };
        let mut table = Vec::new();
        for spec in specs {
            let mut by_layer = vec![None; num_places(spec)];
            for layer in layers(spec) {
                by_layer[layer] = Some(index_of(resolve(spec, layer, &choose)));
            }
            table.push(by_layer);
        }
        Self { entries, table }
    }
}

/// The layers that have the weight; 0 stands for the whole model.
pub(super) fn layers(spec: &WeightSpec) -> impl Iterator<Item = usize> {
    spec.layers.as_deref().unwrap_or(&[0]).iter().copied()
}

/// A tensor's name in one layer.
pub(super) fn name_in_layer(template: &str, layer: usize) -> String {
    template.replace("{layer}", &layer.to_string())
}

fn num_places(spec: &WeightSpec) -> usize {
    layers(spec).max().map_or(0, |last| last + 1)
}

fn resolve(spec: &WeightSpec, layer: usize, choose: impl for<'a> Fn(&'a str, &'a str) -> &'a str) -> Entry {
    let piece = |piece: &Piece| {
        let own = name_in_layer(&piece.tensor, layer);
        let tied = piece.tied.as_deref().map(|tied| name_in_layer(tied, layer));
        let tensor = tied.map_or(own.clone(), |tied| choose(&own, &tied).to_owned());
        ResolvedPiece { tensor, rows: piece.rows }
    };
    Entry {
        is_vector: matches!(spec.role, WeightRole::Vector),
        columns: spec.columns,
        part: spec.part,
        pieces: spec.pieces.iter().map(piece).collect(),
    }
}
