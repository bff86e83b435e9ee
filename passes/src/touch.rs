//! What a launch reads and writes, and whether two launches may change places.
//!
//! The planner's own reading of the operators: the verifier in `ir` has another, so that a slip in one of them shows.

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Range};
use trefoil_ir::ids::{BufferId, CacheId, Id, PointId, ValueId};
use trefoil_ir::op::{Effect, Op, RowDomain};

use crate::carry::families;

/// Rows of one step. Those of a value with one row per sampled sequence count as the whole batch: they are never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) range: Range,
    pub(crate) decode: bool,
    pub(crate) prefill: bool,
}

impl Rows {
    /// Decode and prefill rows of a range.
    pub(crate) fn all(range: Range) -> Self {
        Self { range, decode: true, prefill: true }
    }

    /// Whether the two have a row in common for some batch.
    pub(crate) fn intersect(self, other: Self) -> bool {
        let same_kind = self.decode && other.decode || self.prefill && other.prefill;
        same_kind && self.range.intersects(other.range)
    }

    /// The smallest parts that cuts and kinds of rows divide these into, as numbers that are unique in a plan.
    pub(crate) fn cells(self) -> impl Iterator<Item = usize> {
        let kinds = [(self.decode, 0), (self.prefill, 1)].into_iter().filter(|(has, _)| *has);
        kinds.flat_map(move |(_, kind)| (self.range.from.index()..self.range.to.index()).map(move |cut| 2 * cut + kind))
    }
}

/// What is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Value(ValueId),
    /// The cache of one layer.
    Cache(CacheId),
}

/// One way in which a launch touches a value or a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) thing: Thing,
    pub(crate) rows: Rows,
    pub(crate) writes: bool,
}

/// All that a nano-operation touches, reads first. Inputs are the step's own tables and race with nothing.
pub(crate) fn touches(graph: &Graph, op: &Op, outputs: &[ValueId], range: Range) -> Vec<Touch> {
    let whole = graph.split.as_ref().map_or(range, |split| split.whole());
    let own = own_rows(graph, op, range, whole);
    let stored = |value: &ValueId| !graph.inputs.contains(value);
    let reads = op.operands().into_iter().map(|(_, value)| value).filter(stored).map(|value| Touch {
        thing: Thing::Value(value),
        rows: if reads_all_rows(op, value) { Rows::all(whole) } else { own },
        writes: false,
    });
    let writes = outputs.iter().map(|value| Touch { thing: Thing::Value(*value), rows: own, writes: true });
    reads.chain(cache_touches(op, own)).chain(writes).collect()
}

fn own_rows(graph: &Graph, op: &Op, range: Range, whole: Range) -> Rows {
    match graph.rows_of(op) {
        RowDomain::Tokens => Rows::all(range),
        RowDomain::DecodeTokens => Rows { range, decode: true, prefill: false },
        RowDomain::PrefillTokens => Rows { range, decode: false, prefill: true },
        RowDomain::Seqs => Rows::all(whole),
    }
}

fn reads_all_rows(op: &Op, value: ValueId) -> bool {
    matches!(op, Op::Rows { x, .. } if *x == value)
}

fn cache_touches(op: &Op, own: Rows) -> Vec<Touch> {
    let up_to_own = Rows::all(Range { from: PointId::new(0), to: own.range.to });
    let touch = |cache, rows, writes| Touch { thing: Thing::Cache(cache), rows, writes };
    match op.effect() {
        Effect::None => vec![],
        Effect::WriteOwnRows(cache) => vec![touch(cache, own, true)],
        Effect::ReadOwnRows(cache) => vec![touch(cache, own, false)],
        Effect::ReadRowsUpTo(cache) => vec![touch(cache, up_to_own, false)],
        Effect::Both(cache) => vec![touch(cache, own, true), touch(cache, up_to_own, false)],
    }
}

/// A window of columns of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) buffer: BufferId,
    pub(crate) from: Dim,
    pub(crate) width: Dim,
}

impl Spot {
    /// Whether the two have a column in common for some sizes.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let surely_before = |a: &Self, b: &Self| b.from.minus(&a.from.plus(&a.width)).is_surely_not_negative();
        self.buffer == other.buffer && (self == other || !surely_before(self, other) && !surely_before(other, self))
    }
}

