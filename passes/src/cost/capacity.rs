//! What fits into memory: weights, the keys and values of running sequences, and so the dense batch.
//!
//! NanoFlow, sections 3.1 and 3.3: what the weights leave is for keys and values (activations, below 5 %, are left out);
//! in the steady state every running sequence gives one decode row, and prompts fill the rest of the dense batch.

use serde::Serialize;
use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::Op;

use super::Workload;
use crate::profile::Profile;

/// What fits into the memory of all devices together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Capacity {
    /// Bytes of the weights.
    pub weight_bytes: f64,
    /// Bytes of a token's keys and values.
    pub kv_bytes_per_token: f64,
    /// Tokens whose keys and values fit beside the weights.
    pub kv_tokens: f64,
    /// Running sequences of the workload.
    pub sequences: f64,
    /// Rows of the dense batch that they, and the prompts that replace them, give.
    pub dense_batch: f64,
}

impl Capacity {
    /// What fits: the graph and its sizes are those of the whole model.
    pub fn of(graph: &Graph, bound: &Bound, profile: &Profile, ranks: u32, workload: &Workload) -> Self {
        let weight_bytes = elements_of_weights(graph, bound) * f64::from(profile.bytes.weights);
        let kv_bytes_per_token = elements_kept(graph, bound) * f64::from(profile.bytes.kv);
        let left = (profile.memory.bytes * f64::from(ranks) - weight_bytes).max(0.0);
        let kv_tokens = left / kv_bytes_per_token;
        let sequences = kv_tokens / workload.decode_context;
        Self {
            weight_bytes,
            kv_bytes_per_token,
            kv_tokens,
            sequences,
            dense_batch: sequences * workload.rows_per_sequence(),
        }
    }
}

fn elements_of_weights(graph: &Graph, bound: &Bound) -> f64 {
    let elements = |weight: &trefoil_ir::graph::Weight| {
        let size = bound.size(&weight.rows().times(&weight.columns)).unwrap_or(0) as f64;
        size * weight.block.map_or(1.0, |block| num_layers(graph, bound, block))
    };
    graph.weights.values().map(elements).sum()
}

fn elements_kept(graph: &Graph, bound: &Bound) -> f64 {
    let elements = |cache: &trefoil_ir::graph::Cache| {
        let size = bound.size(&cache.kv_heads.times(&cache.head)).unwrap_or(0) as f64;
        2.0 * size * num_layers(graph, bound, cache.block)
    };
    graph.caches.values().map(elements).sum()
}

/// The layers of a block, in all repeats.
fn num_layers(graph: &Graph, bound: &Bound, block: BlockId) -> f64 {
    let of_repeat = |op: &Op| {
        let Op::Repeat { blocks, times, .. } = op else { return 0 };
        let times = bound.size(times).unwrap_or(0) as usize;
        blocks.iter().cycle().take(times).filter(|repeated| **repeated == block).count()
    };
    graph.nodes.iter().map(|node| of_repeat(&node.op)).sum::<usize>() as f64
}
