//! The layers of a graph as the search sees them: launches with their costs, and which must follow which.
//!
//! A [`Stack`] is made from a graph at stage Grouped, before launches are ordered. An order and shares, the [`Choice`],
//! turn it into the simulator's tasks. Nothing is compiled for a choice: what `sync` would make into events are the same
//! dependencies, since it adds no others.

use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::{BlockId, Id};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Group, Section, Step};

use crate::cost::{Load, Mix, Model};
use crate::profile::{Oversubscribed, Profile, ResourceKey};
use crate::simulate::engine::{self, Task};
use crate::touch::{Layout, Thing, Touch, touches};

/// One launch of a layer.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) node: String,
    pub(super) nano: usize,
    /// The stream it is on unless the choice says otherwise.
    pub(super) stream: usize,
    /// By the number of a stream.
    pub(super) may_be_on: Vec<bool>,
    pub(super) load: Load,
    /// Whether its share is to be chosen: products may take what the others leave.
    pub(super) has_share: bool,
    /// Seconds at the best rate its kernel has.
    pub(super) least_seconds: f64,
    touches: Vec<Touch>,
}

/// The launches of a kind of layer, in the order of the text.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) name: String,
    pub(super) pieces: Vec<Piece>,
    /// For each launch, those of its layer that it must follow; all before it in the text.
    pub(super) within: Vec<Vec<usize>>,
    /// For each launch, those of the layer before that it must follow.
    across: Vec<Vec<usize>>,
}

/// A repeat: its kinds of layer in turn, and how many layers.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub(super) bodies: Vec<Body>,
    pub(super) num_streams: usize,
    pub(super) num_layers: usize,
}

/// What is to be found for a stack: an order of the launches of each body, and a share for each launch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// For each body, the numbers of its launches.
    pub(super) orders: Vec<Vec<usize>>,
    /// For each body, the shares by the numbers of its launches.
    pub(super) shares: Vec<Vec<f32>>,
    /// For each body, the streams by the numbers of its launches; one for all launches of a node.
    pub(super) streams: Vec<Vec<usize>>,
}

impl Body {
    fn find(&self, node: &str, nano: usize) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.node == node && piece.nano == nano)
    }
}

impl Stack {
    /// The first repeat of a graph at stage Grouped.
    pub(super) fn of(model: &Model<'_>, mix: &Mix) -> Option<Self> {
        let graph = model.graph;
        let repeat = graph.nodes.iter().find_map(|node| {
            let Op::Repeat { blocks, times, .. } = &node.op else { return None };
            Some((blocks, model.bound.size(times)?))
        });
        let (blocks, num_layers) = repeat?;
        let layout = Layout::apart(graph);
        let mut bodies: Vec<Body> = blocks.iter().map(|block| body(model, mix, &layout, *block)).collect();
        for at in 0..bodies.len() {
            let before = (at + bodies.len() - 1) % bodies.len();
            bodies[at].across = across(&layout, &bodies[before], &bodies[at]);
        }
        let num_streams = graph.streams.as_ref().map_or(1, |streams| streams.len());
        Some(Self { bodies, num_streams, num_layers: num_layers as usize })
    }

    /// Seconds of a layer in the middle of the model, where layers follow each other in step.
    pub(super) fn period(&self, profile: &Profile, choice: &Choice) -> f64 {
        let turn = self.bodies.len();
        let (warm, measured) = (3 * turn, 6 * turn);
        let (tasks, layers) = self.tasks(choice, warm + measured);
        let run = engine::run(profile, &tasks, false);
        let end_of = |layer: usize| {
            let spans = run.spans.iter().zip(&layers).filter(|(_, own)| **own < layer);
            spans.map(|(span, _)| span.end).fold(0.0, f64::max)
        };
        (end_of(warm + measured) - end_of(warm)) / measured as f64
    }

