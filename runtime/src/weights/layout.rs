//! Which tensors each weight of the table is made of, with equal ones found only once.

use std::collections::HashMap;

use crate::model::{Part, Piece, WeightRole, WeightSpec};

/// The weight table with its names resolved.
#[derive(Debug)]
pub(super) struct Layout {
    /// The distinct weights.
    pub(super) entries: Vec<Entry>,
    /// By weight, then by layer, then by expert: an index into `entries`. A layer that lacks the weight has none, and a
    /// weight that is not of experts one.
    pub(super) table: Vec<Vec<Vec<usize>>>,
}

/// A distinct weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) is_vector: bool,
    pub(super) columns: usize,
    pub(super) part: Part,
    /// Matrices one below the other, vectors end to end.
    pub(super) pieces: Vec<ResolvedPiece>,
}

/// A tensor by its name in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ResolvedPiece {
    pub(super) tensor: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
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
            let mut by_layer = vec![vec![]; layers(spec).max().map_or(0, |last| last + 1)];
            for place in places(spec) {
                by_layer[place.layer].push(index_of(resolve(spec, place, &choose)));
            }
            table.push(by_layer);
        }
        Self { entries, table }
    }
}

/// A layer, and one of the experts there; 0 stands for the whole model, and for what is not of experts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    layer: usize,
    expert: usize,
}

impl Place {
    /// A tensor's name there.
    pub(super) fn name(self, template: &str) -> String {
        template.replace("{layer}", &self.layer.to_string()).replace("{expert}", &self.expert.to_string())
    }
}

/// Where the weight is, in order of layers and experts.
pub(super) fn places(spec: &WeightSpec) -> impl Iterator<Item = Place> {
    layers(spec).flat_map(|layer| (0..spec.experts.unwrap_or(1)).map(move |expert| Place { layer, expert }))
}

fn layers(spec: &WeightSpec) -> impl Iterator<Item = usize> {
    spec.layers.as_deref().unwrap_or(&[0]).iter().copied()
}

fn resolve(spec: &WeightSpec, place: Place, choose: impl for<'a> Fn(&'a str, &'a str) -> &'a str) -> Entry {
    let piece = |piece: &Piece| {
        let own = place.name(&piece.tensor);
        let tied = piece.tied.as_deref().map(|tied| place.name(tied));
        let tensor = tied.map_or(own.clone(), |tied| choose(&own, &tied).to_owned());
        ResolvedPiece { tensor, rows: piece.rows, columns: piece.columns }
    };
    Entry {
        is_vector: matches!(spec.role, WeightRole::Vector | WeightRole::ExpertVectors),
        columns: spec.columns,
        part: spec.part,
        pieces: spec.pieces.iter().map(piece).collect(),
    }
}
