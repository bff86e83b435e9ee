//! What a launch touches: where, which columns, which rows.

use std::collections::BTreeMap;

use crate::diag::Place;
use crate::dim::Dim;
use crate::graph::{Graph, Node, Range, SEQS};
use crate::ids::{BlockId, BufferId, CacheId, Id, PointId, ValueId};
use crate::op::{Effect, Op, RowDomain};
use crate::schedule::Launch;

/// A place that launches read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Storage {
    /// A buffer, once `memory` has run.
    Buffer(BufferId),
    /// The place of a value, and of all values that a repeat carries on in it, before.
    Value(ValueId),
    /// A layer of a cache.
    Cache(CacheId, Option<usize>),
}

/// Columns `from..to` of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    from: Dim,
    to: Dim,
}

impl Window {
    fn new(from: Dim, width: &Dim) -> Self {
        let to = from.plus(width);
        Self { from, to }
    }

    /// Whether no column is in both, whatever the sizes.
    pub(super) fn is_surely_apart(&self, other: &Self) -> bool {
        other.from.minus(&self.to).is_surely_not_negative() || self.from.minus(&other.to).is_surely_not_negative()
    }
}

/// Where a value lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) storage: Storage,
    pub(super) window: Window,
}

/// Rows of a step that an access touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// All rows of something that has one per sampled sequence.
    Seqs,
    /// Rows of the dense batch between two cuts.
    Tokens { range: Range, decode: bool, prefill: bool },
}

impl Rows {
    fn tokens(range: Range) -> Self {
        Rows::Tokens { range, decode: true, prefill: true }
    }

    /// Whether the two have a row in common for some batch of one step.
    pub(super) fn intersect(self, other: Self) -> bool {
        match (self, other) {
            (Rows::Seqs, Rows::Seqs) => true,
            (Rows::Seqs, Rows::Tokens { .. }) | (Rows::Tokens { .. }, Rows::Seqs) => false,
            (
                Rows::Tokens { range: a, decode: a_decode, prefill: a_prefill },
                Rows::Tokens { range: b, decode: b_decode, prefill: b_prefill },
            ) => a.intersects(b) && (a_decode && b_decode || a_prefill && b_prefill),
        }
    }

    /// The smallest parts the plan's cuts and the two kinds of rows divide these into.
    pub(super) fn parts(self) -> Vec<Rows> {
        let Rows::Tokens { range, decode, prefill } = self else { return vec![self] };
        let kinds = [(decode, false), (false, prefill)].into_iter().filter(|kind| *kind != (false, false));
        let between = |cut: usize| Range { from: PointId::new(cut), to: PointId::new(cut + 1) };
        let part = |cut, (decode, prefill)| Rows::Tokens { range: between(cut), decode, prefill };
        kinds.flat_map(|kind| (range.from.index()..range.to.index()).map(move |cut| part(cut, kind))).collect()
    }
}

/// One way in which a launch touches a storage.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// What is read or written, as the launch names it; `None` for a cache.
    pub(super) value: Option<ValueId>,
    pub(super) storage: Storage,
    /// `None` for a cache.
    pub(super) window: Option<Window>,
    pub(super) rows: Rows,
}

impl Access {
    /// Whether the two touch the same elements for some sizes and some batch. The cuts of different steps differ.
    pub(super) fn overlaps(&self, other: &Self, same_step: bool) -> bool {
        self.storage == other.storage
            && (!same_step || self.rows.intersect(other.rows))
            && match (&self.window, &other.window) {
                (Some(a), Some(b)) => !a.is_surely_apart(b),
                (None, _) | (_, None) => true,
            }
    }
}

/// Where the values of a graph live, as far as the passes have decided.
pub(super) struct Places<'a> {
    graph: &'a Graph,
    /// For a window of columns: of which value, and from which column on.
    columns: BTreeMap<ValueId, (ValueId, &'a Dim)>,
    /// For a value that a repeat carries on: the value that stands for all of them.
    carried: BTreeMap<ValueId, ValueId>,
}

impl<'a> Places<'a> {
    pub(super) fn of(graph: &'a Graph) -> Self {
        let mut places = Self { graph, columns: BTreeMap::new(), carried: BTreeMap::new() };
        for node in graph.bodies().flat_map(|(_, body)| body) {
            if let Op::Columns { x, from, .. } = &node.op {
                places.columns.insert(node.outputs[0], (*x, from));
            }
            if let Op::Repeat { blocks, with, .. } = &node.op {
                places.carry(blocks, *with, node.outputs[0]);
            }
        }
        places
    }

    fn carry(&mut self, blocks: &[BlockId], with: ValueId, out: ValueId) {
        let first = self.carried.get(&with).copied().unwrap_or(with);
        for block in blocks.iter().map(|block| &self.graph.blocks[*block]) {
            self.carried.insert(block.takes, first);
            self.carried.insert(block.gives, first);
        }
        self.carried.insert(out, first);
    }

    pub(super) fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The value that a launch had to give for this one to exist.
    pub(super) fn base(&self, value: ValueId) -> ValueId {
        // As many turns as there are windows: a window of itself is a mistake that the rules of earlier stages report.
        self.columns.keys().fold(value, |base, _| self.columns.get(&base).map_or(base, |(x, _)| *x))
    }

