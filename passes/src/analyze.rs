//! What bounds a model on a device under a workload: the analysis of NanoFlow (arXiv 2408.12757v2), section 3.
//!
//! [`analyze`] takes a fused graph, and what `shard` makes of it, and gives two views of one iteration on several devices
//! that work as one: by operator (the paper's table 2), and as a whole at the peaks ([`Iteration`], the formulas of section 3.2), which
//! says how much the network weighs beside arithmetic (figure 2) and memory beside both (figure 3).
//!
//! Peaks and sizes are specifications: nothing measured enters but [`Operator::predicted_seconds`], which are by the
//! profile's kernels. How large the batch may become is [`crate::cost::Footprint::capacity`]'s to say.

mod operators;
#[cfg(test)]
mod tests;

use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;

use crate::cost::{Capacity, DoesNotFit, Footprint, Mix, Workload};
use crate::profile::{Network, Profile, ResourceKey};
use crate::touch::width_of;

pub use operators::{Operator, operators};

/// What is analyzed: a model on devices.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The graph after `fuse`, of the whole model.
    pub graph: &'a Graph,
    /// Its sizes.
    pub bound: &'a Bound,
    /// The device.
    pub profile: &'a Profile,
    /// How many devices work as one.
    pub ranks: u32,
    /// Whether the configuration ties tensors that may be tied.
    pub ties: bool,
}

/// What one of the devices does.
#[derive(Debug, Clone, Copy)]
pub struct Rank<'a> {
    /// The graph after `shard`, not cut into nano-batches.
    pub graph: &'a Graph,
    /// Its sizes.
    pub bound: &'a Bound,
}

/// Seconds that an iteration, or an operator in all layers, keeps each resource of all devices busy at its peak.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Times {
    /// Arithmetic.
    pub compute: f64,
    /// Memory.
    pub memory: f64,
    /// Links, in one direction.
    pub network: f64,
}

/// An iteration as a whole, at the peaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// Rows of the dense batch.
    pub batch: f64,
    /// The times of NanoFlow, section 3.2.
    pub times: Times,
}

/// All that the analysis says.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// What the model occupies.
    pub footprint: Footprint,
    /// How large a batch fits.
    pub capacity: Capacity,
    /// The batch of the table.
    pub mix: Mix,
    /// The table.
    pub operators: Vec<Operator>,
    /// An iteration of the table's batch.
    pub iteration: Iteration,
    /// An iteration of the largest batch.
    pub largest: Iteration,
    /// Tokens per second, of prompts and outputs together, of all devices when arithmetic is all that takes time.
    pub optimal_throughput: f64,
}

impl Times {
    /// The resource that takes longest.
    pub fn bound_by(self) -> ResourceKey {
        if self.network > self.compute.max(self.memory) {
            ResourceKey::Network
        } else if self.memory > self.compute {
            ResourceKey::Memory
        } else {
            ResourceKey::Compute
        }
    }

    /// The sums.
    pub fn plus(self, other: Self) -> Self {
        Self {
            compute: self.compute + other.compute,
            memory: self.memory + other.memory,
            network: self.network + other.network,
        }
    }
}

impl Subject<'_> {
    /// What the model occupies.
    pub fn footprint(&self) -> Footprint {
        Footprint::of(self.graph, self.bound, self.profile, self.ties)
    }

    /// An iteration as a whole (NanoFlow, section 3.2): `2 · batch · parameters` operations of dense products, all
    /// memory read once, and two all-reduces per layer, each of which sends `2 (n-1)` times its matrix. The paper's
    /// formula has n for `n-1`; its published numbers do not. Links count in one direction.
    pub fn iteration(&self, footprint: &Footprint, batch: f64) -> Iteration {
        let ranks = f64::from(self.ranks);
        let (memory, flops) = (self.profile.memory, self.profile.compute.flops * ranks);
        let sent = 4.0 * (ranks - 1.0) * batch * self.stream_elements() * f64::from(self.profile.bytes.activations);
        let times = Times {
            compute: 2.0 * batch * footprint.active_parameters / flops,
            memory: memory.bytes / memory.bandwidth,
            network: over_links(self.profile, self.ranks, sent),
        };
        Iteration { batch, times }
    }

    /// Elements that a row of the residual stream has, all layers together: hidden size times layers.
    fn stream_elements(&self) -> f64 {
        let blocks = self.graph.blocks.iter();
        let of_block = |id, takes| self.bound.num_layers(Some(id)) * self.columns(takes);
        blocks.map(|(id, block)| of_block(id, block.takes) as f64).sum()
    }

    fn columns(&self, value: trefoil_ir::ids::ValueId) -> u64 {
        self.bound.size(&width_of(self.graph, value)).unwrap_or_default()
    }
}

/// Seconds that all ranks together need to send so many bytes: none if there are none.
fn over_links(profile: &Profile, ranks: u32, bytes: f64) -> f64 {
    let link = profile.network.map_or(f64::INFINITY, Network::one_way);
    bytes / (link * f64::from(ranks))
}

/// The batch to look at when nobody says which: the size of NanoFlow's experiments, or the largest that fits if that is
/// smaller, in whole cuts where there is one.
pub fn default_batch(capacity: &Capacity, profile: &Profile) -> u32 {
    const USUAL: u32 = 2048;
    let largest = (capacity.largest_batch as u32).clamp(1, USUAL);
    let whole_cuts = largest - largest % profile.cut_rows;
    if whole_cuts == 0 { largest } else { whole_cuts }
}

/// Analyzes the model under a workload, with a dense batch of so many tokens or the default.
///
/// # Errors
///
/// The model does not fit.
pub fn analyze(
    subject: &Subject,
    rank: &Rank,
    workload: &Workload,
    batch: Option<u32>,
) -> Result<Analysis, DoesNotFit> {
    let footprint = subject.footprint();
    let capacity = footprint.capacity(subject.profile, subject.ranks, workload)?;
    let mix = workload.mix(batch.unwrap_or_else(|| default_batch(&capacity, subject.profile)));
    let flops = subject.profile.compute.flops * f64::from(subject.ranks);
    Ok(Analysis {
        footprint,
        capacity,
        mix,
        operators: operators(subject, rank, &mix),
        iteration: subject.iteration(&footprint, f64::from(mix.tokens())),
        largest: subject.iteration(&footprint, capacity.largest_batch),
        optimal_throughput: flops / (2.0 * footprint.active_parameters),
    })
}
