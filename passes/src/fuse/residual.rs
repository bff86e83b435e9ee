//! `Add` and the `RmsNorm` of its sum.

use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::BlockId;
use trefoil_ir::op::Op;

pub(super) fn fuse(graph: &mut Graph, body: Option<BlockId>) {
    let nodes = graph.body_mut(body);
    let mut at = 0;
    while at < nodes.len() {
        if let Some((norm, fused)) = fused_with_norm(nodes, at) {
            nodes.remove(norm);
            nodes[at] = fused;
        }
        at += 1;
    }
}

/// The number of the first norm of the sum that node `at` gives, and the node that does both. It is named for the
/// norm, whose value most readers of the graph look for, and stands where the sum stood.
fn fused_with_norm(nodes: &[Node], at: usize) -> Option<(usize, Node)> {
    let add = &nodes[at];
    let Op::Add { a, b } = add.op else { return None };
    let sum = *add.outputs.first()?;
    nodes.iter().enumerate().skip(at + 1).find_map(|(number, norm)| {
        let Op::RmsNorm { x, weight: Some(weight), eps, group: None } = norm.op else { return None };
        let outputs = add.outputs.iter().chain(&norm.outputs).copied().collect();
        let fused = Node { op: Op::AddRmsNorm { a, b, weight, eps }, outputs, ..norm.clone() };
        (x == sum).then_some((number, fused))
    })
}
