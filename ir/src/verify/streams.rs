//! Rules from stage Grouped on: T2301 to T2303.

use crate::diag::{Diagnostic, Place};
use crate::graph::Graph;

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let Some(streams) = &graph.streams else {
        return vec![Diagnostic::new("T2301", Place::default(), "the graph does not know its streams")];
    };
    let shares = streams.values().filter(|stream| !(stream.share > 0.0 && stream.share <= 1.0)).map(|stream| {
        let message = format!("the stream `{}` has the share {}", stream.name, stream.share);
        Diagnostic::new("T2303", Place::default(), message)
    });
    let nodes = graph.bodies().flat_map(|(_, nodes)| nodes).filter(|node| node.op.launches());
    let unplaced = nodes.filter_map(|node| match node.stream {
        None => Some(Diagnostic::new("T2301", node.place, format!("`{}` has no stream", node.name))),
        Some(stream) if streams.get(stream).is_none() => {
            Some(Diagnostic::new("T2302", node.place, format!("`{}` is on {stream}, which is not there", node.name)))
        }
        Some(_) => None,
    });
    let launching = graph.bodies().flat_map(|(_, nodes)| nodes).filter(|node| node.op.launches());
    let own_shares = launching.filter_map(|node| {
        let share = node.share.filter(|share| !(*share > 0.0 && *share <= 1.0))?;
        Some(Diagnostic::new("T2303", node.place, format!("`{}` has the share {share}", node.name)))
    });
    shares.chain(unplaced).chain(own_shares).collect()
}
