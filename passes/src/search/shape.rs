//! How a layer can be cut: the number and size of nano-batches, and the form of the products that sum over ranks.
//!
//! Every shape has one main cut, or none. What an attention over the cache waits for, and that attention, may be cut
//! once more on either side of it, since there compute, memory and network stand side by side (NanoFlow, figure 6);
//! the last all-reduce of the second nano-batch may be cut too, with what leads from there to the next layer's first
//! products, which then begin before all of it is summed.

use trefoil_ir::diag::Place;
use trefoil_ir::graph::{Graph, Point};
use trefoil_ir::ids::{BlockId, Id, PointId};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Group, Stream, Streams};

use crate::cost::Mix;
use crate::plan::{Order, Plan, Rule, Suits, Target};

/// One way to cut a layer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shape {
    /// Where the batch is cut, in rows, rising.
    points: Vec<u32>,
    /// The points that cut everything, by number from 1.
    main: Vec<usize>,
    /// Whether the first nano-batch gathers what attention gives, rather than summing products of it.
    gathers: bool,
    /// Whether the last sum of the second nano-batch is cut, with the additions and norms up to the next products.
    cuts_sum: bool,
}

/// What shapes of a graph have in common.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Nodes that stand in a layer up to the attention, cut finer than the others.
    attention: Vec<String>,
    /// Products of what attention gives.
    projections: Vec<String>,
    /// What the layer sums over ranks last.
    last: Option<String>,
    /// What stands between that and the next layer's first products.
    seam: Vec<String>,
    pub(super) ranks: u32,
    pub(super) device: String,
    pub(super) name: String,
}

