//! Mistakes that make a schedule meaningless: streams and events that do not exist, waits for nothing, values without
//! a home.

use std::collections::BTreeSet;

use crate::diag::{Diagnostic, Place};
use crate::graph::Graph;
use crate::ids::{EventId, Id, StreamId, ValueId};
use crate::op::Op;
use crate::schedule::{Schedule, Step};

use super::access::{Places, place_of};
use super::texts;

/// The code of a record that nothing waits for, which is no race.
pub(super) const UNUSED_RECORD: &str = "T3011";

pub(super) fn mistakes(graph: &Graph, schedule: &Schedule) -> Vec<Diagnostic> {
    let steps: Vec<&Step> = texts(schedule).flatten().collect();
    let mut mistakes = unknown_streams(graph, &steps);
    mistakes.extend(unmatched_events(schedule));
    mistakes.extend(homeless_values(graph, schedule, &steps));
    mistakes.extend(broken_carries(graph));
    mistakes.extend(missing_result(graph, &steps));
    mistakes
}

fn unknown_streams(graph: &Graph, steps: &[&Step]) -> Vec<Diagnostic> {
    let num_streams = graph.streams.as_ref().map_or(0, |streams| streams.len());
    let unknown = |stream: StreamId| stream.index() >= num_streams;
    let describe = |step: &Step| match step {
        Step::Launch(launch) => (launch.stream, format!("`{}#{}` is launched", launch.node, launch.nano)),
        Step::Record { stream, event } => (*stream, format!("{event} is recorded")),
        Step::Wait { stream, event } => (*stream, format!("{event} is waited for")),
    };
    steps
        .iter()
        .map(|step| describe(step))
        .filter(|(stream, _)| unknown(*stream))
        .map(|(stream, what)| {
            let message = format!("{what} on stream {stream}, and the plan has {num_streams}");
            Diagnostic::new("T3012", Place::default(), message)
        })
        .collect()
}

/// Events that are recorded, and events that are waited for.
fn events(schedule: &Schedule) -> (BTreeSet<EventId>, BTreeSet<EventId>) {
    let mut recorded = BTreeSet::new();
    let mut awaited = BTreeSet::new();
    for step in texts(schedule).flatten() {
        match step {
            Step::Launch(_) => {}
            Step::Record { event, .. } => _ = recorded.insert(*event),
            Step::Wait { event, .. } => _ = awaited.insert(*event),
        }
    }
    (recorded, awaited)
}

fn unmatched_events(schedule: &Schedule) -> Vec<Diagnostic> {
    let (recorded, awaited) = events(schedule);
    let unknown = recorded.union(&awaited).filter(|event| event.index() >= schedule.num_events).map(|event| {
        let message = format!("{event} is used, and the schedule has {} events", schedule.num_events);
        Diagnostic::new("T3013", Place::default(), message)
    });
    let never = awaited.difference(&recorded).map(|event| {
        let message = format!("a stream waits for {event}, which nothing records");
        Diagnostic::new("T3010", Place::default(), message).help("record it after the launch that is waited for")
    });
    unknown.chain(never).collect()
}

/// Records that nothing waits for: no race, but nobody meant them.
pub(super) fn unused_records(schedule: &Schedule) -> Vec<Diagnostic> {
    let (recorded, awaited) = events(schedule);
    let unused = recorded.difference(&awaited).map(|event| {
        let message = format!("{event} is recorded, and nothing waits for it");
        Diagnostic::new(UNUSED_RECORD, Place::default(), message).help("leave the record out")
    });
    unused.collect()
}

/// A step without a launch that gives the result has no end.
fn missing_result(graph: &Graph, steps: &[&Step]) -> Option<Diagnostic> {
    let places = Places::of(graph);
    let gives_result = |step: &&Step| match step {
        Step::Launch(launch) => launch.outputs.iter().any(|value| places.same(*value, graph.gives)),
        Step::Record { .. } | Step::Wait { .. } => false,
    };
    let message = format!("no launch gives `{}`, the result", graph.values[graph.gives].name);
    (!steps.iter().any(gives_result)).then(|| Diagnostic::new("T3005", graph.values[graph.gives].place, message))
}

/// Values that a launch stores or reads back, and that `memory` gave no buffer.
fn homeless_values(graph: &Graph, schedule: &Schedule, steps: &[&Step]) -> Vec<Diagnostic> {
    if schedule.homes.is_empty() {
        return vec![];
    }
    let places = Places::of(graph);
    let mut mistakes = vec![];
    let mut seen = BTreeSet::new();
    for step in steps {
        let Step::Launch(launch) = step else { continue };
        let operands = launch.op.operands().into_iter().map(|(_, value)| value);
        for value in operands.chain(launch.outputs.iter().copied()) {
            if !graph.inputs.contains(&value) && places.location(value).is_none() && seen.insert(value) {
                let message = format!(
                    "`{}#{}` needs `{}`, which has no buffer",
                    launch.node, launch.nano, graph.values[value].name
                );
                mistakes.push(Diagnostic::new("T3008", place_of(graph, None, &launch.node), message));
            }
        }
    }
    mistakes
}

/// Layers are one text: each must find its input where the one before, or the main body, left it.
fn broken_carries(graph: &Graph) -> Vec<Diagnostic> {
    let places = Places::of(graph);
    let name = |value: ValueId| &graph.values[value].name;
    let mut mistakes = vec![];
    for node in &graph.nodes {
        let Op::Repeat { blocks, with, .. } = &node.op else { continue };
        let carried = blocks.iter().flat_map(|block| [graph.blocks[*block].takes, graph.blocks[*block].gives]);
        for value in carried.chain(node.outputs.iter().copied()) {
            if places.location(value) != places.location(*with) {
                let message =
                    format!("`{}` does not live where `{}` does, which the layers carry on", name(value), name(*with));
                let mistake = Diagnostic::new("T3008", node.place, message);
                mistakes.push(mistake.help("what a repeat takes, carries and gives shares one window of one buffer"));
            }
        }
    }
    mistakes
}
