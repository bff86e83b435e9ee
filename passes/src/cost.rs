//! What launches cost: floating-point operations, bytes of memory, bytes over the network; and the time they take.
//!
//! [`of`] gives an operator's [`Cost`] as sizes, like shapes: over the graph's dims, and over what is known of a launch
//! only when the batch is ([`ROWS`], [`KEYS`], [`KEPT`]). [`Model`] puts numbers to them for one configuration, one
//! device and one [`Mix`] of rows, and turns them into seconds by the device's profile. All are of one rank.
//!
//! - A product of `[rows, in]` and `[in, out]` does `2 · rows · in · out` operations and moves its weight, its input and
//!   its output once.
//! - Attention does `4 · heads · head` operations for each key that a row sees (two for the score, two for the sum) and
//!   moves keys and values once per sequence, queries and results once per row.
//! - An all-reduce over n ranks sends `2 (n-1) / n` of its matrix from every rank, an all-gather `n-1` times its part:
//!   NanoFlow, section 3.2, which gives `4 (n-1) · rows · hidden` elements per layer for all ranks together.
//! - A product by expert does what a product does for each expert that a row goes to, and moves the matrices of the
//!   experts that rows go to ([`EXPERTS`]).
//! - Everything else moves what it reads and writes once.
//!
//! [`Footprint`] says what the model occupies, and [`Capacity`] how large a batch of a [`Workload`] fits beside it.

mod capacity;
mod mix;
mod model;
#[cfg(test)]
mod tests;

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{CacheId, ValueId, WeightId};
use trefoil_ir::op::Op;

use crate::touch::width_of;

pub use capacity::{Capacity, DoesNotFit, Footprint};
pub use mix::{Mix, Rows, Workload};
pub use model::{Load, Model};

/// The rows of a launch. No graph's own dim has a dot.
pub const ROWS: &str = "launch.rows";
/// The keys that the rows of an attention see, all rows together.
pub const KEYS: &str = "launch.keys";
/// The tokens whose keys and values an attention reads, each sequence's once.
pub const KEPT: &str = "launch.kept";
/// The distinct experts that the rows go to: `E (1 - (1 - k/E)^rows)` of `E` experts, `k` for each row, if every expert
/// is as likely as the others. Routers that are trained prefer some, so fewer are touched: in measurements of a layer of
/// 128 experts 86 % by 128 rows, where this says all of them (layered prefill, arXiv 2510.08055v2, table 1).
pub const EXPERTS: &str = "launch.experts";
/// Bytes of an element of a weight.
pub const WEIGHT_BYTES: &str = "bytes.weight";
/// Bytes of an element of an activation.
pub const ACTIVATION_BYTES: &str = "bytes.activation";
/// Bytes of an element of a key or value.
pub const KV_BYTES: &str = "bytes.kv";

/// What one launch costs one rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: Dim,
    /// Bytes read from and written to memory.
    pub bytes: Dim,
    /// Bytes sent to other ranks.
    pub network: Dim,
}

/// The cost of an operator of the graph.
pub fn of(graph: &Graph, op: &Op) -> Cost {
    let sizes = Sizes { graph };
    let rows = Dim::name(ROWS);
    match *op {
        Op::Embed { weight, .. } => {
            let row = sizes.columns(weight);
            let bytes = row.times(&Dim::name(WEIGHT_BYTES).plus(&activation())).times(&rows);
            Cost { bytes, ..Cost::default() }
        }
        Op::RmsNorm { x, .. } => elementwise(&sizes.width(x), 4, 2),
        Op::LayerNorm { x, .. } => elementwise(&sizes.width(x), 8, 2),
        Op::AddRmsNorm { a, .. } => elementwise(&sizes.width(a), 5, 4),
        Op::Join { a, b, ref heads } => sizes.join(a, b, heads),
        Op::Add { a, .. } => elementwise(&sizes.width(a), 1, 3),
        Op::GatedMul { gate, .. } => elementwise(&sizes.width(gate), 5, 3),
        Op::Apply { x, .. } => elementwise(&sizes.width(x), 4, 2),
        Op::Rope { x, .. } => elementwise(&sizes.width(x), 3, 2),
        Op::Rows { x, .. } => elementwise(&sizes.width(x), 0, 2),
        Op::Linear { weight, .. } => sizes.product(weight),
        Op::Route { x, ref top_k, .. } => sizes.route(x, top_k),
        Op::ExpertLinear { x, experts, weight, .. } => sizes.expert_product(x, experts, weight),
        Op::Combine { x, shares } => sizes.combine(x, shares),
        Op::KvWrite { cache, .. } => {
            let bytes = sizes.kept(cache).times(&activation().plus(&Dim::name(KV_BYTES))).times(&rows);
            Cost { bytes, ..Cost::default() }
        }
        Op::Attention { q, cache, .. }
        | Op::DecodeAttention { q, cache, .. }
        | Op::PrefillAttention { q, cache, .. } => sizes.attention(q, cache),
        Op::AllReduce { x, ref ranks } => sizes.all_reduce(x, ranks),
        Op::AllGather { x, ref ranks } => sizes.all_gather(x, ranks),
        // Another name for what is there, and bodies whose nodes have costs of their own.
        Op::Columns { .. } | Op::Repeat { .. } => Cost::default(),
    }
}

