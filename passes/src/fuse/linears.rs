//! Linears that read the same value.

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Node, Value, Weight, WeightRole};
use trefoil_ir::ids::{BlockId, ValueId, WeightId};
use trefoil_ir::op::Op;
use trefoil_ir::types::TensorType;

use crate::rewrite::{free_name, joined_name, leaves_body};
use crate::touch::width_of;

pub(super) fn fuse(graph: &mut Graph, body: Option<BlockId>) {
    let mut at = 0;
    while at < graph.body(body).len() {
        let siblings = siblings_of(graph, body, at);
        if siblings.len() > 1 {
            join(graph, body, &siblings);
        }
        at += 1;
    }
}

/// The numbers of the linears that can be joined with node `at`, itself among them; none if it is no such linear.
fn siblings_of(graph: &Graph, body: Option<BlockId>, at: usize) -> Vec<usize> {
    let nodes = graph.body(body);
    let Some(first) = Key::of(graph, &nodes[at]) else { return vec![] };
    (at..nodes.len()).filter(|number| Key::of(graph, &nodes[*number]).as_ref() == Some(&first)).collect()
}

/// What joined linears have in common.
#[derive(PartialEq)]
struct Key {
    x: ValueId,
    columns: Dim,
    block: Option<BlockId>,
    has_bias: bool,
}

impl Key {
    fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let Op::Linear { x, weight, bias } = node.op else { return None };
        if leaves_body(graph, *node.outputs.first()?) {
            return None;
        }
        let weight = &graph.weights[weight];
        Some(Self { x, columns: weight.columns.clone(), block: weight.block, has_bias: bias.is_some() })
    }
}

/// Puts one linear in place of the first of `siblings` and windows of its columns after it.
fn join(graph: &mut Graph, body: Option<BlockId>, siblings: &[usize]) {
    let old: Vec<Node> = siblings.iter().map(|number| graph.body(body)[*number].clone()).collect();
    let joint = joint_linear(graph, body, &old);
    let columns = windows(graph, joint.outputs[0], &old);
    let nodes = graph.body_mut(body);
    for number in siblings[1..].iter().rev() {
        nodes.remove(*number);
    }
    nodes.splice(siblings[0]..=siblings[0], std::iter::once(joint).chain(columns));
}

fn joint_linear(graph: &mut Graph, body: Option<BlockId>, old: &[Node]) -> Node {
    let first = &old[0];
    let name = free_name(graph, body, &joined_name(old.iter().map(|node| node.name.as_str())));
    let width = old.iter().fold(Dim::constant(0), |sum, node| sum.plus(&width_of(graph, node.outputs[0])));
    let rows = graph.values[first.outputs[0]].ty.shape[0].clone();
    let ty = TensorType { element: graph.values[first.outputs[0]].ty.element, shape: vec![rows, width] };
    let value = graph.values.push(Value { name: name.clone(), block: body, ty, place: first.place });
    let parts = |part: fn(&Op) -> Option<WeightId>| old.iter().filter_map(|node| part(&node.op)).collect::<Vec<_>>();
    let op = Op::Linear {
        x: first.op.operands()[0].1,
        weight: stack(graph, &parts(matrix_of)).unwrap_or_else(|| first.op.weights()[0]),
        bias: stack(graph, &parts(bias_of)),
    };
    Node { name, op, outputs: vec![value], ..first.clone() }
}

fn matrix_of(op: &Op) -> Option<WeightId> {
    if let Op::Linear { weight, .. } = *op { Some(weight) } else { None }
}

fn bias_of(op: &Op) -> Option<WeightId> {
    if let Op::Linear { bias, .. } = *op { bias } else { None }
}

/// A weight of the pieces of several: matrices one below the other, vectors end to end.
fn stack(graph: &mut Graph, weights: &[WeightId]) -> Option<WeightId> {
    let first = &graph.weights[*weights.first()?];
    let all = weights.iter().map(|weight| &graph.weights[*weight]);
    let columns = match first.role {
        WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => first.columns.clone(),
        WeightRole::Vector | WeightRole::ExpertVectors => {
            all.clone().fold(Dim::constant(0), |sum, weight| sum.plus(&weight.columns))
        }
    };
    let pieces = all.flat_map(|weight| weight.pieces.clone()).collect();
    let stacked = Weight { pieces, columns, ..first.clone() };
    Some(graph.weights.push(stacked))
}

/// The old values, as windows of the columns of the joint one.
fn windows(graph: &Graph, joint: ValueId, old: &[Node]) -> Vec<Node> {
    let mut from = Dim::constant(0);
    let window = |node: &Node| {
        let width = width_of(graph, node.outputs[0]);
        let next = from.plus(&width);
        let op = Op::Columns { x: joint, from: std::mem::replace(&mut from, next), width };
        Node { op, ..node.clone() }
    };
    old.iter().map(window).collect()
}
