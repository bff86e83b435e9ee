//! The table by operator: all layers together, all ranks together.

use std::collections::BTreeSet;

use trefoil_ir::graph::Node;
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::Op;

use super::{Rank, Subject, Times, over_links};
use crate::cost::{Load, Mix, Model};

/// An operator in all layers. What the whole model does is counted once for all ranks together, whatever some of them
/// repeat; what is only done because there are several ranks is counted for all of them.
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
    /// By the profile's kernels, for what a rank does, each launch alone on its device.
    pub predicted_seconds: f64,
}

/// Every operator that a rank launches in a batch of this mix, in the order of the graph.
pub fn operators(subject: &Subject, rank: &Rank, mix: &Mix) -> Vec<Operator> {
    Table {
        subject,
        whole: Model { graph: subject.graph, bound: subject.bound, profile: subject.profile },
        part: Model { graph: rank.graph, bound: rank.bound, profile: subject.profile },
        mix,
    }
    .of_body(None)
}

struct Table<'a> {
    subject: &'a Subject<'a>,
    whole: Model<'a>,
    part: Model<'a>,
    mix: &'a Mix,
}

impl Table<'_> {
    /// The operators of a body, those of a block where it is first repeated.
    fn of_body(&self, block: Option<BlockId>) -> Vec<Operator> {
        let mut rows = vec![];
        let mut seen = BTreeSet::new();
        for node in self.part.graph.body(block) {
            if let Op::Repeat { blocks, .. } = &node.op {
                let fresh = blocks.iter().filter(|block| seen.insert(**block));
                rows.extend(fresh.flat_map(|block| self.of_body(Some(*block))));
            }
            if node.op.launches() {
                rows.push(self.of_node(block, node));
            }
        }
        rows
    }

    fn of_node(&self, block: Option<BlockId>, node: &Node) -> Operator {
        let own = self.part.load(&node.op, self.mix, 0..self.mix.tokens());
        let launches = self.part.bound.num_layers(block);
        let all = self.of_whole(block, node).unwrap_or_else(|| times(own, f64::from(self.subject.ranks)));
        let all = times(all, launches as f64);
        let (profile, ranks) = (self.subject.profile, f64::from(self.subject.ranks));
        Operator {
            name: self.name(block, node),
            operator: node.op.name(),
            launches,
            flops: all.flops,
            memory_bytes: all.bytes,
            network_bytes: all.network,
            times: Times {
                compute: all.flops / (profile.compute.flops * ranks),
                memory: all.bytes / (profile.memory.bandwidth * ranks),
                network: over_links(profile, self.subject.ranks, all.network),
            },
            predicted_seconds: own.seconds * launches as f64,
        }
    }

    /// What the node costs in the whole model; `None` if it is there for the ranks' sake.
    fn of_whole(&self, block: Option<BlockId>, node: &Node) -> Option<Load> {
        let found = self.whole.graph.body(block).iter().find(|whole| whole.name == node.name)?;
        Some(self.whole.load(&found.op, self.mix, 0..self.mix.tokens()))
    }

    fn name(&self, block: Option<BlockId>, node: &Node) -> String {
        match block.filter(|_| self.part.graph.blocks.len() > 1) {
            Some(block) => format!("{}.{}", self.part.graph.blocks[block].name, node.name),
            None => node.name.clone(),
        }
    }
}

fn times(load: Load, count: f64) -> Load {
    Load {
        flops: load.flops * count,
        bytes: load.bytes * count,
        network: load.network * count,
        seconds: load.seconds * count,
        bound_by: load.bound_by,
    }
}
