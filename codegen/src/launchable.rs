//! What a schedule must have, beyond being free of races, to become launches.

use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{StreamId, ValueId};
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Home, Launch};

use crate::text::launches;

/// Code `T3020`: a schedule that is right, and that no device could be given.
pub(crate) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mistake = |message: String| Diagnostic::new("T3020", Place::default(), message);
    let unlowered = launches(graph).filter(|launch| !is_launched(&launch.op));
    let unlowered =
        unlowered.map(|launch| mistake(format!("`{}` is {}, which no device launches", launch.node, launch.op.name())));
    let result = &graph.values[graph.gives].name;
    let logits = match home(graph, graph.gives) {
        None => Some(mistake(format!("the result `{result}` is in no buffer"))),
        Some(home) if home.column != Dim::constant(0) => {
            Some(mistake(format!("the result `{result}` does not begin at the first column of its buffer")))
        }
        Some(_) => None,
    };
    unlowered.chain(logits).collect()
}

/// Whether devices have a method for it.
fn is_launched(op: &Op) -> bool {
    match op {
        Op::Attention { .. } | Op::Repeat { .. } | Op::Columns { .. } => false,
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
        | Op::KvWrite { .. }
        | Op::DecodeAttention { .. }
        | Op::PrefillAttention { .. }
        | Op::AddRmsNorm { .. }
        | Op::AllReduce { .. }
        | Op::AllGather { .. } => true,
    }
}

/// Where a value lives; a window of columns without a home of its own lives in that of the value it shows.
pub(crate) fn home(graph: &Graph, value: ValueId) -> Option<Home> {
    let homes = &graph.schedule.as_ref()?.homes;
    if let Some(home) = homes.get(value)? {
        return Some(home.clone());
    }
    let mut nodes = graph.bodies().flat_map(|(_, body)| body);
    nodes.find_map(|node| {
        let Op::Columns { x, from, width } = &node.op else { return None };
        let Home { buffer, column, .. } = node.outputs.contains(&value).then(|| home(graph, *x))??;
        Some(Home { buffer, column: column.plus(from), columns: width.clone() })
    })
}

/// The launch that gives the result.
pub(crate) fn result_launch(graph: &Graph) -> Option<&Launch> {
    let wanted = home(graph, graph.gives)?;
    let gives_it = |launch: &Launch| launch.outputs.iter().any(|value| home(graph, *value).as_ref() == Some(&wanted));
    launches(graph).filter(|launch| gives_it(launch)).last()
}

/// The stream that the result is written on.
pub(crate) fn result_stream(graph: &Graph) -> Option<StreamId> {
    result_launch(graph).map(|launch| launch.stream)
}
