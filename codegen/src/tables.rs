//! The tables of a bound model: weights, caches and rotary angles, numbered once for all plans of a graph.
//!
//! Plans may fuse differently, so each has its own weight table; the compiled model has the union of what their
//! launches read, in the order in which the first plan reads it. A weight that fusion has replaced is in none of them.

use syn::Ident;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Cache, Graph, Weight};
use trefoil_ir::ids::{CacheId, ParamId, WeightId};
use trefoil_ir::op::{Op, Pairs, RopeScaling};

use crate::names::{constant, distinct};
use crate::ranks::Model;
use crate::text::launches;

/// A table of rotary angles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Angles {
    pub(crate) rotary: Dim,
    pub(crate) pairs: Pairs,
    pub(crate) theta: ParamId,
    pub(crate) scaling: Option<RopeScaling>,
}

/// All tables, each entry with the name of its number.
pub(crate) struct Tables {
    pub(crate) weights: Vec<(Ident, Weight)>,
    pub(crate) caches: Vec<(Ident, Cache)>,
    pub(crate) angles: Vec<(Ident, Angles)>,
}

impl Tables {
    /// What the launches of all plans read.
    pub(crate) fn of(model: &Model<'_>) -> Self {
        let (mut weights, mut caches, mut angles) = (vec![], vec![], vec![]);
        for graph in model.plans.iter().map(|planned| &planned.graph) {
            for op in launches(graph).map(|launch| &launch.op) {
                op.weights().into_iter().for_each(|weight| add(&mut weights, &graph.weights[weight], same_weight));
                cache_of(op).into_iter().for_each(|cache| add(&mut caches, &graph.caches[cache], same_cache));
                angles_of(op).into_iter().for_each(|own| add(&mut angles, &own, Angles::eq));
            }
        }
        Self {
            weights: named(weights, short_name),
            caches: named(caches, |cache| cache.name.clone()),
            angles: named(angles, |angles| format!("{}_angles", model.graph.params[angles.theta].name)),
        }
    }

    /// The name of a weight's number.
    pub(crate) fn weight(&self, graph: &Graph, id: WeightId) -> Option<&Ident> {
        find(&self.weights, |weight| same_weight(weight, &graph.weights[id]))
    }

    /// The name of a cache's number.
    pub(crate) fn cache(&self, graph: &Graph, id: CacheId) -> Option<&Ident> {
        find(&self.caches, |cache| same_cache(cache, &graph.caches[id]))
    }

    /// The name of the number of the angles that a rotation reads.
    pub(crate) fn angles(&self, op: &Op) -> Option<&Ident> {
        let wanted = angles_of(op)?;
        find(&self.angles, |angles| *angles == wanted)
    }
}

fn find<T>(table: &[(Ident, T)], is_it: impl Fn(&T) -> bool) -> Option<&Ident> {
    table.iter().find(|(_, entry)| is_it(entry)).map(|(name, _)| name)
}

fn add<T: Clone>(table: &mut Vec<T>, entry: &T, same: impl Fn(&T, &T) -> bool) {
    if !table.iter().any(|known| same(known, entry)) {
        table.push(entry.clone());
    }
}

fn named<T>(entries: Vec<T>, name: impl Fn(&T) -> String) -> Vec<(Ident, T)> {
    let names = distinct(entries.iter().map(name));
    names.iter().map(|name| constant(name)).zip(entries).collect()
}

fn same_weight(a: &Weight, b: &Weight) -> bool {
    let what =
        |weight: &Weight| (weight.role, weight.columns.clone(), weight.experts.clone(), weight.block, weight.part);
    what(a) == what(b) && a.pieces == b.pieces
}

fn same_cache(a: &Cache, b: &Cache) -> bool {
    (&a.name, a.block) == (&b.name, b.block)
}

/// `q_proj_k_proj_v_proj` of a weight made of three: the last part of each tensor's name.
fn short_name(weight: &Weight) -> String {
    let last = |tensor: &str| {
        let (path, kind) = tensor.rsplit_once('.').unwrap_or((tensor, "weight"));
        let own = path.rsplit('.').next().unwrap_or(path);
        if kind == "weight" { own.to_owned() } else { format!("{own}_{kind}") }
    };
    let parts: Vec<_> = weight.pieces.iter().map(|piece| last(&piece.tensor)).collect();
    parts.join("_")
}

fn cache_of(op: &Op) -> Option<CacheId> {
    match *op {
        Op::Attention { cache, .. }
        | Op::KvWrite { cache, .. }
        | Op::DecodeAttention { cache, .. }
        | Op::PrefillAttention { cache, .. } => Some(cache),
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Linear { .. }
        | Op::Rope { .. }
        | Op::Join { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::Route { .. }
        | Op::ExpertLinear { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. }
        | Op::Columns { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => None,
    }
}

fn angles_of(op: &Op) -> Option<Angles> {
    match op {
        Op::Rope { head, theta, rotary, pairs, scaling, .. } => {
            let rotary = rotary.as_ref().unwrap_or(head).clone();
            Some(Angles { rotary, pairs: *pairs, theta: *theta, scaling: *scaling })
        }
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Linear { .. }
        | Op::Attention { .. }
        | Op::Join { .. }
        | Op::Add { .. }
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
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => None,
    }
}
