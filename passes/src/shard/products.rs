//! The products whose results are parts, and the collectives that complete them.
//!
//! A result is a part of a sum if it is of a product that reads divided columns, or of an operator that is linear in
//! such a part ([`keeps_part`]). It is completed where no operator after it keeps it a part.

use std::collections::BTreeSet;

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::dim::{Dim, Expr, Operator};
use trefoil_ir::graph::{Graph, Node, Part, Piece, Range, Value, Weight};
use trefoil_ir::ids::{BlockId, ValueId, WeightId};
use trefoil_ir::op::Op;
use trefoil_ir::types::TensorType;

use super::RANKS;
use crate::nano_batch::{cuts_of, ranges};
use crate::plan::{Plan, Rule, Target, most_specific, suggestion};
use crate::rewrite::bodies;

/// Rules for nano-operations that the graph does not have, or that do not read divided columns in one piece.
pub(super) fn unknown_gathers(graph: &Graph, plan: &Plan) -> Vec<Diagnostic> {
    let nodes: Vec<_> = graph.bodies().flat_map(|(_, body)| body).filter(|node| is_product(node)).collect();
    let names = || nodes.iter().map(|node| node.name.as_str());
    let unknown = |rule: &Rule<Vec<usize>>| {
        let Target::Named(name) = &rule.of else { return None };
        let count = names().filter(|own| own == name).count();
        if rule.value.iter().all(|nano| *nano < count) && count > 0 {
            return None;
        }
        let message = match count {
            0 => format!("`{name}` gathers, and is no product of `{}`", graph.name),
            _ => format!("`{name}` has {count} nano-operations, from 0 on, and {:?} gather", rule.value),
        };
        Some(Diagnostic::new("T1107", rule.place, message).help(suggestion(name, names())))
    };
    plan.gather.iter().filter_map(unknown).collect()
}

fn is_product(node: &Node) -> bool {
    matches!(node.op, Op::Linear { .. })
}

/// Completes every product that has parts only, and divides that of the head.
pub(super) fn complete(graph: &mut Graph, plan: &Plan) {
    for body in bodies(graph) {
        let old = graph.body(body).to_vec();
        let mut completion = Completion { graph, plan, body, old: &old, parts: BTreeSet::new() };
        let new = old.chunk_by(|a, b| a.name == b.name).flat_map(|nodes| completion.of(nodes)).collect();
        *graph.body_mut(body) = new;
    }
}

