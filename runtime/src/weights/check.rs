//! Compares what the checkpoint holds with what the model needs.

use std::collections::{BTreeSet, HashSet};

use safetensors::Dtype;
use trefoil_kernels::cpu::SourceType;

use super::form::Form;
use super::layout::{Entry, Layout, places};
use super::shards::{Shards, Tensor};
use super::{LoadOptions, WeightFault, WeightsError, grouped, names, quantised};
use crate::model::WeightSpec;
use crate::similar::most_similar;

/// Tensors that some exporters write and no model reads: constants that follow from the configuration.
const HARMLESS: [&str; 3] = ["rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];

/// A checkpoint and what is needed of it.
pub(super) struct Check<'a> {
    pub(super) shards: &'a Shards,
    pub(super) layout: &'a Layout,
    pub(super) specs: &'a [WeightSpec],
    pub(super) prefix: &'a str,
    pub(super) options: LoadOptions<'a>,
}

impl Check<'_> {
    /// The names of the tensors that the model neither reads nor ignores, if all that it needs are there and usable and
    /// such tensors are allowed.
    pub(super) fn run(&self) -> Result<Vec<String>, WeightsError> {
        let mut unused = self.unused();
        // Several pieces may be parts of one tensor, which is at fault once.
        let (mut faults, mut seen) = (Vec::new(), HashSet::new());
        for entry in &self.layout.entries {
            for piece in entry.pieces().filter(|piece| piece.stacked.is_none_or(|(expert, _)| expert == 0)) {
                let own = match self.shards.get(&piece.tensor) {
                    None => vec![self.absent(&piece.tensor, &mut unused)],
                    Some(tensor) => {
                        let form = Form::new(entry, piece, self.options.rank);
                        tensor_faults(self.shards, &piece.tensor, tensor, &form)
                    }
                };
                faults.extend(own.into_iter().filter(|fault| seen.insert(fault.clone())));
            }
        }
        if !self.options.ignore_extra {
            let extra = grouped(unused.iter().map(String::as_str)).into_iter();
            faults.extend(extra.map(|(tensors, num_tensors)| WeightFault::Extra { tensors, num_tensors }));
        }
        if faults.is_empty() { Ok(unused) } else { Err(WeightsError { dir: self.shards.dir.clone(), faults }) }
    }

    /// A tensor that is named but replaced by the one it is tied to counts as used. If the configuration says so, it does
    /// without the prefix too: exporters write the head beside the body that has it.
    fn unused(&self) -> Vec<String> {
        let mut known: BTreeSet<String> =
            self.layout.entries.iter().flat_map(Entry::pieces).map(|piece| piece.tensor.clone()).collect();
        for spec in self.specs {
            for piece in &spec.pieces {
                for name in places(spec).map(|place| place.name(&piece.tensor)) {
                    known.insert(format!("{}{name}", self.prefix));
                    if piece.tied.is_some() && self.options.tied {
                        known.insert(name);
                    }
                }
            }
        }
        let is_unused = |name: &&str| {
            let is_harmless = HARMLESS.iter().any(|end| name.ends_with(end));
            !known.contains(*name) && !is_harmless && !names::is_ignored(name, self.prefix, self.options.names)
        };
        self.shards.names().filter(is_unused).map(str::to_owned).collect()
    }

    /// What is wrong where a tensor is not there. The parts of a quantised one are then no longer among `unused`.
    fn absent(&self, tensor: &str, unused: &mut Vec<String>) -> WeightFault {
        let parts: Vec<String> = quantised::parts(tensor).filter(|part| self.shards.has(part)).collect();
        let Some(first) = parts.first().and_then(|first| self.shards.get(first)) else {
            let without_prefix = tensor.strip_prefix(self.prefix).filter(|name| unused.iter().any(|own| own == name));
            let similar = without_prefix.or_else(|| most_similar(tensor, unused.iter().map(String::as_str)));
            return WeightFault::Missing { tensor: tensor.to_owned(), similar: similar.map(str::to_owned) };
        };
        unused.retain(|name| !parts.contains(name));
        let parts: Vec<_> = parts.iter().map(|part| format!("`{part}`")).collect();
        let file = self.shards.files[first.shard].name.clone();
        WeightFault::Quantised { tensor: tensor.to_owned(), file, parts: parts.join(" and ") }
    }
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

fn tensor_faults(shards: &Shards, name: &str, tensor: &Tensor, form: &Form) -> Vec<WeightFault> {
    let (name, file) = (name.to_owned(), shards.files[tensor.shard].name.clone());
    let expected = form.shape();
    let mut faults = Vec::new();
    if tensor.shape != expected {
        let (tensor, file, found) = (name.clone(), file.clone(), tensor.shape.clone());
        faults.push(WeightFault::Shape { tensor, file, found, expected });
    }
    if let Some(what) = form.misfit() {
        faults.push(WeightFault::Misfit { tensor: name.clone(), what });
    }
    if source_type(tensor.dtype).is_none() {
        faults.push(WeightFault::Dtype { tensor: name, file, found: format!("{:?}", tensor.dtype) });
    }
    faults
}
