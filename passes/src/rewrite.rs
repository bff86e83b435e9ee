//! The few means by which passes change a graph.

use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::{BlockId, Id, ValueId, WeightId};

use crate::carry::families;

/// The main body and all blocks, to be gone through while the graph changes.
pub(crate) fn bodies(graph: &Graph) -> Vec<Option<BlockId>> {
    graph.bodies().map(|(body, _)| body).collect()
}

/// Puts in place of each node of a body, in order, what `replace` gives for it.
pub(crate) fn replace_nodes(
    graph: &mut Graph,
    body: Option<BlockId>,
    mut replace: impl FnMut(&mut Graph, Node) -> Vec<Node>,
) {
    let old = std::mem::take(graph.body_mut(body));
    let new = old.into_iter().flat_map(|node| replace(graph, node)).collect();
    *graph.body_mut(body) = new;
}

/// Takes weights that no node reads out of the table, so that nobody loads them, and numbers the others anew.
pub(crate) fn drop_unread_weights(graph: &mut Graph) {
    let read =
        |weight: WeightId| graph.bodies().flat_map(|(_, body)| body).any(|node| node.op.weights().contains(&weight));
    let kept: Vec<WeightId> = graph.weights.ids().filter(|weight| read(*weight)).collect();
    for body in bodies(graph) {
        for weight in graph.body_mut(body).iter_mut().flat_map(|node| node.op.weights_mut()) {
            *weight = kept.iter().position(|own| own == weight).map_or(*weight, WeightId::new);
        }
    }
    graph.weights = kept.into_iter().map(|weight| graph.weights[weight].clone()).collect();
}

/// A name that neither a node nor a value of the body has yet: `wanted`, or `wanted` with a number.
pub(crate) fn free_name(graph: &Graph, body: Option<BlockId>, wanted: &str) -> String {
    let is_taken = |name: &str| {
        graph.body(body).iter().any(|node| node.name == name)
            || graph.values.values().any(|value| value.block == body && value.name == name)
    };
    let numbered = (2..).map(|number| format!("{wanted}{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_else(|| wanted.to_owned())
}

/// One name for several: `qkv` of single letters, `gate_up` of longer ones.
pub(crate) fn joined_name<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let separator = if names.clone().all(|name| name.chars().count() == 1) { "" } else { "_" };
    names.collect::<Vec<_>>().join(separator)
}

/// Whether something outside the nodes' operands takes the value: the body's result, or a repeat's first layer.
pub(crate) fn leaves_body(graph: &Graph, value: ValueId) -> bool {
    let is_given = graph.gives == value || graph.blocks.values().any(|block| block.gives == value);
    let carries = families(graph);
    is_given || carries.iter().any(|family| family.contains(&value))
}
