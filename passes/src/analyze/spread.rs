//! How work lies on ranks that share a model (Shoeybi et al. 2019, Megatron-LM): the form with two sums per layer.

use trefoil_ir::graph::Node;
use trefoil_ir::ids::ValueId;
use trefoil_ir::op::Op;

/// How an operator's work lies on the ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    /// Each rank does some columns: heads, or columns of a matrix.
    Across,
    /// A product of a divided matrix: each rank multiplies its columns, and the results are summed.
    Within,
    /// Each rank does all of it.
    Repeated,
}

/// How the work of an operator of this body lies.
pub(super) fn spread(body: &[Node], op: &Op) -> Spread {
    let divided = |value| if is_divided(body, value) { Spread::Across } else { Spread::Repeated };
    match *op {
        Op::Linear { x, .. } if is_divided(body, x) => Spread::Within,
        Op::Linear { .. }
        | Op::Attention { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::KvWrite { .. } => Spread::Across,
        Op::Rope { x, .. } | Op::Columns { x, .. } | Op::Rows { x, .. } => divided(x),
        Op::GatedMul { gate, .. } => divided(gate),
        // Rows of the residual stream are whole everywhere.
        Op::Embed { .. }
        | Op::RmsNorm { .. }
        | Op::Add { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. }
        | Op::Repeat { .. } => Spread::Repeated,
    }
}

/// Whether each rank has some columns of a value only.
fn is_divided(body: &[Node], value: ValueId) -> bool {
    let maker = body.iter().find(|node| node.outputs.contains(&value));
    maker.is_some_and(|node| spread(body, &node.op) == Spread::Across)
}
