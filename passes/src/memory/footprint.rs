//! What buffers cost, and what sharing them saves.

use trefoil_ir::depend;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{Id, ValueId};
use trefoil_ir::schedule::{Buffer, BufferRows};

use super::rows_of;
use crate::carry::families;
use crate::touch::width_of;

/// Memory for activations at given sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// If every value had a buffer of its own (but for those that layers carry on, which have to share one).
    pub separate_bytes: u64,
    /// As `memory` has decided.
    pub shared_bytes: u64,
}

/// The memory that a schedule's values take, when `size_of` gives the size of each dim (`tokens` and `seqs` too).
/// `None` for a graph without homes, or where a size is unknown.
pub fn footprint(graph: &Graph, bytes_per_element: u64, size_of: &impl Fn(&str) -> Option<u64>) -> Option<Footprint> {
    let schedule = graph.schedule.as_ref().filter(|schedule| !schedule.homes.is_empty())?;
    let num_rows = |rows: BufferRows| match rows {
        BufferRows::Tokens => size_of(trefoil_ir::graph::TOKENS),
        BufferRows::Seqs => size_of(trefoil_ir::graph::SEQS),
    };
    let bytes_of_buffer = |buffer: &Buffer| {
        let mut columns = buffer.columns.iter().map(|columns| columns.evaluate(size_of));
        let widest = columns.try_fold(0, |widest, columns| Some(u64::max(widest, columns?)))?;
        num_rows(buffer.rows)?.checked_mul(widest)?.checked_mul(bytes_per_element)
    };
    let bytes_of_value = |value: ValueId| {
        let columns = width_of(graph, value).evaluate(size_of)?;
        num_rows(rows_of(graph, value))?.checked_mul(columns)?.checked_mul(bytes_per_element)
    };
    let families = families(graph);
    let is_follower = |value: &ValueId| families.iter().any(|family| family[1..].contains(value));
    let is_stored = |value: &ValueId| schedule.homes[*value].is_some() && depend::base(graph, *value) == *value;
    let mut stored = (0..graph.values.len()).map(ValueId::new).filter(is_stored).filter(|value| !is_follower(value));
    Some(Footprint {
        separate_bytes: stored.try_fold(0, |sum, value| Some(sum + bytes_of_value(value)?))?,
        shared_bytes: schedule.buffers.values().try_fold(0, |sum, buffer| Some(sum + bytes_of_buffer(buffer)?))?,
    })
}