/// `flops` operations and `touches` elements moved for each element of rows of this width.
fn elementwise(width: &Dim, flops: u64, touches: u64) -> Cost {
    let elements = Dim::name(ROWS).times(width);
    let bytes = elements.times(&activation()).times(&Dim::constant(touches));
    Cost { flops: elements.times(&Dim::constant(flops)), bytes, network: Dim::default() }
}

fn activation() -> Dim {
    Dim::name(ACTIVATION_BYTES)
}

struct Sizes<'a> {
    graph: &'a Graph,
}

impl Sizes<'_> {
    fn width(&self, value: ValueId) -> Dim {
        width_of(self.graph, value)
    }

    fn columns(&self, weight: WeightId) -> Dim {
        self.graph.weights[weight].columns.clone()
    }

    /// Elements of keys and values of a token.
    fn kept(&self, cache: CacheId) -> Dim {
        self.graph.caches[cache].kept()
    }

    fn product(&self, weight: WeightId) -> Cost {
        let (inner, out) = (self.columns(weight), self.graph.weights[weight].rows());
        let (rows, matrix) = (Dim::name(ROWS), inner.times(&out));
        let moved = inner.plus(&out).times(&rows).times(&activation());
        let bytes = matrix.times(&Dim::name(WEIGHT_BYTES)).plus(&moved);
        Cost { flops: matrix.times(&rows).times(&Dim::constant(2)), bytes, network: Dim::default() }
    }

    /// Scores of all experts, then the best: their shares, and their numbers of four bytes.
    fn route(&self, x: ValueId, top_k: &Dim) -> Cost {
        let (rows, logits) = (Dim::name(ROWS), self.width(x));
        let chosen = activation().plus(&Dim::constant(4)).times(top_k);
        let bytes = logits.times(&activation()).plus(&chosen).times(&rows);
        Cost { flops: logits.times(&rows).times(&Dim::constant(5)), bytes, network: Dim::default() }
    }

    fn expert_product(&self, x: ValueId, experts: ValueId, weight: WeightId) -> Cost {
        let (inner, out, top_k) = (self.columns(weight), self.graph.weights[weight].rows(), self.width(experts));
        let (rows, matrix) = (Dim::name(ROWS), inner.times(&out));
        let moved = self.width(x).plus(&top_k.times(&out)).times(&rows).times(&activation());
        let bytes = matrix.times(&Dim::name(EXPERTS)).times(&Dim::name(WEIGHT_BYTES)).plus(&moved);
        let flops = matrix.times(&rows).times(&top_k).times(&Dim::constant(2));
        Cost { flops, bytes, network: Dim::default() }
    }

    fn combine(&self, x: ValueId, shares: ValueId) -> Cost {
        let (rows, all, top_k) = (Dim::name(ROWS), self.width(x), self.width(shares));
        let read = all.plus(&top_k);
        // They divide: the type of the result has said so.
        let moved = read.plus(&all.exact_quotient(&top_k).unwrap_or_default());
        let bytes = moved.times(&rows).times(&activation());
        Cost { flops: all.times(&rows).times(&Dim::constant(2)), bytes, network: Dim::default() }
    }

    /// Both parts are read, and the heads written.
    fn join(&self, a: ValueId, b: ValueId, heads: &Dim) -> Cost {
        let (a, b) = (self.width(a), self.width(b));
        let all = if b.exact_quotient(heads).is_none() { b.times(heads) } else { b.clone() };
        let moved = a.times(&Dim::constant(2)).plus(&b).plus(&all);
        Cost { bytes: moved.times(&Dim::name(ROWS)).times(&activation()), ..Cost::default() }
    }

    fn attention(&self, q: ValueId, cache: CacheId) -> Cost {
        let width = self.width(q);
        // They are whole heads: the type of the result has said so.
        let both = self.graph.caches[cache].given(&width).unwrap_or_default().plus(&width);
        let moved = both.times(&Dim::name(ROWS)).times(&activation());
        let kept = self.kept(cache).times(&Dim::name(KV_BYTES)).times(&Dim::name(KEPT));
        let flops = both.times(&Dim::name(KEYS)).times(&Dim::constant(2));
        Cost { flops, bytes: moved.plus(&kept), network: Dim::default() }
    }

    fn all_reduce(&self, x: ValueId, ranks: &Dim) -> Cost {
        let part = self.width(x).over(ranks).times(&Dim::name(ROWS));
        let flops = part.times(&others(ranks));
        let network = flops.times(&activation()).times(&Dim::constant(2));
        Cost { flops, bytes: network.clone(), network }
    }

    fn all_gather(&self, x: ValueId, ranks: &Dim) -> Cost {
        let network = self.width(x).times(&Dim::name(ROWS)).times(&others(ranks)).times(&activation());
        Cost { flops: Dim::default(), bytes: network.clone(), network }
    }
}

fn others(ranks: &Dim) -> Dim {
    ranks.minus(&Dim::constant(1))
}
