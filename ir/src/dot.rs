//! Pictures for Graphviz.
//!
//! Before there is a schedule, a picture has a cluster per body, with an edge wherever a node waits for another
//! ([`crate::depend`]): solid for a value, dashed for a cache. With a schedule it has a cluster per stream in every
//! section, bold edges for the order of the stream, and red ones from what an event records to what waits for it. Waits
//! for an event of the layer or the step before are not drawn.
//!
//! Nodes are coloured by the resource that bounds them: blue compute, salmon memory, green network.

use std::collections::BTreeMap;
use std::fmt::Write;

use petgraph::visit::EdgeRef;

use crate::depend::{Cause, dependencies};
use crate::graph::{Graph, Node};
use crate::ids::{BlockId, EventId, Id, StreamId};
use crate::op::{Op, Resource};
use crate::schedule::{Launch, Schedule, Section, Step};

/// The graph as a picture.
pub fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph {:?} {{\n  node [shape=box, style=filled];\n", graph.name);
    match &graph.schedule {
        Some(schedule) => streams(&mut text, graph, schedule),
        None => graph.bodies().for_each(|(block, nodes)| body(&mut text, graph, block, nodes)),
    }
    text += "}\n";
    text
}

fn body(text: &mut String, graph: &Graph, block: Option<BlockId>, nodes: &[Node]) {
    let name = block.map_or_else(|| "main".to_owned(), |block| block.to_string());
    let label = block.map_or("main", |block| &graph.blocks[block].name);
    let _ = writeln!(text, "  subgraph cluster_{name} {{\n    label={label:?};");
    for (index, node) in nodes.iter().enumerate() {
        let _ = writeln!(text, "    {name}_{index} [{}];", look(&node_label(node), &node.op));
    }
    text.push_str("  }\n");
    for edge in dependencies(graph, block).edge_references() {
        let (from, to) = (edge.source().index(), edge.target().index());
        let look = match *edge.weight() {
            Cause::Value(value) => format!("label={:?}", graph.values[value].name),
            Cause::Cache(cache) => format!("label={:?}, style=dashed", graph.caches[cache].name),
        };
        let _ = writeln!(text, "  {name}_{from} -> {name}_{to} [{look}];");
    }
}

fn node_label(node: &Node) -> String {
    let range = node.range.map_or_else(String::new, |range| format!(" {}..{}", range.from.index(), range.to.index()));
    format!("{}{range}", node.name)
}

fn look(label: &str, op: &Op) -> String {
    let colour = match op.resource() {
        _ if !op.launches() => "white",
        Resource::Compute => "lightblue",
        Resource::Memory => "lightsalmon",
        Resource::Network => "palegreen",
    };
    format!("label={:?}, fillcolor={colour}", format!("{label}\n{}", op.name()))
}

fn streams(text: &mut String, graph: &Graph, schedule: &Schedule) {
    let mut picture = Picture { graph, edges: String::new(), num_texts: 0, num_launches: 0, recorded: BTreeMap::new() };
    for section in &schedule.sections {
        match section {
            Section::Once(steps) => picture.section(text, "once", steps),
            Section::Repeat { blocks, times } => {
                for (block, steps) in blocks {
                    let label = format!("{} x {times}", graph.blocks[*block].name);
                    picture.section(text, &label, steps);
                }
            }
        }
    }
    *text += &picture.edges;
}

/// A picture of a schedule that is being drawn.
struct Picture<'g> {
    graph: &'g Graph,
    edges: String,
    num_texts: usize,
    num_launches: usize,
    /// The last launch before each event's latest record.
    recorded: BTreeMap<EventId, String>,
}

impl Picture<'_> {
    fn section(&mut self, text: &mut String, label: &str, steps: &[Step]) {
        let number = self.num_texts;
        self.num_texts += 1;
        let mut rows: BTreeMap<StreamId, String> = BTreeMap::new();
        let mut last: BTreeMap<StreamId, String> = BTreeMap::new();
        let mut waits: BTreeMap<StreamId, Vec<EventId>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Launch(launch) => {
                    let id = self.launch(launch, rows.entry(launch.stream).or_default());
                    self.order(&id, last.insert(launch.stream, id.clone()));
                    self.waits(&id, waits.remove(&launch.stream).unwrap_or_default());
                }
                Step::Record { stream, event } => {
                    let before = last.get(stream).cloned();
                    before.into_iter().for_each(|id| drop(self.recorded.insert(*event, id)));
                }
                Step::Wait { stream, event } => waits.entry(*stream).or_default().push(*event),
            }
        }
        let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={label:?};");
        for (stream, row) in rows {
            let streams = self.graph.streams.as_ref();
            let name = streams.and_then(|streams| streams.get(stream)).map_or("", |stream| &stream.name);
            let _ = writeln!(text, "    subgraph cluster_{number}_{stream} {{\n      label={name:?};\n{row}    }}");
        }
        text.push_str("  }\n");
    }

    fn launch(&mut self, launch: &Launch, row: &mut String) -> String {
        let id = format!("l{}", self.num_launches);
        self.num_launches += 1;
        let label = format!("{} {}", launch.node, launch.nano);
        let _ = writeln!(row, "      {id} [{}];", look(&label, &launch.op));
        id
    }

    fn order(&mut self, id: &str, before: Option<String>) {
        if let Some(before) = before {
            let _ = writeln!(self.edges, "  {before} -> {id} [style=bold];");
        }
    }

    fn waits(&mut self, id: &str, events: Vec<EventId>) {
        for event in events {
            if let Some(recorded) = self.recorded.get(&event) {
                let _ = writeln!(self.edges, "  {recorded} -> {id} [label=\"{event}\", color=red, constraint=false];");
            }
        }
    }
}