    /// The tasks of so many layers, and the layer of each.
    fn tasks(&self, choice: &Choice, num_layers: usize) -> (Vec<Task>, Vec<usize>) {
        let mut tasks: Vec<Task> = vec![];
        let mut layers = vec![];
        let mut before: Vec<usize> = vec![];
        for layer in 0..num_layers {
            let number = layer % self.bodies.len();
            let number_before = (layer + self.bodies.len() - 1) % self.bodies.len();
            let body = &self.bodies[number];
            let mut own = vec![usize::MAX; body.pieces.len()];
            for piece in &choice.orders[number] {
                let within = body.within[*piece].iter().map(|earlier| own[*earlier]);
                // An event keeps its latest record: what stands before in the text is waited for in this layer.
                let latest = |earlier: &usize| own.get(*earlier).copied().filter(|task| *task != usize::MAX);
                let of_before = |earlier: &usize| before.get(*earlier).copied();
                let same_text = number_before == number;
                let across = body.across[*piece].iter();
                let across =
                    across.filter_map(|earlier| latest(earlier).filter(|_| same_text).or_else(|| of_before(earlier)));
                let after = within.chain(across).collect();
                own[*piece] = tasks.len();
                let load = body.pieces[*piece].load;
                let (share, stream) = (f64::from(choice.shares[number][*piece]), choice.streams[number][*piece]);
                tasks.push(Task { stream, resource: load.bound_by, share, load, after });
                layers.push(layer);
            }
            before = own;
        }
        (tasks, layers)
    }

    /// All launches in the order of a graph's schedule, or of the text where there is none.
    pub(super) fn as_scheduled(&self, graph: &Graph, share_of: impl Fn(&Piece) -> f32) -> Choice {
        let mut choice = self.as_written(share_of);
        let sections = graph.schedule.iter().flat_map(|schedule| &schedule.sections);
        let texts = sections.filter_map(|section| match section {
            Section::Repeat { blocks, .. } => Some(blocks),
            Section::Once(_) => None,
        });
        for ((body, order), (_, steps)) in self.bodies.iter().zip(&mut choice.orders).zip(texts.flatten()) {
            let numbered = steps.iter().filter_map(|step| match step {
                Step::Launch(launch) => body.find(&launch.node, launch.nano),
                Step::Record { .. } | Step::Wait { .. } => None,
            });
            *order = numbered.collect();
        }
        choice
    }

    /// All launches in the order of the text.
    pub(super) fn as_written(&self, share_of: impl Fn(&Piece) -> f32) -> Choice {
        let orders = self.bodies.iter().map(|body| (0..body.pieces.len()).collect()).collect();
        let shares = self.bodies.iter().map(|body| body.pieces.iter().map(&share_of).collect()).collect();
        let streams = self.bodies.iter().map(|body| body.pieces.iter().map(|piece| piece.stream).collect()).collect();
        Choice { orders, shares, streams }
    }

    /// The least seconds that a layer's launches need of each resource, in the order compute, memory, network.
    pub(super) fn least_seconds(&self) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for piece in self.bodies.iter().flat_map(|body| &body.pieces) {
            sums[piece.load.bound_by as usize] += piece.least_seconds;
        }
        sums.map(|sum| sum / self.bodies.len() as f64)
    }
}

fn body(model: &Model<'_>, mix: &Mix, layout: &Layout, block: BlockId) -> Body {
    let graph = model.graph;
    let nodes = graph.body(Some(block));
    let cuts = graph.split.as_ref().map_or(vec![0, mix.tokens()], |split| split.cut(mix.tokens(), mix.decode));
    let launched = nodes.iter().enumerate().filter(|(_, node)| node.op.launches());
    let pieces: Vec<Piece> = launched.filter_map(|(at, node)| piece(model, mix, &cuts, &nodes[..at], node)).collect();
    let within = (0..pieces.len()).map(|later| {
        let meets = |earlier: &usize| clash(layout, &pieces[*earlier], &pieces[later], true);
        (0..later).filter(meets).collect()
    });
    let within = without_implied(within.collect());
    Body { name: graph.blocks[block].name.clone(), pieces, within, across: vec![] }
}

