//! Rules about ids and names: T2001 and T2002. All other rules may look ids up.

use std::collections::BTreeSet;

use crate::diag::{Diagnostic, Place};
use crate::graph::{Graph, Node};
use crate::ids::{Id, Table};
use crate::op::{Effect, Op};
use crate::schedule::{Launch, Section, Step};

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mut check = Check { graph, mistakes: Vec::new() };
    check.ids();
    if check.mistakes.is_empty() {
        check.names();
    }
    check.mistakes
}

struct Check<'g> {
    graph: &'g Graph,
    mistakes: Vec<Diagnostic>,
}

impl Check<'_> {
    fn ids(&mut self) {
        let graph = self.graph;
        for &input in graph.inputs.iter().chain([&graph.gives]) {
            self.known(&graph.values, input, "value", Place::default());
        }
        for block in graph.blocks.values() {
            self.known(&graph.values, block.takes, "value", block.place);
            self.known(&graph.values, block.gives, "value", block.place);
        }
        for (id, value) in graph.values.iter() {
            value.block.into_iter().for_each(|block| self.known(&graph.blocks, block, &id.to_string(), value.place));
        }
        for weight in graph.weights.values() {
            weight.block.into_iter().for_each(|block| self.known(&graph.blocks, block, "block", weight.place));
        }
        for cache in graph.caches.values() {
            self.known(&graph.blocks, cache.block, "block", cache.place);
        }
        for node in graph.bodies().flat_map(|(_, nodes)| nodes) {
            self.node(node);
        }
        self.schedule_ids();
    }

    fn node(&mut self, node: &Node) {
        self.op(&node.op, node.place);
        for &output in &node.outputs {
            self.known(&self.graph.values, output, &node.name, node.place);
        }
    }

    fn op(&mut self, op: &Op, place: Place) {
        let graph = self.graph;
        let name = op.name();
        op.operands().into_iter().for_each(|(_, value)| self.known(&graph.values, value, name, place));
        op.weights().into_iter().for_each(|weight| self.known(&graph.weights, weight, name, place));
        match op.effect() {
            Effect::None => {}
            Effect::WriteOwnRows(cache)
            | Effect::ReadOwnRows(cache)
            | Effect::ReadRowsUpTo(cache)
            | Effect::Both(cache) => self.known(&graph.caches, cache, name, place),
        }
        op.params().into_iter().for_each(|param| self.known(&graph.params, param, name, place));
        blocks(op).iter().for_each(|&block| self.known(&graph.blocks, block, name, place));
    }

    fn schedule_ids(&mut self) {
        let Some(schedule) = &self.graph.schedule else { return };
        for (block, step) in steps(&schedule.sections) {
            if let Some(block) = block {
                self.known(&self.graph.blocks, block, "schedule", Place::default());
            }
            if let Step::Launch(launch) = step {
                self.launch(launch);
            }
        }
        for (value, home) in schedule.homes.iter() {
            self.known(&self.graph.values, value, "home", Place::default());
            home.iter().for_each(|home| self.known(&schedule.buffers, home.buffer, "home", Place::default()));
        }
    }

    fn launch(&mut self, launch: &Launch) {
        self.op(&launch.op, Place::default());
        for &output in &launch.outputs {
            self.known(&self.graph.values, output, &launch.node, Place::default());
        }
    }

    fn known<I: Id + std::fmt::Display, T>(&mut self, table: &Table<I, T>, id: I, whose: &str, place: Place) {
        if table.get(id).is_none() {
            let message = format!("`{whose}` names {id}, and there are only {}", table.len());
            self.mistakes.push(Diagnostic::new("T2001", place, message));
        }
    }

    fn names(&mut self) {
        let graph = self.graph;
        let definitions = graph.dims.values().chain(graph.params.values());
        self.distinct(definitions.map(|definition| (definition.name.as_str(), definition.place)));
        self.distinct(graph.blocks.values().map(|block| (block.name.as_str(), block.place)));
        let streams = graph.streams.iter().flat_map(|streams| streams.values());
        self.distinct(streams.map(|stream| (stream.name.as_str(), Place::default())));
        for (block, nodes) in graph.bodies() {
            let takes = block.map(|block| graph.blocks[block].takes);
            let given = nodes.iter().flat_map(|node| &node.outputs);
            let values: BTreeSet<_> = graph.inputs.iter().chain(&takes).chain(given).copied().collect();
            self.distinct(values.iter().map(|&value| (graph.values[value].name.as_str(), graph.values[value].place)));
        }
    }

    fn distinct<'n>(&mut self, names: impl Iterator<Item = (&'n str, Place)>) {
        let mut seen = BTreeSet::new();
        for (name, place) in names {
            if !seen.insert(name) {
                self.mistakes.push(Diagnostic::new("T2002", place, format!("two things are called `{name}`")));
            }
        }
    }
}

/// The steps of all sections, with the block they are for.
pub(super) fn steps(sections: &[Section]) -> impl Iterator<Item = (Option<crate::ids::BlockId>, &Step)> {
    sections.iter().flat_map(|section| {
        let texts: Vec<_> = match section {
            Section::Once(steps) => vec![(None, steps)],
            Section::Repeat { blocks, .. } => blocks.iter().map(|(block, steps)| (Some(*block), steps)).collect(),
        };
        texts.into_iter().flat_map(|(block, steps)| steps.iter().map(move |step| (block, step)))
    })
}

fn blocks(op: &Op) -> &[crate::ids::BlockId] {
    if let Op::Repeat { blocks, .. } = op { blocks } else { &[] }
}
