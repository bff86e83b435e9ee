//! Copies what layers could not hand on in one place.
//!
//! What a layer takes and what it gives live in one place (see [`crate::carry`]). Residual layers are made for that:
//! they add to what they take. Others are not, and get a copy where one is needed:
//!
//! - at the end of a layer whose result comes from what it takes by an operator that cannot write over what it reads,
//!   or is there before something has read what the layer takes, or is that itself or a window of other columns;
//! - before layers whose input is read again behind them.
//!
//! From `g` comes `g_copy`. A copy reads and writes each row once; the graphs of all well-known families have none.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node, Stage, Value};
use trefoil_ir::ids::{BlockId, ValueId};
use trefoil_ir::op::{Function, Op};

use crate::pipeline::{Ctx, Pass};
use crate::rewrite::free_name;

/// The pass.
pub(crate) struct HandOn;

impl Pass for HandOn {
    fn name(&self) -> &'static str {
        "hand_on"
    }
    fn needs(&self) -> Stage {
        Stage::Lowered
    }
    fn gives(&self) -> Stage {
        Stage::Lowered
    }
    fn run(&self, graph: &mut Graph, _: &Ctx) -> Result<(), Vec<Diagnostic>> {
        for block in graph.blocks.ids().collect::<Vec<_>>() {
            if is_lost(graph, block) {
                let gives = graph.blocks[block].gives;
                let copy = copy_of(graph, Some(block), gives);
                graph.blocks[block].gives = copy.outputs[0];
                graph.blocks[block].nodes.push(copy);
            }
        }
        while let Some((at, with)) = read_again(graph) {
            let copy = copy_of(graph, None, with);
            let value = copy.outputs[0];
            let Op::Repeat { with, .. } = &mut graph.nodes[at].op else { break };
            *with = value;
            graph.nodes.insert(at, copy);
        }
        Ok(())
    }
}

/// Whether a layer's result cannot be written where the layer finds its input.
fn is_lost(graph: &Graph, block: BlockId) -> bool {
    let own = &graph.blocks[block];
    let Some(giver) = own.nodes.iter().rposition(|node| node.outputs.contains(&own.gives)) else { return true };
    let node = &own.nodes[giver];
    let output = node.outputs.iter().position(|output| *output == own.gives).unwrap_or_default();
    let num_reads =
        |op: &Op| op.operands().into_iter().filter(|(_, value)| shows(graph, block, *value, own.takes)).count();
    let in_place = num_reads(&node.op) == 1 && node.op.in_place(output).contains(&own.takes);
    let is_window = !node.op.launches();
    let is_read_later = own.nodes[giver + 1..].iter().any(|later| num_reads(&later.op) > 0);
    is_window || is_read_later || num_reads(&node.op) > 0 && !in_place
}

/// Whether a value is the other, or a window of its columns.
fn shows(graph: &Graph, block: BlockId, value: ValueId, other: ValueId) -> bool {
    let shown = |node: &Node| {
        let Op::Columns { x, .. } = node.op else { return None };
        node.outputs.contains(&value).then_some(x)
    };
    value == other || graph.blocks[block].nodes.iter().find_map(shown).is_some_and(|x| shows(graph, block, x, other))
}

/// The first repeat whose input is read again behind it, and that input.
fn read_again(graph: &Graph) -> Option<(usize, ValueId)> {
    graph.nodes.iter().enumerate().find_map(|(at, node)| {
        let Op::Repeat { with, .. } = node.op else { return None };
        let reads = |later: &Node| later.op.operands().iter().any(|(_, value)| *value == with);
        graph.nodes[at + 1..].iter().any(reads).then_some((at, with))
    })
}

fn copy_of(graph: &mut Graph, body: Option<BlockId>, value: ValueId) -> Node {
    let original = graph.values[value].clone();
    let name = free_name(graph, body, &format!("{}_copy", original.name));
    let place = original.place;
    let copy = graph.values.push(Value { name: name.clone(), block: body, ..original });
    let op = Op::Apply { x: value, by: Function::Identity };
    Node { name, op, outputs: vec![copy], range: None, stream: None, share: None, place }
}
