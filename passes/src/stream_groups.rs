//! Gives every nano-operation its stream.
//!
//! The plan may place an operator or a node; what it says nothing about goes to the first stream of the group that
//! serves the resource it is bound by, or to the plan's first stream where there is no such group.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Stage};
use trefoil_ir::ids::{Id, StreamId};
use trefoil_ir::op::Resource;
use trefoil_ir::schedule::Group;

use crate::pipeline::{Ctx, Pass};
use crate::plan::{Plan, most_specific, unknown_targets};
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
        let mistakes = unknown_targets(&ctx.plan.place, graph);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        graph.streams = Some(ctx.plan.streams.clone());
        for body in bodies(graph) {
            for node in graph.body_mut(body) {
                node.stream = Some(stream_of(ctx.plan, node));
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
