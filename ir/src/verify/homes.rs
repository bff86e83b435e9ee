//! Rules about where values live: T2405 to T2408. They hold as soon as one value has a home.

use std::collections::BTreeSet;

use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::{Graph, Node, SEQS};
use crate::ids::ValueId;
use crate::op::Op;
use crate::schedule::{Buffer, BufferRows, Home, Schedule};

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let placed = graph.schedule.as_ref().filter(|schedule| schedule.homes.values().any(Option::is_some));
    let Some(schedule) = placed else { return vec![] };
    let check = Check { graph, schedule };
    let nodes = || graph.bodies().flat_map(|(_, nodes)| nodes);
    let given: BTreeSet<ValueId> = nodes().flat_map(|node| &node.outputs).copied().collect();
    let taken = graph.blocks.values().map(|block| block.takes);
    let stored: BTreeSet<ValueId> = given.into_iter().chain(taken).collect();
    let mut mistakes: Vec<_> = stored.iter().filter_map(|&value| check.lives(value)).collect();
    mistakes.extend(nodes().filter_map(|node| check.window(node)));
    mistakes.extend(graph.nodes.iter().flat_map(|node| check.carried(node)));
    mistakes
}

struct Check<'g> {
    graph: &'g Graph,
    schedule: &'g Schedule,
}

impl Check<'_> {
    fn home(&self, value: ValueId) -> Option<&Home> {
        self.schedule.homes.get(value)?.as_ref()
    }

    fn report(&self, code: &'static str, value: ValueId, message: &str) -> Diagnostic {
        let value = &self.graph.values[value];
        Diagnostic::new(code, value.place, format!("`{}` {message}", value.name))
    }

    fn lives(&self, value: ValueId) -> Option<Diagnostic> {
        let Some(home) = self.home(value) else { return Some(self.report("T2405", value, "has no home")) };
        let (buffer, shape) = (&self.schedule.buffers[home.buffer], &self.graph.values[value].ty.shape);
        let rows = if shape.first() == Some(&Dim::name(SEQS)) { BufferRows::Seqs } else { BufferRows::Tokens };
        let fits = rows == buffer.rows && shape.get(1) == Some(&home.columns) && is_within(home, buffer);
        (!fits).then(|| self.report("T2406", value, "does not fit into its home, or the home into its buffer"))
    }

    fn window(&self, node: &Node) -> Option<Diagnostic> {
        let Op::Columns { x, from, width } = &node.op else { return None };
        let (base, &value) = (self.home(*x)?, node.outputs.first()?);
        let expected = Home { buffer: base.buffer, column: base.column.plus(from), columns: width.clone() };
        let is_elsewhere = self.home(value).is_some_and(|home| *home != expected);
        is_elsewhere.then(|| self.report("T2407", value, "lives elsewhere than what it is a window of"))
    }

    fn carried(&self, repeat: &Node) -> Vec<Diagnostic> {
        let Op::Repeat { blocks, with, .. } = &repeat.op else { return vec![] };
        let of_blocks =
            blocks.iter().map(|&block| &self.graph.blocks[block]).flat_map(|block| [block.takes, block.gives]);
        let others: BTreeSet<ValueId> = of_blocks.chain(repeat.outputs.iter().copied()).collect();
        let moved =
            others.into_iter().filter(|&value| self.home(value).is_some() && self.home(value) != self.home(*with));
        moved.map(|value| self.report("T2408", value, "goes from layer to layer and lives elsewhere")).collect()
    }
}

fn is_within(home: &Home, buffer: &Buffer) -> bool {
    let end = home.column.plus(&home.columns);
    buffer.columns.iter().any(|columns| columns.minus(&end).is_surely_not_negative())
}
