//! Divides a model among ranks: tensor parallelism (Shoeybi et al. 2019, Megatron-LM), as one program for every rank.
//!
//! Some sizes can be divided because nothing but a product mixes what they count: heads, and the inner width of a
//! feed-forward part ([`sizes`] finds them). They come to mean a rank's own: `heads` becomes `all_heads / ranks`. So
//! values, caches and weights shrink by themselves, and products that give such values need nothing else: each rank
//! has its rows of the weight (NanoFlow calls that a column split, by the weight as `[in, out]`).
//!
//! A product that *reads* divided columns has only its part of each sum. Two forms make it whole, and the plan says for
//! each nano-operation which (NanoFlow, section 4.1.2):
//!
//! - **Sum** (the usual one): each rank multiplies its columns of the weight, and an all-reduce adds the parts up.
//!   From `o` come `o` and `o_sum`.
//! - **Gather** (`gather: { "o": [0] }`): an all-gather brings all columns to every rank, each multiplies its rows of the
//!   weight, and a second all-gather brings the results together. From `o` come `o_in`, `o` and `o_out`. It sends as
//!   much, in two halves that can be put beside other work, and the first one earlier. A product with a bias always
//!   takes this form: every rank would add the bias to its part of the sum.
//!
//! Experts are divided as one feed-forward part is, each inside (NanoFlow, section 4.1.4), so every rank does its part of
//! the work however rows are routed. The last product of an expert gives a part of a sum for each expert of a row. What
//! combines these is linear in them and gives a part again, narrower by `top_k`, so the sum comes after it: from `moe`
//! come `moe` and `moe_sum`. Products by expert do not gather, for what each expert gives has columns of its own.
//!
//! Where nano-operations of one product differ in form, both layouts of its weight are kept. The product of the head
//! is divided by its rows, and its result gathered.
//!
//! The collectives are cut like the products they belong to, unless the plan has cuts for them.
//!
//! This comes after `nano_batch`, since forms are chosen for each nano-operation. For one rank it changes nothing.
//!
//! | code | mistake |
//! |---|---|
//! | T1301 | nothing of the model can be divided |
//! | T1107 | a gathering nano-operation that the graph does not have |

mod products;
mod sizes;

use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::dim::{Dim, Expr, Operator};
use trefoil_ir::graph::{Definition, Graph, Part, Slice, Stage, WeightRole};

use crate::pipeline::{Ctx, Pass};
use crate::plan::unknown_targets;
use crate::rewrite::drop_unread_weights;

/// The size that counts ranks.
pub const RANKS: &str = "ranks";

/// The pass.
pub(crate) struct Shard;

impl Pass for Shard {
    fn name(&self) -> &'static str {
        "shard"
    }
    fn needs(&self) -> Stage {
        Stage::Split
    }
    fn gives(&self) -> Stage {
        Stage::Split
    }
    fn run(&self, graph: &mut Graph, ctx: &Ctx) -> Result<(), Vec<Diagnostic>> {
        let ranks = ctx.plan.ranks.unwrap_or(1);
        if ranks == 1 {
            return Ok(());
        }
        let mistakes = products::unknown_gathers(graph, ctx.plan);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let divided = sizes::divisible(graph);
        if divided.is_empty() {
            let message = format!("nothing of `{}` can be divided among {ranks} ranks", graph.name);
            let help = "no size is mixed by products alone: leave `ranks` out of the plan";
            return Err(vec![Diagnostic::new("T1301", Place::default(), message).help(help)]);
        }
        divide_weights(graph, &divided);
        redefine(graph, &divided, ranks);
        products::complete(graph, ctx.plan);
        drop_unread_weights(graph);
        let mistakes = unknown_targets(&ctx.plan.cuts, graph);
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}

/// Says of each weight with divided sizes which part a rank has.
fn divide_weights(graph: &mut Graph, divided: &[String]) {
    for weight in graph.weights.values_mut() {
        let has = |dim: &Dim| sizes::has(dim, divided);
        weight.part = match weight.role {
            WeightRole::Matrix | WeightRole::Experts | WeightRole::Table if has(&weight.rows()) => Part::Rows,
            WeightRole::Matrix
            | WeightRole::Experts
            | WeightRole::Table
            | WeightRole::Vector
            | WeightRole::ExpertVectors
                if has(&weight.columns) =>
            {
                Part::Columns
            }
            WeightRole::Matrix
            | WeightRole::Experts
            | WeightRole::Table
            | WeightRole::Vector
            | WeightRole::ExpertVectors => Part::Whole,
        };
    }
}

/// Lets each divided size mean a rank's own. The whole goes by another name, in definitions too; and whatever a rank
/// has a stretch of has a size of its own, so that one that leaves a rest is refused by name.
fn redefine(graph: &mut Graph, divided: &[String], ranks: u32) {
    for name in divided {
        let whole = all(name);
        for definition in graph.dims.values_mut().chain(graph.params.values_mut()) {
            rename(&mut definition.value, name, &whole);
            if definition.name == *name {
                definition.name = whole.clone();
            }
        }
    }
    for slice in slices(graph) {
        for size in
            [&mut slice.of, &mut slice.from].into_iter().chain(slice.stride.iter_mut().flat_map(|(a, b)| [a, b]))
        {
            *size = divided.iter().fold(size.clone(), |size, name| size.renamed(name, &all(name)));
        }
    }
    define(graph, RANKS, Expr::Number(f64::from(ranks)));
    for name in divided {
        let part = Expr::Binary(Operator::Div, Expr::Name(all(name)).into(), Expr::Name(RANKS.to_owned()).into());
        define(graph, name, part);
    }
}

/// What pieces are cut from: tensors of the checkpoint, which are as large for a rank as for one device.
fn slices(graph: &mut Graph) -> impl Iterator<Item = &mut Slice> {
    let pieces = graph.weights.values_mut().flat_map(|weight| &mut weight.pieces);
    pieces.filter_map(|piece| piece.stored.slice.as_mut())
}

fn define(graph: &mut Graph, name: &str, value: Expr) {
    graph.dims.push(Definition { name: name.to_owned(), value, place: Place::default() });
}

fn all(name: &str) -> String {
    format!("all_{name}")
}

fn rename(expr: &mut Expr, name: &str, new: &str) {
    match expr {
        Expr::Name(own) if own == name => new.clone_into(own),
        Expr::Name(_) | Expr::Step | Expr::Number(_) | Expr::Config(_) => {}
        Expr::Binary(_, a, b) => {
            rename(a, name, new);
            rename(b, name, new);
        }
        Expr::Call(_, x) => rename(x, name, new),
        Expr::First(choices) => choices.iter_mut().for_each(|choice| rename(choice, name, new)),
    }
}
