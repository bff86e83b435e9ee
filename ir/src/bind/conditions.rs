//! What only numbers tell: quotients that must leave no rest, and parts that must not be larger than the whole.

use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Graph, Node, Piece, Slice, Weight, WeightRole};
use crate::ids::{CacheId, ValueId};
use crate::op::{Groups, Op};

use super::Bound;

/// A size that nothing has, but that must be a whole number and not negative: of a graph that keeps all rules on symbols,
/// this is left to check when its sizes are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The size.
    pub size: Dim,
    /// What it says that this is one: `the 6 heads of `q` are shared by …` without the numbers.
    pub what: String,
    /// Where the graph says so.
    pub place: Place,
}

impl Condition {
    /// What is wrong at these sizes; nothing where they depend on a fault that has been reported.
    pub(super) fn fault(&self, bound: &Bound) -> Option<Diagnostic> {
        let is_known = |name: &&str| bound.dims.contains_key(*name);
        if bound.size(&self.size).is_some() || !self.size.names().iter().all(is_known) {
            return None;
        }
        let mut names = self.size.names();
        names.sort_unstable();
        names.dedup();
        let values: Vec<_> = names.iter().map(|name| format!("`{name}` is {}", bound.dims[*name])).collect();
        let values = if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        let message = format!("{}{values}", self.what);
        Some(
            Diagnostic::new("T0607", self.place, message)
                .help("correct the config's values that these sizes are made of"),
        )
    }
}

/// All that a graph's sizes must keep beyond being whole numbers themselves.
pub fn conditions(graph: &Graph) -> Vec<Condition> {
    let nodes = graph.bodies().flat_map(|(_, nodes)| nodes).flat_map(|node| of_node(graph, node));
    let pieces = graph.weights.values().flat_map(|weight| {
        weight.pieces.iter().filter_map(move |piece| Some((weight, piece, piece.stored.slice.as_ref()?)))
    });
    nodes.chain(pieces.flat_map(|(weight, piece, slice)| of_slice(weight, piece, slice))).collect()
}

fn of_node(graph: &Graph, node: &Node) -> Vec<Condition> {
    let condition = |size: Dim, what: String| Condition { size, what, place: node.place };
    match &node.op {
        Op::Attention { q, cache, .. }
        | Op::DecodeAttention { q, cache, .. }
        | Op::PrefillAttention { q, cache, .. } => {
            let size = heads_of_each(graph, *q, *cache);
            let what = "the heads of the queries must be a multiple of those of the keys";
            size.map(|size| condition(size, format!("`{}`: {what}", node.name))).into_iter().collect()
        }
        Op::Rope { head, rotary, .. } => {
            let turning = rotary.as_ref().unwrap_or(head);
            let pairs = condition(
                turning.over(&Dim::constant(2)),
                format!("`{}` turns {turning} elements of a head, which must be an even number", node.name),
            );
            let rest = rotary.as_ref().map(|rotary| {
                let what = format!("`{}` turns {rotary} elements of a head, which has {head}", node.name);
                condition(head.minus(rotary), what)
            });
            std::iter::once(pairs).chain(rest).collect()
        }
        Op::Route { x, top_k, groups, .. } => {
            let Some(experts) = graph.values[*x].ty.columns() else { return vec![] };
            let what = format!("`{}` chooses {top_k} of {experts} experts", node.name);
            let of_groups = groups.iter().flat_map(|groups| of_groups(&node.name, groups, experts, top_k));
            let of_groups = of_groups.map(|(size, what)| condition(size, what));
            std::iter::once(condition(experts.minus(top_k), what)).chain(of_groups).collect()
        }
        Op::Repeat { times, .. } => vec![condition(times.clone(), format!("`{}` has {times} layers", node.name))],
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::Linear { .. }
        | Op::Join { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::ExpertLinear { .. }
        | Op::Combine { .. }
        | Op::Rows { .. }
        | Op::KvWrite { .. }
        | Op::Columns { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => vec![],
    }
}

/// Experts are whole groups, large enough to be judged and, those of the best ones, to be chosen from.
fn of_groups(name: &str, groups: &Groups, experts: &Dim, top_k: &Dim) -> [(Dim, String); 4] {
    let (_, [(_, of), (_, top)]) = groups.parts();
    let (each, counted) = (experts.over(of), groups.counted());
    [
        (each.clone(), format!("`{name}` has {experts} experts, which must be a multiple of its {of} groups")),
        (
            experts.minus(&of.times(&Dim::constant(counted))),
            format!("`{name}` has {experts} experts in {of} groups, of which each must have {counted} or more"),
        ),
        (of.minus(top), format!("`{name}` chooses experts of {top} groups, and there are {of}")),
        (
            experts.times(top).minus(&top_k.times(of)),
            format!("`{name}` chooses {top_k} experts of {top} groups, which have fewer: {experts} are in {of} groups"),
        ),
    ]
}

/// How many query heads share one head of the keys.
fn heads_of_each(graph: &Graph, q: ValueId, cache: CacheId) -> Option<Dim> {
    let cache = &graph.caches[cache];
    let heads = graph.values[q].ty.columns()?.exact_quotient(&cache.head)?;
    Some(heads.exact_quotient(&cache.kv_heads).unwrap_or_else(|| heads.over(&cache.kv_heads)))
}

fn of_slice(weight: &Weight, piece: &Piece, slice: &Slice) -> Vec<Condition> {
    let rows = match weight.role {
        WeightRole::Vector | WeightRole::ExpertVectors => &piece.columns,
        WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => &piece.rows,
    };
    let condition = |size: Dim, what: String| Condition { size, what, place: weight.place };
    let Slice { of, from, stride } = slice;
    let Some((take, every)) = stride else {
        let what = format!("`{}`: {rows} rows from {from} must lie within {of}", piece.tensor);
        return vec![condition(of.minus(from).minus(rows), what)];
    };
    let groups = rows.exact_quotient(take).unwrap_or_else(|| rows.over(take));
    let last = groups.minus(&Dim::constant(1)).times(every).plus(take);
    let within =
        format!("`{}`: {take} of each {every} rows from {from}, {rows} in all, must lie within {of}", piece.tensor);
    vec![
        condition(groups, format!("`{}`: {rows} rows must be a multiple of the {take} taken at a time", piece.tensor)),
        condition(every.minus(take), format!("`{}`: {take} rows are taken of each {every}", piece.tensor)),
        condition(of.minus(from).minus(&last), within),
    ]
}
