//! Gives every nano-operation its stream.
//!
//! The plan may place an operator or a node; what it says nothing about goes to the first stream of the group that
//! serves the resource it is bound by, or to the plan's first stream where there is no such group. The plan may also give
//! an operator, a node or a nano-operation a share of the device other than its stream's.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Stage};
use trefoil_ir::ids::{Id, StreamId};
use trefoil_ir::op::Resource;
use trefoil_ir::schedule::Group;

use crate::pipeline::{Ctx, Pass};
use crate::plan::{Plan, most_specific, unknown, unknown_targets};
use crate::rewrite::bodies;

/// The pass.
pub(crate) struct StreamGroups;

impl Pass for StreamGroups {
    fn name(&self) -> &'static str {
        "stream_groups"
    }
    fn needs(&self) -> Stage {
        Stage::Split
    }
    fn gives(&self) -> Stage {
        Stage::Grouped
    }
    fn run(&self, graph: &mut Graph, ctx: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let shares = ctx.plan.shares.iter().map(|share| (&share.of, share.place));
        let mistakes = [unknown_targets(&ctx.plan.place, graph), unknown(shares, graph)].concat();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        graph.streams = Some(ctx.plan.streams.clone());
        for body in bodies(graph) {
            let nodes = graph.body_mut(body);
            for at in 0..nodes.len() {
                let nano = nodes[..at].iter().filter(|earlier| earlier.name == nodes[at].name).count();
                nodes[at].stream = Some(stream_of(ctx.plan, &nodes[at]));
                nodes[at].share = ctx.plan.share_of(&nodes[at], nano);
            }
        }
        Ok(())
    }
}

fn stream_of(plan: &Plan, node: &Node) -> StreamId {
    let placed = most_specific(plan.place.iter(), node).map(|rule| rule.value);
    let group = group_of(node.op.resource());
    let by_resource = || plan.streams.iter().find(|(_, stream)| stream.group == group).map(|(id, _)| id);
    placed.or_else(by_resource).unwrap_or(StreamId::new(0))
}

fn group_of(resource: Resource) -> Group {
    match resource {
        Resource::Compute => Group::Compute,
        Resource::Memory => Group::Memory,
        Resource::Network => Group::Network,
    }
}
