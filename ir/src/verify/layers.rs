//! Rules about layers, caches and the whole model: T2009, T2010, T2012 to T2014.

use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Graph, Node, SEQS, Stage};
use crate::ids::{BlockId, CacheId};
use crate::infer::shape;
use crate::op::Op;
use crate::types::Element;

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = carried(graph);
    mistakes.extend(caches(graph));
    mistakes.extend(given(graph));
    mistakes.extend(main_order(graph));
    if graph.stage == Stage::Loaded {
        mistakes.extend(operators_of_passes(graph));
    }
    mistakes
}

fn carried(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for block in graph.blocks.values() {
        let (takes, gives) = (&graph.values[block.takes], &graph.values[block.gives]);
        if takes.ty != gives.ty {
            let (taken, given) = (shape(&takes.ty.shape), shape(&gives.ty.shape));
            let message = format!("the block `{}` takes {taken} and gives {given}", block.name);
            mistakes.push(Diagnostic::new("T2009", block.place, message));
        }
        let is_own = |value: &crate::graph::Value| value.block.is_some_and(|own| graph.blocks[own].name == block.name);
        if !is_own(takes) || !is_own(gives) {
            let message = format!("the block `{}` takes or gives a value of another body", block.name);
            mistakes.push(Diagnostic::new("T2009", block.place, message));
        }
    }
    for node in graph.bodies().flat_map(|(_, nodes)| nodes) {
        if let Op::Repeat { blocks, .. } = &node.op
            && blocks.is_empty()
        {
            mistakes.push(Diagnostic::new("T2009", node.place, format!("`{}` repeats no block", node.name)));
        }
    }
    mistakes
}

fn caches(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (block, nodes) in graph.bodies() {
        let users = nodes.iter().filter_map(|node| node.op.effect().cache().map(|cache| (node, cache)));
        for (node, cache) in users.filter(|(_, cache)| Some(graph.caches[*cache].block) != block) {
            let message = format!("`{}` uses the cache {cache} of another body", node.name);
            mistakes.push(Diagnostic::new("T2010", node.place, message));
        }
    }
    if graph.stage == Stage::Loaded {
        mistakes.extend(graph.caches.iter().filter_map(|(id, cache)| one_attention(graph, id, cache.block)));
    }
    mistakes
}

fn one_attention(graph: &Graph, cache: CacheId, block: BlockId) -> Option<Diagnostic> {
    let users: Vec<&Node> =
        graph.body(Some(block)).iter().filter(|node| node.op.effect().cache() == Some(cache)).collect();
    let entry = &graph.caches[cache];
    let message = format!("{} attentions use the cache `{}`", users.len(), entry.name);
    (users.len() != 1).then(|| Diagnostic::new("T2010", entry.place, message))
}

fn given(graph: &Graph) -> Option<Diagnostic> {
    let value = &graph.values[graph.gives];
    let has_rows_of_seqs = value.ty.shape.len() == 2 && value.ty.shape[0] == Dim::name(SEQS);
    let is_right = has_rows_of_seqs && value.ty.element == Element::Model && value.block.is_none();
    let message = format!("the model gives `{}`, {}", value.name, shape(&value.ty.shape));
    (!is_right).then(|| Diagnostic::new("T2012", value.place, message))
}

fn main_order(graph: &Graph) -> Vec<Diagnostic> {
    let is_repeat = |node: &&Node| matches!(node.op, Op::Repeat { .. });
    let in_blocks = graph.blocks.values().flat_map(|block| &block.nodes).filter(is_repeat);
    let mut mistakes: Vec<_> = in_blocks.map(|node| out_of_order(node, "stands in a block")).collect();
    let repeats: Vec<usize> = (0..graph.nodes.len()).filter(|&index| is_repeat(&&graph.nodes[index])).collect();
    let (Some(&first), Some(&last)) = (repeats.first(), repeats.last()) else {
        mistakes.push(Diagnostic::new("T2013", Place::default(), "the main body repeats no block"));
        return mistakes;
    };
    for pair in graph.nodes[first..=last].windows(2) {
        let carries_on = pair[1].op.operands().iter().any(|(_, value)| pair[0].outputs.contains(value));
        if !is_repeat(&&pair[1]) || !is_repeat(&&pair[0]) || !carries_on {
            mistakes.push(out_of_order(&pair[1], "stands between layers that should follow each other"));
        }
    }
    mistakes
}

fn out_of_order(node: &Node, message: &str) -> Diagnostic {
    Diagnostic::new("T2013", node.place, format!("`{}` {message}", node.name))
}

fn operators_of_passes(graph: &Graph) -> Vec<Diagnostic> {
    let nodes = graph.bodies().flat_map(|(_, nodes)| nodes).filter(|node| is_made_by_a_pass(&node.op));
    nodes.map(|node| Diagnostic::new("T2014", node.place, format!("only passes make {}", node.op.name()))).collect()
}

fn is_made_by_a_pass(op: &Op) -> bool {
    match op {
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Attention { .. }
        | Op::Add { .. }
        | Op::Join { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::Route { .. }
        | Op::ExpertLinear { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. } => false,
        Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::Columns { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => true,
    }
}
