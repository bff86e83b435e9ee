//! The table by operator: all layers together, all ranks together.

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Node;
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::Op;

use super::{Subject, Times, over_links};
use crate::cost::{Load, Mix, Model, num_layers};
use crate::profile::Profile;

/// One operator of the graph in all layers, or the collectives.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// Its node, with its block where there are several.
    pub name: String,
    /// What the node does.
    pub operator: &'static str,
    /// How often it runs in an iteration.
    pub launches: u64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read from and written to memory.
    pub memory_bytes: f64,
    /// Bytes sent to other ranks.
    pub network_bytes: f64,
    /// At the peaks.
    pub times: Times,
    /// By the profile's kernels, each launch alone on its rank.
    pub predicted_seconds: f64,
}

/// How an operator's work lies on the ranks.
enum Spread {
    /// Each rank does a part.
    Divided,
    /// Each rank does all of it.
    Repeated,
}

/// Every operator that is launched in a batch of this mix, in the order of the graph, and then the collectives.
pub fn operators(subject: &Subject, mix: &Mix) -> Vec<Operator> {
    let aggregate = subject.profile.aggregate(subject.ranks);
    let bodies = subject.graph.bodies();
    let nodes = bodies.flat_map(|(block, body)| body.iter().map(move |node| (block, node)));
    let launched = nodes.filter(|(_, node)| node.op.launches());
    let mut rows: Vec<_> = launched.map(|(block, node)| of_node(subject, &aggregate, mix, block, node)).collect();
    rows.extend(collectives(subject, mix));
    rows
}

fn of_node(subject: &Subject, aggregate: &Profile, mix: &Mix, block: Option<BlockId>, node: &Node) -> Operator {
    let (profile, repeats) = match spread(&node.op) {
        Spread::Divided => (aggregate, 1),
        Spread::Repeated => (subject.profile, subject.ranks),
    };
    let load = model(subject, profile).load(&node.op, mix, 0..mix.tokens());
    let name = match block.filter(|_| subject.graph.blocks.len() > 1) {
        Some(block) => format!("{}.{}", subject.graph.blocks[block].name, node.name),
        None => node.name.clone(),
    };
    let launches = num_layers(subject.graph, subject.bound, block);
    Row { name, operator: node.op.name(), launches, load, of_ranks: repeats }.operator(subject)
}

/// Two sums per layer over what it takes. Once the graph is sharded these are nodes of it, and this sums them.
fn collectives(subject: &Subject, mix: &Mix) -> Option<Operator> {
    if subject.ranks < 2 {
        return None;
    }
    let of_block = |(id, block): (BlockId, &trefoil_ir::graph::Block)| {
        let sum = Op::AllReduce { x: block.takes, ranks: Dim::constant(u64::from(subject.ranks)) };
        let load = model(subject, subject.profile).load(&sum, mix, 0..mix.tokens());
        let launches = 2 * num_layers(subject.graph, subject.bound, Some(id));
        Row { name: "all-reduce".to_owned(), operator: sum.name(), launches, load, of_ranks: subject.ranks }
            .operator(subject)
    };
    subject.graph.blocks.iter().map(of_block).reduce(Operator::plus)
}

/// One launch, and how often there are such.
struct Row {
    name: String,
    operator: &'static str,
    launches: u64,
    load: Load,
    of_ranks: u32,
}

impl Row {
    fn operator(self, subject: &Subject) -> Operator {
        let launches = self.launches as f64;
        let times = launches * f64::from(self.of_ranks);
        let (flops, memory_bytes) = (self.load.flops * times, self.load.bytes * times);
        let network_bytes = self.load.network * times;
        let (profile, ranks) = (subject.profile, f64::from(subject.ranks));
        Operator {
            name: self.name,
            operator: self.operator,
            launches: self.launches,
            flops,
            memory_bytes,
            network_bytes,
            times: Times {
                compute: flops / (profile.compute.flops * ranks),
                memory: memory_bytes / (profile.memory.bandwidth * ranks),
                network: over_links(profile, subject.ranks, network_bytes),
            },
            predicted_seconds: self.load.seconds * launches,
        }
    }
}

impl Operator {
    fn plus(self, other: Self) -> Self {
        Self {
            launches: self.launches + other.launches,
            flops: self.flops + other.flops,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            network_bytes: self.network_bytes + other.network_bytes,
            times: self.times.plus(other.times),
            predicted_seconds: self.predicted_seconds + other.predicted_seconds,
            ..self
        }
    }
}

fn model<'a>(subject: &Subject<'a>, profile: &'a Profile) -> Model<'a> {
    Model { graph: subject.graph, bound: subject.bound, profile }
}

/// Tensor parallelism divides products, heads and what lies between two products; rows of the residual stream are
/// whole on every rank (Shoeybi et al. 2019, Megatron-LM).
fn spread(op: &Op) -> Spread {
    match op {
        Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Attention { .. }
        | Op::GatedMul { .. }
        | Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::Columns { .. } => Spread::Divided,
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::Add { .. }
        | Op::AddRmsNorm { .. }
        | Op::Rows { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. }
        | Op::Repeat { .. } => Spread::Repeated,
    }
}