    /// Where a value lives; `None` for one without a home where there are homes.
    pub(super) fn location(&self, value: ValueId) -> Option<Location> {
        let mut from = Dim::constant(0);
        let mut base = value;
        let homes = self.graph.schedule.as_ref().map(|schedule| &schedule.homes).filter(|homes| !homes.is_empty());
        for _ in 0..=self.columns.len() {
            if let Some(home) = homes.and_then(|homes| homes.get(base)?.as_ref()) {
                let window = Window::new(home.column.plus(&from), self.width(value).unwrap_or(&home.columns));
                return Some(Location { storage: Storage::Buffer(home.buffer), window });
            }
            let Some((x, column)) = self.columns.get(&base) else { break };
            from = from.plus(column);
            base = *x;
        }
        let place = self.carried.get(&base).copied().unwrap_or(base);
        let window = Window::new(from, self.width(value)?);
        homes.is_none().then_some(Location { storage: Storage::Value(place), window })
    }

    fn width(&self, value: ValueId) -> Option<&'a Dim> {
        self.graph.values[value].ty.columns()
    }

    /// What a launch of this layer reads.
    pub(super) fn reads(&self, launch: &Launch, layer: Option<usize>) -> Vec<Access> {
        let operands = launch.op.operands().into_iter().filter_map(|(_, value)| self.read(launch, value));
        let cache = match launch.op.effect() {
            Effect::None | Effect::WriteOwnRows(_) => None,
            Effect::ReadOwnRows(cache) => Some((cache, self.rows_of(launch))),
            Effect::ReadRowsUpTo(cache) | Effect::Both(cache) => Some((cache, Rows::tokens(up_to(launch.range)))),
        };
        operands.chain(cache.map(|(cache, rows)| cache_access(cache, layer, rows))).collect()
    }

    fn read(&self, launch: &Launch, value: ValueId) -> Option<Access> {
        let picks_from = matches!(launch.op, Op::Rows { x, .. } if x == value);
        self.access(value, if picks_from { Rows::tokens(self.whole(launch)) } else { self.rows_of(launch) })
    }

    /// What a launch of this layer writes.
    pub(super) fn writes(&self, launch: &Launch, layer: Option<usize>) -> Vec<Access> {
        let outputs = launch.outputs.iter().filter_map(|value| self.access(*value, self.rows_of(launch)));
        let cache = match launch.op.effect() {
            Effect::None | Effect::ReadOwnRows(_) | Effect::ReadRowsUpTo(_) => None,
            Effect::WriteOwnRows(cache) | Effect::Both(cache) => Some(cache_access(cache, layer, self.rows_of(launch))),
        };
        outputs.chain(cache).collect()
    }

    /// Whether the two are one value, or carried on by one repeat.
    pub(super) fn same(&self, a: ValueId, b: ValueId) -> bool {
        let stands_for = |value| self.carried.get(&self.base(value)).copied().unwrap_or(self.base(value));
        stands_for(a) == stands_for(b)
    }

    /// All rows of a value.
    pub(super) fn all_of(&self, value: ValueId) -> Option<Access> {
        let per_sequence = self.graph.values[value].ty.shape.first() == Some(&Dim::name(SEQS));
        let whole = self.graph.split.as_ref().map(|split| split.whole());
        let rows = if per_sequence { Rows::Seqs } else { Rows::tokens(whole?) };
        self.access(value, rows)
    }

    fn access(&self, value: ValueId, rows: Rows) -> Option<Access> {
        if self.graph.inputs.contains(&value) {
            return None;
        }
        let Location { storage, window } = self.location(value)?;
        Some(Access { value: Some(value), storage, window: Some(window), rows })
    }

    fn rows_of(&self, launch: &Launch) -> Rows {
        let range = launch.range;
        match self.graph.rows_of(&launch.op) {
            RowDomain::Tokens => Rows::tokens(range),
            RowDomain::DecodeTokens => Rows::Tokens { range, decode: true, prefill: false },
            RowDomain::PrefillTokens => Rows::Tokens { range, decode: false, prefill: true },
            RowDomain::Seqs => Rows::Seqs,
        }
    }

    fn whole(&self, launch: &Launch) -> Range {
        self.graph.split.as_ref().map_or(launch.range, |split| split.whole())
    }
}

fn cache_access(cache: CacheId, layer: Option<usize>, rows: Rows) -> Access {
    Access { value: None, storage: Storage::Cache(cache, layer), window: None, rows }
}

fn up_to(range: Range) -> Range {
    Range { from: PointId::new(0), to: range.to }
}

/// Where the node of a launch is written.
pub(super) fn place_of(graph: &Graph, block: Option<BlockId>, node: &str) -> Place {
    let in_body = |body: &[Node]| body.iter().find(|own| own.name == node).map(|own| own.place);
    let anywhere = || graph.bodies().find_map(|(_, body)| in_body(body));
    in_body(graph.body(block)).or_else(anywhere).unwrap_or_default()
}
