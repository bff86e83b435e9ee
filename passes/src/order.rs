//! Puts the launches in the order in which the host puts them on their streams: a schedule without events.
//!
//! Sections are the stretches of the main body between its repeats, and the repeats. Within a section the order is, as
//! the plan says, that of the text, the one that [`overlap`] finds, or the one the plan lists.
//!
//! Every order follows the dependencies between nano-operations, and keeps launches that read what a layer takes before
//! those that write what it gives, because the two live in one place.

mod listed;
mod overlap;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Stage};
use trefoil_ir::ids::{BlockId, Table};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};

use crate::pipeline::{Ctx, Pass};
use crate::plan;
use crate::touch::{Layout, Touch, touches};

/// The pass.
pub(crate) struct Order;

impl Pass for Order {
    fn name(&self) -> &'static str {
        "order"
    }
    fn needs(&self) -> Stage {
        Stage::Grouped
    }
    /// Not yet a launch schedule: its launches may race until `sync` has put in the events.
    fn gives(&self) -> Stage {
        Stage::Grouped
    }
    fn run(&self, graph: &mut Graph, ctx: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let orderer = Orderer { graph, layout: Layout::apart(graph), order: &ctx.plan.order };
        let mut mistakes = orderer.unknown_bodies();
        let mut sections = vec![];
        for stretch in stretches(&graph.nodes) {
            let section = match &stretch {
                Stretch::Repeat(blocks, times) => {
                    let blocks = blocks.iter().map(|block| (*block, orderer.steps_of_block(*block, &mut mistakes)));
                    Section::Repeat { blocks: blocks.collect(), times: (*times).clone() }
                }
                Stretch::Nodes(nodes) => Section::Once(orderer.steps(None, nodes, &mut mistakes)),
            };
            sections.push(section);
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        graph.schedule = Some(Schedule { sections, num_events: 0, buffers: Table::default(), homes: Table::default() });
        Ok(())
    }
}

/// A part of the main body.
enum Stretch<'a> {
    Nodes(&'a [Node]),
    Repeat(&'a [BlockId], &'a trefoil_ir::dim::Dim),
}

fn stretches(nodes: &[Node]) -> Vec<Stretch<'_>> {
    let is_repeat = |node: &Node| matches!(node.op, Op::Repeat { .. });
    nodes.chunk_by(|a, b| !is_repeat(a) && !is_repeat(b)).map(stretch).collect()
}

fn stretch(nodes: &[Node]) -> Stretch<'_> {
    match nodes {
        [Node { op: Op::Repeat { blocks, times, .. }, .. }] => Stretch::Repeat(blocks, times),
        nodes => Stretch::Nodes(nodes),
    }
}

struct Orderer<'a> {
    graph: &'a Graph,
    layout: Layout,
    order: &'a plan::Order,
}

/// A launch that waits for its turn.
struct Candidate<'a> {
    node: &'a Node,
    launch: Launch,
    touches: Vec<Touch>,
}

impl Orderer<'_> {
    fn unknown_bodies(&self) -> Vec<Diagnostic> {
        match self.order {
            plan::Order::Listed(lists) => listed::unknown_bodies(self.graph, lists),
            plan::Order::AsWritten | plan::Order::Overlap => vec![],
        }
    }

    fn steps_of_block(&self, block: BlockId, mistakes: &mut Vec<Diagnostic>) -> Vec<Step> {
        self.steps(Some(block), self.graph.body(Some(block)), mistakes)
    }

    fn steps(&self, block: Option<BlockId>, nodes: &[Node], mistakes: &mut Vec<Diagnostic>) -> Vec<Step> {
        let candidates = self.candidates(nodes);
        let waits_for = self.dependencies(&candidates);
        let order = match self.order {
            plan::Order::AsWritten => (0..candidates.len()).collect(),
            plan::Order::Overlap => overlap::order(&candidates, &waits_for),
            plan::Order::Listed(lists) => match lists.iter().find(|list| listed::is_for(self.graph, list, block)) {
                Some(list) => listed::order(list, self.graph.body(block), &candidates, &waits_for, mistakes),
                None => (0..candidates.len()).collect(),
            },
        };
        order.into_iter().map(|number: usize| Step::Launch(candidates[number].launch.clone())).collect()
    }

    fn candidates<'n>(&self, nodes: &'n [Node]) -> Vec<Candidate<'n>> {
        let launched = nodes.iter().enumerate().filter(|(_, node)| node.op.launches());
        let candidate = |(at, node): (usize, &'n Node)| {
            let nano = nodes[..at].iter().filter(|earlier| earlier.name == node.name).count();
            let (range, stream) = (node.range?, node.stream?);
            let (op, outputs) = (node.op.clone(), node.outputs.clone());
            let touches = touches(self.graph, &op, &outputs, range);
            let launch = Launch { node: node.name.clone(), nano, op, outputs, range, stream, share: node.share };
            Some(Candidate { node, launch, touches })
        };
        launched.filter_map(candidate).collect()
    }

    /// For each candidate, which of those before it in the text it has to follow.
    fn dependencies(&self, candidates: &[Candidate]) -> Vec<Vec<usize>> {
        let follows = |later: &Candidate, earlier: &Candidate| {
            let mut pairs = earlier.touches.iter().flat_map(|a| later.touches.iter().map(move |b| (a, b)));
            pairs.any(|(a, b)| self.layout.clash(a, b, true))
        };
        let all = candidates.iter().enumerate();
        all.map(|(at, later)| (0..at).filter(|earlier| follows(later, &candidates[*earlier])).collect()).collect()
    }
}
