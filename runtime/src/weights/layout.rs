//! Which tensors each weight of the table is made of, with equal ones found only once.

use std::collections::HashMap;

use crate::model::{Part, Piece, Slice, WeightRole, WeightSpec};

/// The weight table with its names resolved.
#[derive(Debug)]
pub(super) struct Layout {
    /// The distinct weights.
    pub(super) entries: Vec<Entry>,
    /// By weight, then by layer: an index into `entries`. A layer that lacks the weight has none.
    pub(super) table: Vec<Vec<Option<usize>>>,
}

/// A distinct weight of a layer, or of the whole model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) columns: usize,
    pub(super) part: Part,
    /// By expert, one for a weight that is not of experts; of each, matrices one below the other, vectors end to end.
    pub(super) experts: Vec<Vec<ResolvedPiece>>,
}

/// What a weight becomes. Matrices and lookup tables become the same, so that tied ones can be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Matrix,
    ExpertMatrices,
    /// A vector, or those of all experts end to end.
    Vector,
}

/// A tensor by its name in the checkpoint, and what is read of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ResolvedPiece {
    pub(super) tensor: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) transposed: bool,
    pub(super) slice: Option<Slice>,
    /// The bits of what is added to each element: bits can be compared.
    plus_bits: u32,
    /// The expert and how many there are, where the tensor holds those of all.
    pub(super) stacked: Option<(usize, usize)>,
}

impl ResolvedPiece {
    /// What is added to each element.
    pub(super) fn plus(&self) -> f32 {
        f32::from_bits(self.plus_bits)
    }
}

impl Entry {
    /// The tensors of all experts.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &ResolvedPiece> {
        self.experts.iter().flatten()
    }

    /// Rows of its matrix, or of one expert's.
    pub(super) fn rows(&self) -> usize {
        self.experts.first().map_or(0, |pieces| pieces.iter().map(|piece| piece.rows).sum())
    }
}

impl Layout {
    /// `prefix` stands before all names. `is_tied` says of a tensor that may be tied to another whether it is.
    pub(super) fn new(specs: &[WeightSpec], prefix: &str, is_tied: impl Fn(&str) -> bool) -> Self {
        let (mut entries, mut found) = (Vec::new(), HashMap::new());
        let mut index_of = |entry: Entry| {
            *found.entry(entry).or_insert_with_key(|entry| {
                entries.push(entry.clone());
                entries.len() - 1
            })
        };
        let mut table = Vec::new();
        for spec in specs {
            let mut by_layer = vec![None; layers(spec).max().map_or(0, |last| last + 1)];
            for layer in layers(spec) {
                by_layer[layer] = Some(index_of(resolve(spec, layer, prefix, &is_tied)));
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
    /// A tensor's name there, without the prefix.
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

fn resolve(spec: &WeightSpec, layer: usize, prefix: &str, is_tied: impl Fn(&str) -> bool) -> Entry {
    let piece = |piece: &Piece, expert| {
        let name = |template: &str| format!("{prefix}{}", Place { layer, expert }.name(template));
        let own = name(&piece.tensor);
        let tied = piece.tied.as_deref().filter(|_| is_tied(&own)).map(name);
        ResolvedPiece {
            tensor: tied.unwrap_or(own),
            rows: piece.rows,
            columns: piece.columns,
            transposed: piece.stored.transposed,
            slice: piece.stored.slice,
            plus_bits: piece.stored.plus.to_bits(),
            stacked: spec.experts.filter(|_| !piece.tensor.contains("{expert}")).map(|experts| (expert, experts)),
        }
    };
    Entry {
        kind: match spec.role {
            WeightRole::Matrix | WeightRole::Table => Kind::Matrix,
            WeightRole::Experts => Kind::ExpertMatrices,
            WeightRole::Vector | WeightRole::ExpertVectors => Kind::Vector,
        },
        columns: spec.columns,
        part: spec.part,
        experts: (0..spec.experts.unwrap_or(1))
            .map(|expert| spec.pieces.iter().map(|own| piece(own, expert)).collect())
            .collect(),
    }
}