fn piece(model: &Model<'_>, mix: &Mix, cuts: &[u32], before: &[Node], node: &Node) -> Option<Piece> {
    let (range, stream) = (node.range?, node.stream?);
    let rows = cuts[range.from.index()]..cuts[range.to.index()];
    let load = model.load(&node.op, mix, rows);
    Some(Piece {
        node: node.name.clone(),
        nano: before.iter().filter(|earlier| earlier.name == node.name).count(),
        stream: stream.index(),
        may_be_on: may_be_on(model.graph, &node.op, load.bound_by),
        load,
        has_share: !takes_what_is_left(model.profile, &load),
        least_seconds: model.least_seconds(&node.op, load),
        touches: touches(model.graph, &node.op, &node.outputs, range),
    })
}

/// Whether a launch asks for the whole device and gets what the others leave.
pub(super) fn takes_what_is_left(profile: &Profile, load: &Load) -> bool {
    profile.oversubscribed == Oversubscribed::Yields && load.bound_by == ResourceKey::Compute
}

/// The streams an operator may be on. Products are on those for compute, collectives on those for the network; what is
/// bound by memory, and attention, may stand anywhere but there, for it is short or runs beside anything.
fn may_be_on(graph: &Graph, op: &Op, bound_by: ResourceKey) -> Vec<bool> {
    let is_attention = matches!(op, Op::PrefillAttention { .. });
    let fits = |group: Group| match group {
        Group::Compute => bound_by != ResourceKey::Network,
        Group::Memory => bound_by == ResourceKey::Memory || is_attention,
        Group::Network => bound_by == ResourceKey::Network,
        Group::Copy => false,
    };
    graph.streams.iter().flat_map(|streams| streams.values()).map(|stream| fits(stream.group)).collect()
}

/// Whether the two must keep their order. Caches are each layer's own.
fn clash(layout: &Layout, earlier: &Piece, later: &Piece, same_layer: bool) -> bool {
    let counts = |touch: &&Touch| same_layer || matches!(touch.thing, Thing::Value(_));
    let mut pairs = earlier.touches.iter().filter(counts).flat_map(|a| later.touches.iter().map(move |b| (a, b)));
    pairs.any(|(a, b)| layout.clash(a, b, true))
}

/// Takes out what follows from the others.
fn without_implied(within: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let ancestors = ancestors(&within);
    let direct = |own: &Vec<usize>| {
        let implied = |earlier: &usize| own.iter().any(|other| ancestors[*other].contains(earlier));
        own.iter().copied().filter(|earlier| !implied(earlier)).collect()
    };
    within.iter().map(direct).collect()
}

/// For each launch all that it follows, directly or not.
fn ancestors(within: &[Vec<usize>]) -> Vec<std::collections::BTreeSet<usize>> {
    let mut all: Vec<std::collections::BTreeSet<usize>> = vec![];
    for own in within {
        let inherited = own.iter().flat_map(|earlier| &all[*earlier]).chain(own).copied().collect();
        all.push(inherited);
    }
    all
}

/// For each launch of `after`, those of the layer before that it must follow, but for what follows from the others.
fn across(layout: &Layout, before: &Body, after: &Body) -> Vec<Vec<usize>> {
    let (inner, outer) = (ancestors(&before.within), ancestors(&after.within));
    let met: Vec<Vec<usize>> = after
        .pieces
        .iter()
        .map(|later| {
            let meets = |earlier: &usize| clash(layout, &before.pieces[*earlier], later, false);
            (0..before.pieces.len()).filter(meets).collect()
        })
        .collect();
    let direct = |at: usize| {
        let own: &Vec<usize> = &met[at];
        let by_own_layer = |earlier: &usize| outer[at].iter().any(|other| met[*other].contains(earlier));
        let by_its_layer = |earlier: &usize| own.iter().any(|other| inner[*other].contains(earlier));
        own.iter().copied().filter(|earlier| !by_own_layer(earlier) && !by_its_layer(earlier)).collect()
    };
    (0..met.len()).map(direct).collect()
}
