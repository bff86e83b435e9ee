//! What a model occupies, and how large a batch the memory that is left can serve.

use std::fmt;

use trefoil_ir::bind::Bound;
use trefoil_ir::graph::{Cache, Graph, Weight};
use trefoil_ir::ids::WeightId;
use trefoil_ir::op::Op;

use super::Workload;
use crate::profile::Profile;
use crate::touch::width_of;

/// What a model occupies in the memory of all ranks together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Footprint {
    /// Parameters that are stored.
    pub parameters: f64,
    /// Parameters that one token is computed with.
    pub active_parameters: f64,
    /// Bytes of the weights.
    pub weight_bytes: f64,
    /// Bytes of keys and values that a token leaves, in all layers.
    pub kv_bytes_per_token: f64,
    /// Ranks that may share the heads of keys and values.
    pub most_ranks: u32,
}

/// How large a batch fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Bytes of the memory of all ranks.
    pub memory_bytes: f64,
    /// Tokens whose keys and values fit beside the weights.
    pub kv_tokens: f64,
    /// Sequences that run at a time: those whose tokens, in the mean of their lives, fit.
    pub sequences: f64,
    /// Rows of the dense batch that so many sequences give in the steady state.
    pub largest_batch: f64,
}

/// Why nothing can be served: error T1503.
#[derive(Debug, Clone, PartialEq)]
pub struct DoesNotFit {
    /// The device.
    pub device: String,
    /// How many of them.
    pub ranks: u32,
    /// Bytes of memory of one.
    pub memory_bytes: f64,
    /// Bytes of the weights.
    pub weight_bytes: f64,
    /// Bytes of keys and values of one sequence of the workload, in the mean of its life.
    pub sequence_bytes: f64,
    /// The fewest ranks that would do.
    pub enough_ranks: u32,
    /// The most that the model divides among.
    pub most_ranks: u32,
}

impl Footprint {
    /// What a graph's model occupies at these sizes, every tensor stored once. `ties` says whether the configuration
    /// lets tensors that may be tied share their memory.
    pub fn of(graph: &Graph, bound: &Bound, profile: &Profile, ties: bool) -> Self {
        let stored = |weight: &Weight| if ties { own_elements(weight, bound) } else { elements(weight, bound) };
        let of_all = |weight: &Weight| (bound.num_layers(weight.block) * stored(weight)) as f64;
        let of_token = |(id, weight)| of_all(weight) * active_share(graph, bound, id);
        let parameters: f64 = graph.weights.values().map(of_all).sum();
        let kept = |cache: &Cache| {
            let elements = bound.size(&cache.kept()).unwrap_or_default();
            (elements * bound.num_layers(Some(cache.block))) as f64
        };
        let kv_heads = graph.caches.values().filter_map(|cache| bound.size(&cache.kv_heads));
        let kv_elements: f64 = graph.caches.values().map(kept).sum();
        Self {
            parameters,
            active_parameters: graph.weights.iter().map(of_token).sum(),
            weight_bytes: parameters * f64::from(profile.bytes.weights),
            kv_bytes_per_token: kv_elements * f64::from(profile.bytes.kv),
            most_ranks: kv_heads.min().and_then(|heads| u32::try_from(heads).ok()).unwrap_or(u32::MAX),
        }
    }

    /// The footprint if memory held only the parameters that one token is computed with.
    pub fn of_active_parameters(self) -> Self {
        let share = self.active_parameters / self.parameters;
        Self { parameters: self.active_parameters, weight_bytes: self.weight_bytes * share, ..self }
    }

    /// How large a batch of the workload fits on `ranks` devices.
    ///
    /// Sequences hold what [`Workload::decode_context`] says, and give [`Workload::rows_per_sequence`] rows each; a row
    /// leaves a token's keys and values, so there are never more rows than tokens that fit.
    ///
    /// # Errors
    ///
    /// The weights and one sequence do not fit.
    pub fn capacity(&self, profile: &Profile, ranks: u32, workload: &Workload) -> Result<Capacity, DoesNotFit> {
        let memory_bytes = profile.memory.bytes * f64::from(ranks);
        let held_tokens = workload.decode_context.max(1.0);
        let sequence_bytes = held_tokens * self.kv_bytes_per_token;
        if self.weight_bytes + sequence_bytes > memory_bytes {
            return Err(self.does_not_fit(profile, ranks, sequence_bytes));
        }
        let kv_tokens = (memory_bytes - self.weight_bytes) / self.kv_bytes_per_token;
        let sequences = kv_tokens / held_tokens;
        let largest_batch = (sequences * workload.rows_per_sequence()).min(kv_tokens);
        Ok(Capacity { memory_bytes, kv_tokens, sequences, largest_batch })
    }

    fn does_not_fit(&self, profile: &Profile, ranks: u32, sequence_bytes: f64) -> DoesNotFit {
        let wanted = (self.weight_bytes + sequence_bytes) / profile.memory.bytes;
        DoesNotFit {
            device: profile.name.clone(),
            ranks,
            memory_bytes: profile.memory.bytes,
            weight_bytes: self.weight_bytes,
            sequence_bytes,
            // Ranks share heads evenly, and the numbers of heads that models have divide by powers of two.
            enough_ranks: (wanted.ceil() as u32).checked_next_power_of_two().unwrap_or(u32::MAX),
            most_ranks: self.most_ranks,
        }
    }
}

fn elements(weight: &Weight, bound: &Bound) -> u64 {
    bound.size(&weight.elements()).unwrap_or_default()
}

/// The share of a weight that one token is computed with: of experts, those that it goes to.
fn active_share(graph: &Graph, bound: &Bound, weight: WeightId) -> f64 {
    let Some(all) = graph.weights[weight].experts.as_ref().and_then(|experts| bound.size(experts)) else { return 1.0 };
    let chosen = graph.bodies().flat_map(|(_, body)| body).filter_map(|node| {
        let Op::ExpertLinear { experts, weight: own, .. } = node.op else { return None };
        bound.size(&width_of(graph, experts)).filter(|_| own == weight)
    });
    chosen.max().unwrap_or(all) as f64 / all as f64
}

/// Elements of the tensors that are no other's.
fn own_elements(weight: &Weight, bound: &Bound) -> u64 {
    if weight.pieces.iter().any(|piece| piece.tied.is_some()) { 0 } else { elements(weight, bound) }
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gigabytes = |bytes: f64| bytes / 1e9;
        let have = self.memory_bytes * f64::from(self.ranks);
        write!(f, "error[T1503]: the weights take {:.1} GB", gigabytes(self.weight_bytes))?;
        if self.weight_bytes <= have {
            let sequence = gigabytes(self.sequence_bytes);
            write!(f, ", the keys and values of one sequence of the workload {sequence:.1} GB")?;
        }
        write!(f, ", and {} x {} have {:.1} GB", self.ranks, self.device, gigabytes(have))?;
        write!(f, " (`memory.bytes` of the profile is {:.1} GB)", gigabytes(self.memory_bytes))?;
        let (enough, most) = (self.enough_ranks, self.most_ranks);
        if enough <= most {
            return write!(f, "\n  help: --tp {enough} is enough");
        }
        write!(f, "\n  help: take a device with more memory: {enough} of these would do, ")?;
        write!(f, "but the model's {most} heads of keys divide among no more than {most}")
    }
}

impl std::error::Error for DoesNotFit {}
