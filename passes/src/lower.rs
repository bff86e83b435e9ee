//! Splits attention into what devices have: `Attention` becomes `KvWrite`, `DecodeAttention` and `PrefillAttention`.
//!
//! The three use different resources, so each must be free to go to a stream of its own. Both attentions give the same
//! value: one its decode rows, the other its prefill rows. From `attn` come `attn_write`, `attn_decode` and
//! `attn_prefill`.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Stage};
use trefoil_ir::op::Op;

use crate::pipeline::{Ctx, Pass};
use crate::rewrite::{bodies, replace_nodes};

/// The pass.
pub(crate) struct Lower;

impl Pass for Lower {
    fn name(&self) -> &'static str {
        "lower"
    }
    fn needs(&self) -> Stage {
        Stage::Loaded
    }
    fn gives(&self) -> Stage {
        Stage::Lowered
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        for body in bodies(graph) {
            replace_nodes(graph, body, |_, node| lowered(node));
        }
        Ok(())
    }
}

fn lowered(node: Node) -> Vec<Node> {
    let Op::Attention { q, k, v, cache, mask, score } = node.op else { return vec![node] };
    let part = |suffix: &str, op: Op| {
        let outputs = if op.num_outputs() == 0 { vec![] } else { node.outputs.clone() };
        Node { name: format!("{}_{suffix}", node.name), op, outputs, ..node.clone() }
    };
    vec![
        part("write", Op::KvWrite { k, v, cache }),
        part("decode", Op::DecodeAttention { q, cache, mask, score }),
        part("prefill", Op::PrefillAttention { q, cache, mask, score }),
    ]
}
