//! Compares what the checkpoint holds with what the model needs.

use std::collections::{BTreeSet, HashMap};
use std::mem;

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
    pub(super) fn run(&self) -> Result<BTreeSet<String>, WeightsError> {
        let mut unused = self.unused();
        let mut faults = Vec::new();
        for entry in &self.layout.entries {
            // Experts that share a tensor need the same of it.
            for piece in entry.pieces().filter(|piece| piece.stacked.is_none_or(|(expert, _)| expert == 0)) {
                match self.shards.get(&piece.tensor) {
                    None => faults.push(self.absent(&piece.tensor, &mut unused)),
                    Some(tensor) => {
                        let form = Form::new(entry, piece, self.options.rank);
                        if source_type(tensor.dtype).is_none() {
                            forget_parts(&piece.tensor, &mut unused);
                        }
                        faults.extend(tensor_faults(self.shards, &piece.tensor, tensor, &form));
                    }
                }
            }
        }
        let extra = grouped(unused.iter().map(String::as_str));
        let mut faults = together(faults);
        faults.iter_mut().for_each(|fault| self.suggest(fault, &extra));
        if !self.options.ignore_extra {
            let extra = extra.into_iter();
            faults.extend(extra.map(|(tensors, num_tensors)| WeightFault::Extra { tensors, num_tensors }));
        }
        if faults.is_empty() { Ok(unused) } else { Err(WeightsError { dir: self.shards.dir.clone(), faults }) }
    }

    /// A tensor that is named but replaced by the one it is tied to counts as used. If the configuration says so, it does
    /// without the prefix too: exporters write the head beside the body that has it.
    fn unused(&self) -> BTreeSet<String> {
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
        let num_layers = names::num_layers(self.specs);
        let is_unused = |name: &&str| {
            let is_harmless = HARMLESS.iter().any(|end| name.ends_with(end));
            !known.contains(*name)
                && !is_harmless
                && !names::is_ignored(name, self.prefix, self.options.names, num_layers)
        };
        self.shards.names().filter(is_unused).map(str::to_owned).collect()
    }

    /// What is wrong where a tensor is not there. The parts of a quantised one are then no longer among `unused`.
    fn absent(&self, tensor: &str, unused: &mut BTreeSet<String>) -> WeightFault {
        let tensor = tensor.to_owned();
        let is_part = |end: &&str| self.shards.has(&quantised::part(&tensor, end));
        let ends: Vec<&str> = quantised::ENDS.into_iter().filter(is_part).collect();
        let first = ends.first().and_then(|end| self.shards.get(&quantised::part(&tensor, end)));
        let Some(first) = first else { return WeightFault::Missing { tensor, similar: None } };
        forget_parts(&tensor, unused);
        let file = self.shards.files[first.shard].name.clone();
        let ends: Vec<_> = ends.iter().map(|end| format!("`{end}`")).collect();
        WeightFault::Quantised { tensor, file, ends: ends.join(", ") }
    }

    /// Names a tensor that may be meant by one that is missing: the same without the prefix, or a similar one.
    fn suggest(&self, fault: &mut WeightFault, extra: &[(String, usize)]) {
        let WeightFault::Missing { tensor, similar } = fault else { return };
        let names = || extra.iter().map(|(name, _)| name.as_str());
        let without_prefix = tensor.strip_prefix(self.prefix).filter(|bare| names().any(|name| name == *bare));
        *similar = without_prefix.or_else(|| most_similar(tensor, names())).map(str::to_owned);
    }
}

/// What belongs to a quantised tensor, which is at fault by itself, is not a fault of its own.
fn forget_parts(tensor: &str, unused: &mut BTreeSet<String>) {
    for end in quantised::ENDS {
        unused.remove(&quantised::part(tensor, end));
    }
}

/// Faults that differ in the numbers of their tensors' names as one: many layers share one fault.
fn together(faults: Vec<WeightFault>) -> Vec<WeightFault> {
    let mut kinds: HashMap<WeightFault, usize> = HashMap::new();
    let mut all: Vec<(WeightFault, BTreeSet<String>)> = Vec::new();
    for mut fault in faults {
        let tensor = fault.tensor_mut().map(mem::take);
        let index = *kinds.entry(fault).or_insert_with_key(|fault| {
            all.push((fault.clone(), BTreeSet::new()));
            all.len() - 1
        });
        all[index].1.extend(tensor);
    }
    let named = |fault: &WeightFault, name: String| {
        let mut fault = fault.clone();
        if let Some(tensor) = fault.tensor_mut() {
            *tensor = name;
        }
        fault
    };
    let groups = |(fault, tensors): &(WeightFault, BTreeSet<String>)| {
        let names = grouped(tensors.iter().map(String::as_str)).into_iter();
        names.map(|(name, _)| named(fault, name)).collect::<Vec<_>>()
    };
    all.iter().flat_map(groups).collect()
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