impl Frame {
    /// Of a graph at stage Lowered, fused.
    pub(super) fn of(graph: &Graph, ranks: u32, device: &str, name: &str) -> Self {
        let blocks: Vec<BlockId> = graph.blocks.ids().collect();
        let each = |names: fn(&Graph, BlockId) -> Vec<String>| {
            let mut all: Vec<String> = blocks.iter().flat_map(|block| names(graph, *block)).collect();
            all.sort();
            all.dedup();
            all
        };
        Self {
            attention: each(up_to_attention),
            projections: each(after_attention),
            last: each(last_summed).into_iter().next(),
            seam: each(between_layers),
            ranks,
            device: device.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Of no graph: all that an uncut plan needs.
    pub(super) fn named(name: &str, ranks: u32) -> Self {
        let (device, name) = (String::new(), name.to_owned());
        Self { attention: vec![], projections: vec![], last: None, seam: vec![], ranks, device, name }
    }

    /// All shapes worth a try for a batch, by multiples of `cut_rows`.
    pub(super) fn shapes(&self, mix: &Mix, cut_rows: u32) -> Vec<Shape> {
        let tokens = mix.tokens();
        let mut shapes = vec![Shape::uncut()];
        let forms: &[(bool, bool)] = if self.ranks > 1 {
            &[(false, false), (false, true), (true, false), (true, true)]
        } else {
            &[(false, false)]
        };
        for main in mains(mix, cut_rows) {
            for finer in [[false, false], [false, true], [true, false], [true, true]] {
                for (gathers, cuts_sum) in forms {
                    shapes.extend(shape(tokens, cut_rows, main, finer, *gathers, *cuts_sum));
                }
            }
        }
        shapes.dedup();
        shapes
    }

    /// The plan of a shape, its launches as written, on these streams.
    pub(super) fn plan(&self, shape: &Shape, cut_rows: u32, streams: Streams) -> Plan {
        let rule = |name: &str, value| Rule { of: target(name), value, place: Place::default() };
        let numbers = |points: &[usize]| points.iter().map(|number| PointId::new(*number)).collect::<Vec<_>>();
        let all: Vec<usize> = (1..=shape.points.len()).collect();
        let mut cuts = vec![rule("*", numbers(&shape.main))];
        if all != shape.main {
            cuts.extend(self.attention.iter().map(|name| rule(name, numbers(&all))));
        }
        if let (true, Some(last)) = (shape.cuts_sum, &self.last) {
            let first_main = shape.main.first().copied().unwrap_or(0);
            let later: Vec<usize> = all.iter().copied().filter(|number| *number >= first_main).collect();
            let sum = format!("{last}_sum");
            cuts.extend([&sum].into_iter().chain(&self.seam).map(|name| rule(name, numbers(&later))));
        }
        let gathering = self.projections.iter().filter(|_| shape.gathers);
        Plan {
            name: self.name.clone(),
            suits: Suits::default(),
            device: Some(self.device.clone()),
            ranks: (self.ranks > 1).then_some(self.ranks),
            points: shape.points.iter().map(|rows| Point::Tokens(*rows)).collect(),
            multiple_of: cut_rows,
            cuts,
            streams,
            place: vec![],
            order: Order::AsWritten,
            shares: vec![],
            gather: gathering.map(|name| Rule { of: target(name), value: vec![0], place: Place::default() }).collect(),
        }
    }

    /// A stream for each resource that there is.
    pub(super) fn streams(&self) -> Streams {
        let stream = |name: &str, group, share| Stream { name: name.to_owned(), group, share };
        let network = (self.ranks > 1).then(|| stream("network", Group::Network, 0.2));
        let always = [stream("compute", Group::Compute, 1.0), stream("memory", Group::Memory, 0.4)];
        // For what is short: norms, rotations, writes to the cache.
        let other = stream("other", Group::Memory, 0.4);
        always.into_iter().chain(network).chain([other]).collect()
    }

    /// One stream for everything.
    pub(super) fn one_stream() -> Streams {
        [Stream { name: "compute".to_owned(), group: Group::Compute, share: 1.0 }].into_iter().collect()
    }
}

impl Shape {
    /// One nano-batch.
    pub(super) fn uncut() -> Self {
        Self { points: vec![], main: vec![], gathers: false, cuts_sum: false }
    }

    /// In words, for progress.
    pub(super) fn describe(&self) -> String {
        if self.points.is_empty() {
            return "uncut".to_owned();
        }
        let points: Vec<_> = self.points.iter().map(u32::to_string).collect();
        let forms = [(self.gathers, ", gathering"), (self.cuts_sum, ", last sum in two")];
        let forms: String = forms.into_iter().filter(|(has, _)| *has).map(|(_, text)| text).collect();
        format!("cut at {}{forms}", points.join(", "))
    }
}

fn target(name: &str) -> Target {
    if name == "*" { Target::Everything } else { Target::Named(name.to_owned()) }
}

/// Rows of the main cut: a quarter to three quarters of the batch, and where decode rows end.
fn mains(mix: &Mix, cut_rows: u32) -> Vec<u32> {
    let tokens = mix.tokens();
    let (first, last) = (tokens / 4 / cut_rows, (tokens * 3).div_ceil(4 * cut_rows));
    let step = (last - first).div_ceil(10).max(1);
    let mut mains: Vec<u32> = (first..=last).step_by(step as usize).map(|number| number * cut_rows).collect();
    mains.push(mix.decode / cut_rows * cut_rows);
    mains.retain(|rows| *rows > 0 && *rows < tokens);
    mains.sort_unstable();
    mains.dedup();
    mains
}

/// `finer` says for the part before the main cut, and the one after it, whether attention is cut there once more.
fn shape(tokens: u32, cut_rows: u32, main: u32, finer: [bool; 2], gathers: bool, cuts_sum: bool) -> Option<Shape> {
    let half = |from: u32, to: u32| from + (to - from) / 2 / cut_rows * cut_rows;
    let inner = [half(0, main), half(main, tokens)].into_iter().zip(finer).filter(|(_, is_cut)| *is_cut);
    let mut points: Vec<u32> = inner.map(|(rows, _)| rows).chain([main]).collect();
    points.sort_unstable();
    let rises = points.windows(2).all(|pair| pair[0] < pair[1]) && points[0] > 0;
    let at = points.iter().position(|rows| *rows == main)? + 1;
    let sum_can_be_cut = finer[1] || !cuts_sum;
    (rises && sum_can_be_cut).then_some(Shape { points, main: vec![at], gathers, cuts_sum })
}

/// The nodes of a block that a decode attention waits for, from the norm on, and the attention.
fn up_to_attention(graph: &Graph, block: BlockId) -> Vec<String> {
    let body = graph.body(Some(block));
    let is_attention = |op: &Op| matches!(op, Op::DecodeAttention { .. } | Op::KvWrite { .. });
    let mut wanted: Vec<_> =
        body.iter().filter(|node| is_attention(&node.op)).flat_map(|node| node.op.operands()).collect();
    let mut names: Vec<String> =
        body.iter().filter(|node| is_attention(&node.op)).map(|node| node.name.clone()).collect();
    while let Some((_, value)) = wanted.pop() {
        let Some(node) = body.iter().find(|node| node.outputs.contains(&value)) else { continue };
        let is_norm =
            matches!(node.op, Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::AddRmsNorm { .. } | Op::Add { .. });
        if is_norm || names.contains(&node.name) {
            continue;
        }
        wanted.extend(node.op.operands());
        if node.op.launches() {
            names.push(node.name.clone());
        }
    }
    names
}

/// The products that read what attention gives.
fn after_attention(graph: &Graph, block: BlockId) -> Vec<String> {
    let body = graph.body(Some(block));
    let given = body.iter().filter(|node| matches!(node.op, Op::DecodeAttention { .. })).flat_map(|node| &node.outputs);
    let given: Vec<_> = given.copied().collect();
    let reads = |op: &Op| matches!(op, Op::Linear { x, .. } if given.contains(x));
    body.iter().filter(|node| reads(&node.op)).map(|node| node.name.clone()).collect()
}

/// What a layer sums over ranks last: its last product, or what combines those of experts.
fn last_summed(graph: &Graph, block: BlockId) -> Vec<String> {
    let is_summed = |op: &Op| matches!(op, Op::Linear { .. } | Op::Combine { .. });
    let last = graph.body(Some(block)).iter().rfind(|node| is_summed(&node.op));
    last.map(|node| node.name.clone()).into_iter().collect()
}

/// Norms of what a layer takes, and the addition that gives its result.
fn between_layers(graph: &Graph, block: BlockId) -> Vec<String> {
    let own = &graph.blocks[block];
    let is_of_seam = |op: &Op, gives: bool| match op {
        Op::RmsNorm { x, .. } | Op::LayerNorm { x, .. } => *x == own.takes,
        Op::Add { .. } | Op::AddRmsNorm { .. } => gives,
        Op::Embed { .. }
        | Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Attention { .. }
        | Op::Join { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::Route { .. }
        | Op::ExpertLinear { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. }
        | Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::Columns { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => false,
    };
    let seam = own.nodes.iter().filter(|node| is_of_seam(&node.op, node.outputs.contains(&own.gives)));
    seam.map(|node| node.name.clone()).collect()
}
