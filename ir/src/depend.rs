//! Which nodes of a body wait for which.
//!
//! Two nano-operations depend on each other exactly when their operators do **and** the rows they touch may be the same
//! ones. Operators depend on each other by a value that one gives and the other reads, or by a KV cache that one writes
//! and the other reads. [`Op::Columns`] is only another name for columns that others have written: whoever reads it
//! waits for those, range by range, and not for the name.
//!
//! Values are written once per row and caches once per position, so there is nothing else to wait for within a body as
//! long as values have no homes. What sharing memory adds is the business of the passes that place buffers, and
//! [`crate::verify::schedule`] checks it.

use petgraph::graph::{DiGraph, NodeIndex};

use crate::graph::{Graph, Node, Range};
use crate::ids::{BlockId, CacheId, ValueId};
use crate::op::{Effect, Op};

/// Why a node waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It reads rows of a value that the other writes.
    Value(ValueId),
    /// It reads positions of a cache that the other writes.
    Cache(CacheId),
}

/// The nodes of a body with an edge from each to every one that waits for it.
///
/// Node number `i` of the result is node number `i` of the body. Without ranges, before the batch is cut, every node
/// touches all rows.
pub fn dependencies(graph: &Graph, block: Option<BlockId>) -> DiGraph<&Node, Cause> {
    let nodes = graph.body(block);
    let mut result = DiGraph::with_capacity(nodes.len(), nodes.len() * 2);
    for node in nodes {
        result.add_node(node);
    }
    for (i, later) in nodes.iter().enumerate() {
        for (j, earlier) in nodes[..i].iter().enumerate() {
            if let Some(cause) = cause(graph, earlier, later) {
                result.add_edge(NodeIndex::new(j), NodeIndex::new(i), cause);
            }
        }
    }
    result
}

/// Why `later` waits for `earlier`, which stands before it in the same body; `None` if it does not.
pub fn cause(graph: &Graph, earlier: &Node, later: &Node) -> Option<Cause> {
    by_cache(earlier, later).or_else(|| by_value(graph, earlier, later))
}

/// The value whose memory `value` names: itself, unless it is a window of the columns of another.
pub fn base(graph: &Graph, value: ValueId) -> ValueId {
    let body = graph.body(graph.values[value].block);
    let mut base = value;
    // A window can be of a window; one of itself is a mistake for the verifier to report, not a reason to go on for ever.
    for _ in body {
        match body.iter().find(|node| node.outputs.contains(&base)).map(|node| &node.op) {
            Some(&Op::Columns { x, .. }) => base = x,
            Some(_) | None => break,
        }
    }
    base
}

fn by_value(graph: &Graph, earlier: &Node, later: &Node) -> Option<Cause> {
    if !may_share_rows(earlier.range, later.range) || matches!(earlier.op, Op::Columns { .. }) {
        return None;
    }
    let read = later.op.operands().into_iter().map(|(_, value)| base(graph, value));
    read.into_iter().find(|value| earlier.outputs.contains(value)).map(Cause::Value)
}

fn by_cache(earlier: &Node, later: &Node) -> Option<Cause> {
    match (earlier.op.effect(), later.op.effect()) {
        (Effect::WriteOwnRows(written), Effect::ReadOwnRows(read)) => {
            (written == read && may_share_rows(earlier.range, later.range)).then_some(Cause::Cache(read))
        }
        (Effect::WriteOwnRows(written), Effect::ReadRowsUpTo(read)) => {
            (written == read && begins_before_end(earlier.range, later.range)).then_some(Cause::Cache(read))
        }
        (Effect::Both(written), Effect::Both(read)) => (written == read).then_some(Cause::Cache(read)),
        (
            Effect::None | Effect::WriteOwnRows(_) | Effect::ReadOwnRows(_) | Effect::ReadRowsUpTo(_) | Effect::Both(_),
            Effect::None | Effect::WriteOwnRows(_) | Effect::ReadOwnRows(_) | Effect::ReadRowsUpTo(_) | Effect::Both(_),
        ) => None,
    }
}

fn may_share_rows(a: Option<Range>, b: Option<Range>) -> bool {
    a.zip(b).is_none_or(|(a, b)| a.intersects(b))
}

fn begins_before_end(written: Option<Range>, read: Option<Range>) -> bool {
    written.zip(read).is_none_or(|(written, read)| written.from < read.to)
}
