//! The table by operator: all layers together, all ranks together.

use std::collections::BTreeSet;

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Block, Node};
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::Op;

use super::spread::{Spread, spread};
use super::{Subject, Times, over_links};
use crate::cost::{Load, Mix, Model, num_layers};
use crate::profile::{Compute, Profile};

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

/// Every operator that is launched in a batch of this mix, in the order of the graph, and then the collectives.
pub fn operators(subject: &Subject, mix: &Mix) -> Vec<Operator> {
    let devices = Devices::new(subject.profile, subject.ranks);
    let mut rows = of_body(subject, &devices, mix, None);
    rows.extend(collectives(subject, mix));
    rows
}

/// The ranks as one device, for each way in which work may lie on them.
struct Devices {
    /// Matrices divided along their columns, and rows along theirs.
    across: Profile,
    /// Products divided along their inner axis: each rank has all tiles, and a part of the work of each.
    within: Profile,
}

impl Devices {
    fn new(profile: &Profile, ranks: u32) -> Self {
        let across = profile.aggregate(ranks);
        let compute = Compute { units: profile.compute.units, ..across.compute };
        Self { within: Profile { compute, ..across.clone() }, across }
    }
}

/// The operators of a body, those of a block where it is first repeated.
fn of_body(subject: &Subject, devices: &Devices, mix: &Mix, block: Option<BlockId>) -> Vec<Operator> {
    let mut rows = vec![];
    let mut seen = BTreeSet::new();
    for node in subject.graph.body(block) {
        if let Op::Repeat { blocks, .. } = &node.op {
            let fresh = blocks.iter().filter(|block| seen.insert(**block));
            rows.extend(fresh.flat_map(|block| of_body(subject, devices, mix, Some(*block))));
        }
        if node.op.launches() {
            rows.push(of_node(subject, devices, mix, block, node));
        }
    }
    rows
}

fn of_node(subject: &Subject, devices: &Devices, mix: &Mix, block: Option<BlockId>, node: &Node) -> Operator {
    let (profile, of_ranks) = match spread(subject.graph.body(block), &node.op) {
        Spread::Across => (&devices.across, 1),
        Spread::Within => (&devices.within, 1),
        Spread::Repeated => (subject.profile, subject.ranks),
    };
    let load = model(subject, profile).load(&node.op, mix, 0..mix.tokens());
    let name = match block.filter(|_| subject.graph.blocks.len() > 1) {
        Some(block) => format!("{}.{}", subject.graph.blocks[block].name, node.name),
        None => node.name.clone(),
    };
    let launches = num_layers(subject.graph, subject.bound, block);
    Row { name, operator: node.op.name(), launches, load, of_ranks }.operator(subject)
}

/// Two sums per layer of what it takes: the graph is that of the whole model, and has no collectives of its own.
fn collectives(subject: &Subject, mix: &Mix) -> Option<Operator> {
    if subject.ranks < 2 {
        return None;
    }
    let of_block = |(id, block): (BlockId, &Block)| {
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
