//! Cuts nodes into nano-operations: the same operator, each on a range of the dense batch.
//!
//! The plan says where, by the operator or the node: one rule for the node wins over one for its operator, and that
//! over `"*"`, which means the nodes of the layers. Nodes outside the layers (the embedding, the last norm) run once per
//! step and have nothing to stand beside, so they stay whole unless a rule names them or their operator. What has one
//! row per sampled sequence stays whole, and so do names for columns: whoever reads those reads the rows of what they
//! are a window of.
//!
//! Nano-operations of a node follow each other where the node stood. They give different rows of the same values.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Range, Split, Stage};
use trefoil_ir::ids::{BlockId, PointId};
use trefoil_ir::op::{Op, RowDomain};

use crate::pipeline::{Ctx, Pass};
use crate::plan::{Plan, unknown_targets};
use crate::rewrite::{bodies, replace_nodes};

/// The pass.
pub(crate) struct NanoBatch;

impl Pass for NanoBatch {
    fn name(&self) -> &'static str {
        "nano_batch"
    }
    fn needs(&self) -> Stage {
        Stage::Lowered
    }
    fn gives(&self) -> Stage {
        Stage::Split
    }
    fn run(&self, graph: &mut Graph, ctx: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let mistakes = unknown_targets(&ctx.plan.cuts, graph);
        // Rules may be about collectives, which `shard` puts in and then looks for.
        if !mistakes.is_empty() && ctx.plan.ranks.is_none_or(|ranks| ranks == 1) {
            return Err(mistakes);
        }
        let split = Split { points: ctx.plan.points.clone(), multiple_of: ctx.plan.multiple_of };
        let whole = split.whole();
        graph.split = Some(split);
        for body in bodies(graph) {
            replace_nodes(graph, body, |graph, node| {
                let cuts = if may_be_cut(graph, &node.op) { cuts_of(ctx.plan, body, &node) } else { &[] };
                let nano = |range| Node { range: Some(range), ..node.clone() };
                ranges(whole, cuts).into_iter().map(nano).collect()
            });
        }
        Ok(())
    }
}

fn may_be_cut(graph: &Graph, op: &Op) -> bool {
    let is_name_only = !op.launches();
    match graph.rows_of(op) {
        RowDomain::Tokens | RowDomain::DecodeTokens | RowDomain::PrefillTokens => !is_name_only,
        RowDomain::Seqs => false,
    }
}

pub(crate) fn cuts_of<'a>(plan: &'a Plan, body: Option<BlockId>, node: &Node) -> &'a [PointId] {
    let rules = plan.cuts.iter().filter(|rule| body.is_some() || !rule.of.is_everything());
    crate::plan::most_specific(rules, node).map_or(&[], |rule| rule.value.as_slice())
}

/// The parts of the batch between the cuts, which rise.
pub(crate) fn ranges(whole: Range, cuts: &[PointId]) -> Vec<Range> {
    let starts = std::iter::once(whole.from).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([whole.to]);
    starts.zip(ends).map(|(from, to)| Range { from, to }).collect()
}
