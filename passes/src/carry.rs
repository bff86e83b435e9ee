//! What layers hand on to each other, and the graphs whose layers cannot.
//!
//! Layers are one text, so what a layer takes and what it gives live in one place: with what the first layer takes, and
//! with what the last one gives. A layer may write its result there when nothing of that layer, and nothing behind the
//! layers, still reads what was there before; or in the launch that reads it last, if that operator works in place.
//! Residual blocks are of this kind, and `hand_on` copies for those that are not. What is left is a mistake of an order:
//!
//! | code | mistake |
//! |---|---|
//! | T1201 | what a layer takes is read after the place has its result |
//! | T1202 | a layer's result comes straight from what it takes, by an operator that cannot work in place |

use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::{BlockId, ValueId};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Launch, Schedule};

use crate::contents::{first_lost, overwrites_itself};
use crate::program::Program;
use crate::touch::Layout;
use crate::trace::Trace;

/// What the repeats of a graph carry from layer to layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carry {
    /// What the first layer takes.
    pub(crate) with: ValueId,
    /// What each block takes and gives.
    pub(crate) blocks: Vec<(BlockId, ValueId, ValueId)>,
    /// What the last layer gives.
    pub(crate) result: ValueId,
}

impl Carry {
    /// Of a node, if it is a repeat.
    pub(crate) fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let Op::Repeat { blocks, with, .. } = &node.op else { return None };
        let block = |id: &BlockId| (*id, graph.blocks[*id].takes, graph.blocks[*id].gives);
        Some(Self { with: *with, blocks: blocks.iter().map(block).collect(), result: node.outputs[0] })
    }

    fn values(&self) -> Vec<ValueId> {
        let inner = self.blocks.iter().flat_map(|(_, takes, gives)| [*takes, *gives]);
        std::iter::once(self.with).chain(inner).chain([self.result]).collect()
    }
}

/// The values that must live in one place because layers, being one text, find them there: one list per place.
pub(crate) fn families(graph: &Graph) -> Vec<Vec<ValueId>> {
    let mut families: Vec<Vec<ValueId>> = vec![];
    for carry in graph.nodes.iter().filter_map(|node| Carry::of(graph, node)) {
        let mut family = carry.values();
        let (joined, apart) = families.into_iter().partition(|other| other.iter().any(|value| family.contains(value)));
        families = apart;
        let joined: Vec<Vec<ValueId>> = joined;
        family.splice(0..0, joined.into_iter().flatten());
        family.sort();
        family.dedup();
        families.push(family);
    }
    families
}

/// Why layers of this schedule cannot hand on in one place.
pub(crate) fn mistakes(graph: &Graph, schedule: &Schedule) -> Vec<Diagnostic> {
    let program = Program::of(graph, schedule);
    let layout = Layout::apart(graph);
    let launches = program.sites.iter().filter(|site| overwrites_itself(site, &layout));
    let mistakes: Vec<_> = launches.filter_map(|site| Some(not_in_place(graph, site.launch?))).collect();
    if !mistakes.is_empty() {
        return mistakes;
    }
    let lost = program.layer_orders().into_iter().find_map(|order| {
        let trace = Trace::of(&program, &program.texts, &order);
        let (reader, value) = first_lost(&program, &trace, &layout, None)?;
        Some(lost(graph, program.site(reader).launch, value))
    });
    lost.into_iter().collect()
}

fn not_in_place(graph: &Graph, launch: &Launch) -> Diagnostic {
    let message = format!("`{}` gives the layer's result straight from what the layer takes", launch.node);
    let help = format!("{} cannot write over what it reads: let another operator follow", launch.op.name());
    Diagnostic::new("T1202", place_of(graph, launch), message).help(help)
}

/// `reader` is the launch that reads the value too late, `None` for the host.
fn lost(graph: &Graph, reader: Option<&Launch>, value: ValueId) -> Diagnostic {
    let value = &graph.values[value];
    let (node, place) = match reader {
        Some(launch) => (format!("`{}`", launch.node), place_of(graph, launch)),
        None => ("the end of the step".to_owned(), value.place),
    };
    let message = format!("{node} reads `{}` when a layer has already written its result over it", value.name);
    let help = "layers hand on in one place: read what a layer takes before its result is there";
    Diagnostic::new("T1201", place, message).help(help)
}

fn place_of(graph: &Graph, launch: &Launch) -> Place {
    let mut nodes = graph.bodies().flat_map(|(_, body)| body);
    let node = nodes.find(|node| node.name == launch.node && node.outputs == launch.outputs);
    node.map(|node| node.place).unwrap_or_default()
}
