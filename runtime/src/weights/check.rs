//! Compares what the checkpoint holds with what the model needs.

use std::collections::BTreeSet;

use safetensors::Dtype;
use trefoil_kernels::cpu::SourceType;

use super::layout::{Entry, Layout, ResolvedPiece, places};
use super::shards::{Shards, Tensor};
use super::{Rank, WeightFault, WeightsError};
use crate::model::{Part, WeightSpec};
use crate::similar::most_similar;

/// Tensors that some exporters write and no model reads: constants that follow from the configuration.
const HARMLESS: [&str; 3] = ["rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];

/// The names of the tensors that the model does not use, if all that it needs are there and usable.
pub(super) fn check(
    shards: &Shards,
    layout: &Layout,
    specs: &[WeightSpec],
    rank: Rank,
) -> Result<Vec<String>, WeightsError> {
    let unused = unused(shards, layout, specs);
    let faults: Vec<_> = layout.entries.iter().flat_map(|entry| entry_faults(shards, entry, rank, &unused)).collect();
    if faults.is_empty() { Ok(unused) } else { Err(WeightsError { dir: shards.dir.clone(), faults }) }
}

/// How the kernels read a tensor of this type.
pub(super) fn source_type(dtype: Dtype) -> Option<SourceType> {
    match dtype {
        Dtype::BF16 => Some(SourceType::Bf16),
        Dtype::F16 => Some(SourceType::F16),
        Dtype::F32 => Some(SourceType::F32),
        _ => None,
    }
}

/// A tensor that is named but replaced by the one it is tied to counts as used.
fn unused(shards: &Shards, layout: &Layout, specs: &[WeightSpec]) -> Vec<String> {
    let used = layout.entries.iter().flat_map(|entry| &entry.pieces).map(|piece| piece.tensor.clone());
    let named = specs.iter().flat_map(|spec| {
        spec.pieces.iter().flat_map(move |piece| places(spec).map(move |place| place.name(&piece.tensor)))
    });
    let known: BTreeSet<String> = used.chain(named).collect();
    let is_unused = |name: &&str| !known.contains(*name) && !HARMLESS.iter().any(|end| name.ends_with(end));
    shards.names().filter(is_unused).map(str::to_owned).collect()
}

fn entry_faults(shards: &Shards, entry: &Entry, rank: Rank, unused: &[String]) -> Vec<WeightFault> {
    let mut faults = Vec::new();
    let mut found = Vec::new();
    for piece in &entry.pieces {
        match shards.get(&piece.tensor) {
            None => faults.push(WeightFault::Missing {
                tensor: piece.tensor.clone(),
                similar: most_similar(&piece.tensor, unused.iter().map(String::as_str)).map(str::to_owned),
            }),
            Some(tensor) => found.push((piece.tensor.as_str(), tensor, expected_shape(entry, piece, rank))),
        }
    }
    for (name, tensor, expected) in found {
        faults.extend(tensor_faults(shards, name, tensor, expected));
    }
    faults
}

/// The shape that a tensor has when it holds the stretches of all ranks.
fn expected_shape(entry: &Entry, piece: &ResolvedPiece, rank: Rank) -> Vec<usize> {
    let rows = piece.rows * rank.num_stretches(entry.part == Part::Rows);
    let columns = piece.columns * rank.num_stretches(entry.part == Part::Columns);
    if entry.is_vector { vec![columns] } else { vec![rows, columns] }
}

fn tensor_faults(shards: &Shards, name: &str, tensor: &Tensor, expected: Vec<usize>) -> Vec<WeightFault> {
    let (name, file) = (name.to_owned(), shards.files[tensor.shard].name.clone());
    let mut faults = Vec::new();
    if tensor.shape != expected {
        let (tensor, file, found) = (name.clone(), file.clone(), tensor.shape.clone());
        faults.push(WeightFault::Shape { tensor, file, found, expected });
    }
    if source_type(tensor.dtype).is_none() {
        faults.push(WeightFault::Dtype { tensor: name, file, found: format!("{:?}", tensor.dtype) });
    }
    faults
}