/// Where each value lives.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    spots: Vec<Option<Spot>>,
    num_buffers: usize,
}

impl Layout {
    /// No value has a place.
    pub(crate) fn empty(graph: &Graph) -> Self {
        Self { spots: vec![None; graph.values.len()], num_buffers: 0 }
    }

    /// Every value has a buffer of its own, but for windows of columns, which live in the value they are a window of,
    /// and for what a repeat carries on, which lives in one buffer.
    pub(crate) fn apart(graph: &Graph) -> Self {
        let mut layout = Self::empty(graph);
        for family in families(graph) {
            let buffer = layout.new_buffer();
            for value in family {
                layout.put(graph, value, buffer);
            }
        }
        for (_, body) in graph.bodies() {
            for value in body.iter().flat_map(|node| &node.outputs) {
                if layout.spot(*value).is_none() && columns_of(graph, *value).is_none() {
                    let buffer = layout.new_buffer();
                    layout.put(graph, *value, buffer);
                }
            }
        }
        layout
    }

    /// The number of a buffer that nothing lives in.
    pub(crate) fn new_buffer(&mut self) -> BufferId {
        self.num_buffers += 1;
        BufferId::new(self.num_buffers - 1)
    }

    pub(crate) fn num_buffers(&self) -> usize {
        self.num_buffers
    }

    /// Where a value lives.
    pub(crate) fn spot(&self, value: ValueId) -> Option<&Spot> {
        self.spots[value.index()].as_ref()
    }

    /// Lets a value, and the windows of its columns, live from the first column of a buffer on.
    pub(crate) fn put(&mut self, graph: &Graph, value: ValueId, buffer: BufferId) {
        let spot = Spot { buffer, from: Dim::constant(0), width: width_of(graph, value) };
        self.put_at(graph, value, spot);
    }

    /// Lets a value, and the windows of its columns, live at a spot.
    pub(crate) fn put_at(&mut self, graph: &Graph, value: ValueId, spot: Spot) {
        for (_, body) in graph.bodies() {
            for node in body {
                if let Op::Columns { x, from, width } = &node.op
                    && *x == value
                {
                    let window = Spot { buffer: spot.buffer, from: spot.from.plus(from), width: width.clone() };
                    self.put_at(graph, node.outputs[0], window);
                }
            }
        }
        self.spots[value.index()] = Some(spot);
    }

    /// Takes a value's place away again, and that of the windows of its columns.
    pub(crate) fn take(&mut self, graph: &Graph, value: ValueId) {
        self.spots[value.index()] = None;
        let windows = graph.bodies().flat_map(|(_, body)| body);
        let windows = windows.filter(|node| matches!(node.op, Op::Columns { x, .. } if x == value));
        for node in windows {
            self.take(graph, node.outputs[0]);
        }
    }

    /// Whether two touches of the same step, or of different ones (whose cuts differ), meet in one element, and one
    /// of them writes. Two touches of a cache are taken to be of the same layer.
    pub(crate) fn clash(&self, a: &Touch, b: &Touch, same_step: bool) -> bool {
        (a.writes || b.writes) && (!same_step || a.rows.intersect(b.rows)) && self.same_place(a.thing, b.thing)
    }

    fn same_place(&self, a: Thing, b: Thing) -> bool {
        match (a, b) {
            (Thing::Cache(a), Thing::Cache(b)) => a == b,
            (Thing::Value(a), Thing::Value(b)) => match (self.spot(a), self.spot(b)) {
                (Some(a), Some(b)) => a.overlaps(b),
                (None, _) | (_, None) => false,
            },
            (Thing::Cache(_), Thing::Value(_)) | (Thing::Value(_), Thing::Cache(_)) => false,
        }
    }
}

/// The number of columns of a value.
pub(crate) fn width_of(graph: &Graph, value: ValueId) -> Dim {
    graph.values[value].ty.columns().cloned().unwrap_or_else(|| Dim::constant(1))
}

/// The value that this one is a window of columns of.
pub(crate) fn columns_of(graph: &Graph, value: ValueId) -> Option<ValueId> {
    let mut nodes = graph.bodies().flat_map(|(_, body)| body);
    let node = nodes.find(|node| node.outputs.contains(&value))?;
    if let Op::Columns { x, .. } = node.op { Some(x) } else { None }
}