/// The operand of which a part gives a part of the result: the operator is linear in it.
fn keeps_part(op: &Op) -> Option<ValueId> {
    match *op {
        Op::Combine { x, .. } => Some(x),
        // Some of these are linear too, but nothing is gained: their results are no narrower than what they read.
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Attention { .. }
        | Op::Join { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::Route { .. }
        | Op::ExpertLinear { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. }
        | Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::Columns { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => None,
    }
}

struct Completion<'a> {
    graph: &'a mut Graph,
    plan: &'a Plan,
    body: Option<BlockId>,
    /// The body as it was.
    old: &'a [Node],
    /// Values that are parts of sums and left so.
    parts: BTreeSet<ValueId>,
}

/// A product before it is divided.
#[derive(Clone, Copy)]
struct Product {
    x: ValueId,
    weight: WeightId,
    bias: Option<WeightId>,
    out: ValueId,
}

impl Completion<'_> {
    /// The nano-operations of a node, with the collectives that complete them.
    fn of(&mut self, nodes: &[Node]) -> Vec<Node> {
        let [out] = nodes[0].outputs[..] else { return nodes.to_vec() };
        let gives_part = self.gives_part(&nodes[0].op);
        if let Op::Linear { x, weight, bias } = nodes[0].op {
            let product = Product { x, weight, bias, out };
            return match (gives_part, out == self.graph.gives) {
                (true, _) => self.completed(nodes, product),
                (false, true) => self.with_columns_gathered(nodes, product),
                (false, false) => nodes.to_vec(),
            };
        }
        if gives_part && self.stays_part(out) {
            self.parts.insert(out);
        } else if gives_part {
            let (parts, sums) = self.summed(nodes, out);
            return [parts, sums].concat();
        }
        nodes.to_vec()
    }

    /// Whether the operator's result is a part of a sum.
    fn gives_part(&self, op: &Op) -> bool {
        let reads_columns = if let Op::Linear { weight, .. } | Op::ExpertLinear { weight, .. } = op {
            self.graph.weights[*weight].part == Part::Columns
        } else {
            false
        };
        reads_columns || keeps_part(op).is_some_and(|x| self.parts.contains(&x))
    }

    /// Whether all that read a value keep it a part.
    fn stays_part(&self, value: ValueId) -> bool {
        let reads = |node: &&Node| node.op.operands().iter().any(|(_, operand)| *operand == value);
        let mut readers = self.old.iter().filter(reads).peekable();
        readers.peek().is_some() && readers.all(|node| keeps_part(&node.op) == Some(value))
    }

    /// Nano-operations that give parts, and the sums of those.
    fn summed(&mut self, nodes: &[Node], out: ValueId) -> (Vec<Node>, Vec<Node>) {
        let spans: Vec<_> = nodes.iter().filter_map(|node| node.range).collect();
        let part = self.value(&nodes[0], "part", self.graph.values[out].ty.clone());
        let parts = nodes.iter().map(|node| Node { outputs: vec![part], ..node.clone() });
        let sum = Op::AllReduce { x: part, ranks: Dim::name(RANKS) };
        (parts.collect(), self.collectives(&nodes[0], "sum", &sum, out, &spans))
    }

    fn completed(&mut self, nodes: &[Node], product: Product) -> Vec<Node> {
        let (gathering, summing): (Vec<_>, Vec<_>) =
            nodes.iter().cloned().enumerate().partition(|(nano, _)| self.gathers(&nodes[0], product, *nano));
        let mut all: Vec<(usize, Node)> = vec![];
        let (mut before, mut after) = (vec![], vec![]);
        if !gathering.is_empty() {
            let spans: Vec<_> = gathering.iter().filter_map(|(_, node)| node.range).collect();
            let (op, input) = self.gathered_input(&nodes[0], product);
            let columns = self.columns_of(&nodes[0], product);
            before = self.collectives(&nodes[0], "in", &op, input, &spans);
            let weight = self.wide_weight(product);
            let bias = product.bias.map(|bias| self.part_of_bias(bias));
            let op = Op::Linear { x: input, weight, bias };
            all.extend(
                gathering
                    .into_iter()
                    .map(|(nano, node)| (nano, Node { op: op.clone(), outputs: vec![columns], ..node })),
            );
            let gather = Op::AllGather { x: columns, ranks: Dim::name(RANKS) };
            after.extend(self.collectives(&nodes[0], "out", &gather, product.out, &spans));
        }
        if !summing.is_empty() {
            let (numbers, summing): (Vec<_>, Vec<_>) = summing.into_iter().unzip();
            let (parts, sums) = self.summed(&summing, product.out);
            all.extend(numbers.into_iter().zip(parts));
            after.extend(sums);
        }
        all.sort_by_key(|(nano, _)| *nano);
        before.into_iter().chain(all.into_iter().map(|(_, node)| node)).chain(after).collect()
    }

    /// The product of the head: whatever it reads is whole, its weight is divided by rows.
    fn with_columns_gathered(&mut self, nodes: &[Node], product: Product) -> Vec<Node> {
        let spans: Vec<_> = nodes.iter().filter_map(|node| node.range).collect();
        let columns = self.columns_of(&nodes[0], product);
        let weight = self.rows_of_weight(product.weight, Dim::clone);
        let bias = product.bias.map(|bias| self.part_of_bias(bias));
        let op = Op::Linear { x: product.x, weight, bias };
        let products = nodes.iter().map(|node| Node { op: op.clone(), outputs: vec![columns], ..node.clone() });
        let mut all: Vec<_> = products.collect();
        let gather = Op::AllGather { x: columns, ranks: Dim::name(RANKS) };
        all.extend(self.collectives(&nodes[0], "out", &gather, product.out, &spans));
        all
    }

    fn gathers(&self, node: &Node, product: Product, nano: usize) -> bool {
        let rule = most_specific(self.plan.gather.iter(), node);
        product.bias.is_some() || rule.is_some_and(|rule| rule.value.contains(&nano))
    }

    fn gathered_input(&mut self, node: &Node, product: Product) -> (Op, ValueId) {
        let mut ty = self.graph.values[product.x].ty.clone();
        ty.shape[1] = ty.shape[1].times(&Dim::name(RANKS));
        let value = self.value(node, "in", ty);
        (Op::AllGather { x: product.x, ranks: Dim::name(RANKS) }, value)
    }

    /// The value of a rank's own columns of the result.
    fn columns_of(&mut self, node: &Node, product: Product) -> ValueId {
        let mut ty = self.graph.values[product.out].ty.clone();
        self.require_whole(&ty.shape[1].clone());
        ty.shape[1] = ty.shape[1].over(&Dim::name(RANKS));
        self.value(node, "columns", ty)
    }

    /// The product's weight with all columns and a rank's own rows.
    fn wide_weight(&mut self, product: Product) -> WeightId {
        self.rows_of_weight(product.weight, |columns| columns.times(&Dim::name(RANKS)))
    }

    fn rows_of_weight(&mut self, weight: WeightId, columns: impl Fn(&Dim) -> Dim) -> WeightId {
        let own = &self.graph.weights[weight];
        let columns = columns(&own.columns);
        let of_rank = |piece: &Piece| {
            let rows = piece.rows.over(&Dim::name(RANKS));
            Piece { rows, columns: columns.clone(), ..piece.clone() }
        };
        let pieces = own.pieces.iter().map(of_rank).collect();
        let divided = Weight { pieces, columns: columns.clone(), part: Part::Rows, ..own.clone() };
        self.graph.weights.push(divided)
    }

    fn part_of_bias(&mut self, bias: WeightId) -> WeightId {
        let own = &self.graph.weights[bias];
        let of_rank = |columns: &Dim| columns.over(&Dim::name(RANKS));
        let pieces = own.pieces.iter().map(|piece| Piece { columns: of_rank(&piece.columns), ..piece.clone() });
        let (pieces, columns) = (pieces.collect(), of_rank(&own.columns));
        let divided = Weight { pieces, columns, part: Part::Columns, ..own.clone() };
        self.graph.weights.push(divided)
    }

    /// A size that a rank has a stretch of is defined, so that a rest is told by name.
    fn require_whole(&mut self, size: &Dim) {
        let [name] = size.names()[..] else { return };
        let own = format!("{name}_of_rank");
        if *size == Dim::name(name) && self.graph.dims.values().all(|dim| dim.name != own) {
            let part = Expr::Binary(Operator::Div, Expr::Name(name.into()).into(), Expr::Name(RANKS.into()).into());
            super::define(self.graph, &own, part);
        }
    }

    fn value(&mut self, node: &Node, suffix: &str, ty: TensorType) -> ValueId {
        let name = crate::rewrite::free_name(self.graph, self.body, &format!("{}_{suffix}", node.name));
        self.graph.values.push(Value { name, block: self.body, ty, place: node.place })
    }

    /// A collective on the rows of `spans`, cut as the plan says for it, or else like the product.
    fn collectives(&self, node: &Node, suffix: &str, op: &Op, output: ValueId, spans: &[Range]) -> Vec<Node> {
        let name = format!("{}_{suffix}", node.name);
        let collective = Node { name, op: op.clone(), outputs: vec![output], ..node.clone() };
        let has_rule = self.plan.cuts.iter().any(|rule| !rule.of.is_everything() && fits(&rule.of, &collective));
        let spans = if has_rule { self.cut_anew(&collective, spans) } else { spans.to_vec() };
        spans.into_iter().map(|range| Node { range: Some(range), ..collective.clone() }).collect()
    }

    fn cut_anew(&self, collective: &Node, spans: &[Range]) -> Vec<Range> {
        let cuts = cuts_of(self.plan, self.body, collective);
        let stretches = spans.chunk_by(|a, b| a.to == b.from);
        let merged = stretches.map(|stretch| Range { from: stretch[0].from, to: stretch[stretch.len() - 1].to });
        let inside = |whole: Range| {
            let own: Vec<_> = cuts.iter().copied().filter(|cut| whole.from < *cut && *cut < whole.to).collect();
            ranges(whole, &own)
        };
        merged.flat_map(inside).collect()
    }
}

fn fits(target: &Target, node: &Node) -> bool {
    matches!(target, Target::Named(name) if *name == node.name || name == node.op.name())
}
