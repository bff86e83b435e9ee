//! A checkpoint's tensors as f64, read without the runtime's loader.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;

use super::sizes;
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

    /// Made-up tensors for a whole model, of about the size that keeps activations near 1.
    ///
    /// # Panics
    /// If the graph does not serve the configuration.
    pub fn random(graph: &Graph, config: &Value, random: &mut Random) -> Self {
        let bound = sizes(graph, config);
        let size = |dim: &Dim| bound.size(dim).unwrap_or_else(|| panic!("{dim} has no size")) as usize;
        let most_layers = bound.dims.get("layers").map_or(1, |layers| *layers as usize);
        let mut tensors = Self::default();
        for weight in graph.weights.values() {
            for (piece, layer) in
                weight.pieces.iter().flat_map(|piece| (0..most_layers).map(move |layer| (piece, layer)))
            {
                let (rows, columns) = (size(&piece.rows), size(&weight.columns));
                let scale = 1.0 / (columns as f64).sqrt();
                let mut element = || (random.below(2001) as f64 / 1000.0 - 1.0) * scale;
                let elements = (0..rows * columns).map(|_| element()).collect();
                tensors.0.insert(piece.tensor.replace("{layer}", &layer.to_string()), elements);
            }
        }
        tensors
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
}

fn widen(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match dtype {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]).into()).collect()
        }
        Dtype::BF16 => pairs().map(|pair| bf16::from_le_bytes(pair).into()).collect(),
        Dtype::F16 => pairs().map(|pair| f16::from_le_bytes(pair).into()).collect(),
        Dtype::I64 => Vec::new(),
        other => panic!("the oracle does not read {other:?}"),
    }
}
