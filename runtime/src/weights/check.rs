//! Compares what the checkpoint holds with what the model needs.

use std::collections::BTreeSet;

use safetensors::Dtype;
use trefoil_kernels::cpu::SourceType;

use super::layout::{Entry, Layout, layers, name_in_layer};
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
        spec.pieces.iter().flat_map(move |piece| layers(spec).map(move |layer| name_in_layer(&piece.tensor, layer)))
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
            Some(tensor) => {
                found.push((piece.tensor.as_str(), tensor, expected_shape(entry, piece.rows, rank, tensor)))
            }
        }
    }
    faults.extend(vector_length_fault(shards, entry, rank, &found));
    for (name, tensor, expected) in found {
        faults.extend(tensor_faults(shards, name, tensor, expected));
    }
    faults
}

/// Several vectors in a row (the biases of fused projections) are free to divide the length among them; that each has
/// one axis, and a stretch for every rank, is all that can be asked of one of them.
fn expected_shape(entry: &Entry, rows: usize, rank: Rank, tensor: &Tensor) -> Vec<usize> {
    let columns = whole_columns(entry, rank);
    match (entry.is_vector, entry.pieces.len()) {
        (false, _) => vec![rows * rank.num_stretches(entry.part == Part::Rows), columns],
        (true, 1) => vec![columns],
        (true, _) => {
            let stretches = rank.num_stretches(entry.part == Part::Columns);
            vec![tensor.shape.iter().product::<usize>() / stretches * stretches]
        }
    }
}

/// Columns of all ranks together.
fn whole_columns(entry: &Entry, rank: Rank) -> usize {
    entry.columns * rank.num_stretches(entry.part == Part::Columns)
}

/// Whether the parts of a vector add up to its length.
fn vector_length_fault(
    shards: &Shards,
    entry: &Entry,
    rank: Rank,
    found: &[(&str, &Tensor, Vec<usize>)],
) -> Option<WeightFault> {
    let is_whole = entry.is_vector && entry.pieces.len() > 1 && found.len() == entry.pieces.len();
    let expected = whole_columns(entry, rank);
    let length: usize = found.iter().flat_map(|(_, _, shape)| shape).sum();
    let (name, tensor, _) = found.first().filter(|_| is_whole && length != expected)?;
    Some(WeightFault::Shape {
        tensor: format!("{name} and {} more, joined", found.len() - 1),
        file: shards.files[tensor.shard].name.clone(),
        found: vec![length],
        expected: vec![expected],
    })
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
