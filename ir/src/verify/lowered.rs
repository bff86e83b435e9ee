//! Rules from stage Lowered on: T2101 to T2103.

use std::collections::BTreeSet;

use crate::depend::{self, Cause};
use crate::diag::Diagnostic;
use crate::graph::{Graph, Node};
use crate::ids::{CacheId, ValueId};
use crate::op::{Effect, Op};

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (_, nodes) in graph.bodies() {
        mistakes.extend(nodes.iter().filter_map(left_over));
        mistakes.extend(late_writes(graph, nodes));
    }
    for (id, cache) in graph.caches.iter() {
        let users: Vec<&Node> =
            graph.body(Some(cache.block)).iter().filter(|node| node.op.effect().cache() == Some(id)).collect();
        if users.iter().any(|node| matches!(node.op, Op::Attention { .. })) {
            continue;
        }
        if !users.iter().any(|node| matches!(node.op, Op::KvWrite { .. })) {
            let message = format!("nothing writes the cache `{}`", cache.name);
            mistakes.push(Diagnostic::new("T2102", cache.place, message));
        }
        mistakes.extend(unpaired(graph, id, &users));
    }
    mistakes
}

fn left_over(node: &Node) -> Option<Diagnostic> {
    let message = format!("`{}` is still an attention that no device has", node.name);
    matches!(node.op, Op::Attention { .. }).then(|| Diagnostic::new("T2101", node.place, message))
}

fn late_writes(graph: &Graph, nodes: &[Node]) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (index, reader) in nodes.iter().enumerate().filter(|(_, node)| reads_cache(node)) {
        for write in &nodes[index..] {
            if let Some(Cause::Cache(cache)) = depend::cause(graph, write, reader) {
                let name = &graph.caches[cache].name;
                let message = format!("`{}` reads the cache `{name}` before `{}` writes it", reader.name, write.name);
                mistakes.push(Diagnostic::new("T2102", reader.place, message));
            }
        }
    }
    mistakes
}

fn reads_cache(node: &Node) -> bool {
    matches!(node.op.effect(), Effect::ReadOwnRows(_) | Effect::ReadRowsUpTo(_))
}

/// What each of the two attentions reads and gives must be the same.
fn unpaired(graph: &Graph, cache: CacheId, users: &[&Node]) -> Vec<Diagnostic> {
    let pairs = |is_one: fn(&Op) -> bool| -> BTreeSet<(ValueId, ValueId)> {
        let nodes = users.iter().filter(|node| is_one(&node.op));
        nodes.filter_map(|node| Some((node.op.operands().first()?.1, *node.outputs.first()?))).collect()
    };
    let decode = pairs(|op| matches!(op, Op::DecodeAttention { .. }));
    let prefill = pairs(|op| matches!(op, Op::PrefillAttention { .. }));
    let unmatched: BTreeSet<_> = decode.symmetric_difference(&prefill).map(|(_, given)| given).collect();
    let unmatched = unmatched.into_iter().map(|given| {
        let message = format!("only one of decode and prefill attention gives `{}`", graph.values[*given].name);
        Diagnostic::new("T2103", graph.values[*given].place, message)
    });
    let mut mistakes: Vec<_> = unmatched.collect();
    if decode.len() != 1 && mistakes.is_empty() {
        let entry = &graph.caches[cache];
        let message = format!("{} attentions read the cache `{}`", decode.len(), entry.name);
        mistakes.push(Diagnostic::new("T2103", entry.place, message));
    }
    mistakes
}
