//! A checkpoint's tensors as f64, read without the runtime's loader.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use trefoil_ir::bind::Bound;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Piece, Weight, WeightRole};

use super::sizes;
use super::weights::place_numbers;
use crate::random::Random;

/// Tensors by name; shapes are the graph's business.
#[derive(Debug, Default)]
pub struct Tensors(BTreeMap<String, Vec<f64>>);

impl Tensors {
    /// All tensors of every `*.safetensors` file of a folder whose name passes `accept`.
    ///
    /// # Panics
    /// On files that cannot be read: this is a test's tool.
    pub fn of_folder(folder: &Path, accept: impl Fn(&str) -> bool) -> Self {
        let mut tensors = Self::default();
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder's entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".safetensors") && accept(&name) {
                tensors.read(&path);
            }
        }
        tensors
    }

    /// Made-up tensors for a whole model, of about the size that keeps activations near 1, under the graph's first prefix.
    ///
    /// # Panics
    /// If the graph does not serve the configuration.
    pub fn random(graph: &Graph, config: &Value, random: &mut Random) -> Self {
        let bound = sizes(graph, config);
        let prefix = graph.prefixes.first().cloned().unwrap_or_default();
        let mut tensors = Self::default();
        for (weight, piece) in graph.weights.values().flat_map(|weight| weight.pieces.iter().map(move |p| (weight, p)))
        {
            let (elements, columns) = elements(&bound, weight, piece);
            let scale = 1.0 / (columns as f64).sqrt();
            for name in names(&bound, weight, piece) {
                let mut element = || (random.below(2001) as f64 / 1000.0 - 1.0) * scale;
                let fresh = || (0..elements).map(|_| element()).collect::<Vec<_>>();
                // Other weights may be made of other rows of the same tensor.
                let own = tensors.0.entry(format!("{prefix}{name}")).or_insert_with(fresh);
                assert_eq!(own.len(), elements, "two weights disagree on the size of {name}");
            }
        }
        tensors
    }

    /// Of `prefixes`, the one under which there are most tensors that the graph reads, the first among equals.
    pub(super) fn prefix(&self, graph: &Graph, bound: &Bound) -> String {
        let pieces = graph.weights.values().flat_map(|weight| weight.pieces.iter().map(move |piece| (weight, piece)));
        let names: Vec<String> = pieces.flat_map(|(weight, piece)| names(bound, weight, piece)).collect();
        let num_found = |prefix: &str| names.iter().filter(|name| self.has(&format!("{prefix}{name}"))).count();
        let mut best = ("", num_found(""));
        for (number, prefix) in graph.prefixes.iter().enumerate() {
            let found = num_found(prefix);
            if number == 0 || found > best.1 {
                best = (prefix, found);
            }
        }
        best.0.to_owned()
    }

    fn read(&mut self, path: &Path) {
        let bytes = std::fs::read(path).expect("a readable file");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        for (name, view) in file.tensors() {
            self.0.insert(name, widen(view.dtype(), view.data()));
        }
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A tensor's elements.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn get(&self, name: &str) -> &[f64] {
        self.0.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// All tensors by name.
    pub fn iter(&self) -> impl Iterator<Item = (String, Vec<f64>)> + '_ {
        self.0.iter().map(|(name, elements)| (name.clone(), elements.clone()))
    }
}

impl FromIterator<(String, Vec<f64>)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Vec<f64>)>>(tensors: I) -> Self {
        Self(tensors.into_iter().collect())
    }
}

/// The names that a checkpoint has of a piece, without a prefix: of all its layers, of all experts.
fn names(bound: &Bound, weight: &Weight, piece: &Piece) -> Vec<String> {
    let all = bound.repeats.iter().flatten().enumerate();
    let layers: Vec<usize> = match weight.block {
        Some(block) => all.filter(|(_, own)| **own == block).map(|(layer, _)| layer).collect(),
        None => vec![0],
    };
    let is_of_each = piece.tensor.contains("{expert}");
    let experts = weight.experts.as_ref().filter(|_| is_of_each).map_or(1, |experts| size(bound, experts));
    let names = layers.into_iter().flat_map(|layer| (0..experts).map(move |expert| (layer, expert)));
    names.map(|(layer, expert)| place_numbers(&piece.tensor, layer, expert)).collect()
}

/// How many elements the checkpoint's tensor of a piece has, and how many of them a row has as it is read.
fn elements(bound: &Bound, weight: &Weight, piece: &Piece) -> (usize, usize) {
    let of = piece.stored.slice.as_ref().map(|slice| size(bound, &slice.of));
    let (rows, columns) = (size(bound, &piece.rows), size(bound, &piece.columns));
    let (elements, columns) = match weight.role {
        WeightRole::Vector | WeightRole::ExpertVectors => (of.unwrap_or(columns), columns),
        WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => (of.unwrap_or(rows) * columns, columns),
    };
    let is_stacked = !piece.tensor.contains("{expert}");
    let stacked = weight.experts.as_ref().filter(|_| is_stacked).map_or(1, |experts| size(bound, experts));
    (stacked * elements, columns)
}

fn size(bound: &Bound, dim: &Dim) -> usize {
    bound.size(dim).unwrap_or_else(|| panic!("{dim} has no size")) as usize
}

fn widen(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match dtype {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]).into()).collect()
        }
        Dtype::BF16 => pairs().map(|pair| bf16::from_le_bytes(pair).into()).collect(),
        Dtype::F16 => pairs().map(|pair| f16::from_le_bytes(pair).into()).collect(),
        // Masks and positions that models keep beside their weights.
        Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL => Vec::new(),
        other => panic!("the oracle does not read {other:?}"),
    }
}
