//! Which sizes of a model can be divided among ranks.
//!
//! A size can be divided when every value that has it in its columns is given and read only by operators that work
//! column by column, or by a product, whose result then is complete in its own columns (read) or a part of a sum
//! (given). So it must not reach what layers hand on, what a norm reads, the embedding or the model's result.

use trefoil_ir::dim::{Dim, DimFactor};
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::ValueId;
use trefoil_ir::op::Op;

use crate::carry::families;
use crate::touch::width_of;

/// The names of the sizes, in the order of their definitions.
pub(super) fn divisible(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = graph.dims.values().map(|dim| dim.name.clone()).collect();
    names.retain(|name| !widths_of_heads(graph).any(|dim| mentions(dim, name)));
    loop {
        let before = names.len();
        names.retain(|name| !is_mixed(graph, name));
        // What is divided in one operand of an attention is divided in all of them.
        for (one, other) in pairs(graph) {
            let mut all = [&one, &other].into_iter();
            if !all.all(|dim| has(dim, &names)) {
                names.retain(|name| !mentions(&one, name) && !mentions(&other, name));
            }
        }
        // Each term of a divided width has one divided factor.
        let unclear: Vec<Dim> = widths(graph).filter(|width| has_any(width, &names) && !has(width, &names)).collect();
        names.retain(|name| !unclear.iter().any(|width| mentions(width, name)));
        if names.len() == before {
            break;
        }
    }
    names.retain(|name| widths(graph).any(|width| mentions(&width, name)));
    names
}

/// Whether every term has exactly one of the names as a factor: dividing the names divides it.
pub(super) fn has(dim: &Dim, names: &[String]) -> bool {
    let is_one = |factor: &DimFactor| matches!(factor, DimFactor::Name(name) if names.iter().any(|own| own == name));
    let mut terms = dim.terms().peekable();
    terms.peek().is_some() && terms.all(|(_, factors)| factors.iter().filter(|factor| is_one(factor)).count() == 1)
}

fn has_any(dim: &Dim, names: &[String]) -> bool {
    names.iter().any(|name| mentions(dim, name))
}

fn mentions(dim: &Dim, name: &str) -> bool {
    dim.names().contains(&name)
}

fn widths_of_heads<'a>(graph: &'a Graph) -> impl Iterator<Item = &'a Dim> {
    let head_of = |op: &'a Op| if let Op::Rope { head, .. } = op { Some(head) } else { None };
    let rotated = graph.bodies().flat_map(|(_, body)| body).filter_map(move |node| head_of(&node.op));
    rotated.chain(graph.caches.values().flat_map(|cache| [&cache.head, cache.value()]))
}

fn widths(graph: &Graph) -> impl Iterator<Item = Dim> {
    graph.values.ids().map(|value| width_of(graph, value))
}

/// Widths that are divided together: queries, and heads of the cache that they look into.
fn pairs(graph: &Graph) -> Vec<(Dim, Dim)> {
    let attention = |op: &Op| {
        let cache = op.effect().cache()?;
        let operand = op.operands().first()?.1;
        Some((width_of(graph, operand), graph.caches[cache].kv_heads.clone()))
    };
    graph.bodies().flat_map(|(_, body)| body).filter_map(|node| attention(&node.op)).collect()
}

fn is_mixed(graph: &Graph, name: &str) -> bool {
    let has_it = |value: ValueId| mentions(&width_of(graph, value), name);
    let carried = families(graph).into_iter().flatten().any(has_it);
    let outside = graph.values.iter().any(|(id, value)| value.block.is_none() && has_it(id));
    carried || outside || graph.bodies().flat_map(|(_, body)| body).any(|node| mixes(graph, &node.op, name))
}

/// Whether the operator mixes columns that this size counts, other than as a product's sum.
fn mixes(graph: &Graph, op: &Op, name: &str) -> bool {
    let reads_it = op.operands().iter().any(|(_, value)| mentions(&width_of(graph, *value), name));
    match op {
        // A group is whole on one rank.
        Op::RmsNorm { group: Some(group), .. } | Op::LayerNorm { group: Some(group), .. } => mentions(group, name),
        Op::RmsNorm { group: None, .. }
        | Op::LayerNorm { group: None, .. }
        | Op::AddRmsNorm { .. }
        | Op::Rows { .. }
        | Op::Repeat { .. } => reads_it,
        Op::Embed { weight, .. } => {
            let table = &graph.weights[*weight];
            mentions(&table.columns, name) || mentions(&table.rows(), name)
        }
        // Chooses among all columns, and numbers what it has chosen.
        Op::Route { top_k, .. } => reads_it || mentions(top_k, name),
        // An expert is a whole matrix, and one product of a row has as many columns as another. Every rank would add a
        // bias to its part of a sum.
        Op::ExpertLinear { experts, weight, bias, .. } => {
            let matrix = &graph.weights[*weight];
            let of_sum = bias.is_some() && mentions(&matrix.columns, name);
            let num_experts = matrix.experts.as_ref().is_some_and(|experts| mentions(experts, name));
            let both = mentions(&matrix.columns, name) && mentions(&matrix.rows(), name);
            both || of_sum || num_experts || mentions(&width_of(graph, *experts), name)
        }
        Op::Combine { shares, .. } => mentions(&width_of(graph, *shares), name),
        // One operand is divided: what it reads or what it gives, never both.
        Op::Linear { weight, .. } => {
            let matrix = &graph.weights[*weight];
            mentions(&matrix.columns, name) && mentions(&matrix.rows(), name)
        }
        // Ranks have exchanged already.
        Op::AllReduce { .. } | Op::AllGather { .. } => true,
        // Slopes follow from a head's number among all.
        Op::Attention { score, .. } | Op::DecodeAttention { score, .. } | Op::PrefillAttention { score, .. } => {
            score.alibi && reads_it
        }
        // A head is whole on one rank, and so is a part that all heads have.
        Op::Join { a, b, heads } => {
            let of_head = |value: ValueId| {
                let width = width_of(graph, value);
                width.exact_quotient(heads).unwrap_or(width)
            };
            [*a, *b].into_iter().any(|value| mentions(&of_head(value), name))
        }
        Op::Rope { .. }
        | Op::Add { .. }
        | Op::GatedMul { .. }
        | Op::Apply { .. }
        | Op::KvWrite { .. }
        | Op::Columns { .. } => false,
    }
}
