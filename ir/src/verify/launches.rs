//! Rules about the launches of a schedule: T2401 to T2404.

use super::tables::steps;
use crate::diag::{Diagnostic, Place};
use crate::dim::Dim;
use crate::graph::{Graph, Node};
use crate::ids::{BlockId, Id};
use crate::op::Op;
use crate::schedule::{Launch, Schedule, Section, Step};

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let Some(schedule) = &graph.schedule else {
        return vec![Diagnostic::new("T2401", Place::default(), "the graph has no schedule")];
    };
    let mut mistakes = signs(graph, schedule);
    let (expected, found) = (expected_parts(graph), found_parts(schedule));
    if expected.iter().map(Part::header).ne(found.iter().map(Part::header)) {
        let message = "the sections of the schedule do not follow the nodes and repeats of the main body";
        mistakes.push(Diagnostic::new("T2403", Place::default(), message));
        return mistakes;
    }
    for (expected, found) in expected.iter().zip(&found) {
        for ((_, nodes), (_, launches)) in expected.texts.iter().zip(&found.texts) {
            mistakes.extend(unmatched(nodes, launches));
        }
    }
    mistakes
}

/// A section: its blocks, or the main body, with what stands there.
struct Part<'g, T> {
    times: Option<&'g Dim>,
    texts: Vec<(Option<BlockId>, Vec<&'g T>)>,
}

impl<T> Part<'_, T> {
    fn header(&self) -> (Option<&Dim>, Vec<Option<BlockId>>) {
        (self.times, self.texts.iter().map(|(block, _)| *block).collect())
    }

    fn is_empty(&self) -> bool {
        self.times.is_none() && self.texts.iter().all(|(_, items)| items.is_empty())
    }
}

fn expected_parts(graph: &Graph) -> Vec<Part<'_, Node>> {
    let launching = |block: BlockId| graph.body(Some(block)).iter().filter(|node| node.op.launches()).collect();
    let mut parts = vec![Part { times: None, texts: vec![(None, vec![])] }];
    for node in &graph.nodes {
        if let Op::Repeat { blocks, times, .. } = &node.op {
            let texts = blocks.iter().map(|&block| (Some(block), launching(block))).collect();
            parts.push(Part { times: Some(times), texts });
            parts.push(Part { times: None, texts: vec![(None, vec![])] });
        } else if node.op.launches()
            && let Some((_, nodes)) = parts.last_mut().and_then(|part| part.texts.last_mut())
        {
            nodes.push(node);
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

fn found_parts(schedule: &Schedule) -> Vec<Part<'_, Launch>> {
    let parts = schedule.sections.iter().map(|section| match section {
        Section::Once(steps) => Part { times: None, texts: vec![(None, launches_of(steps))] },
        Section::Repeat { blocks, times } => {
            let texts = blocks.iter().map(|(block, steps)| (Some(*block), launches_of(steps))).collect();
            Part { times: Some(times), texts }
        }
    });
    parts.filter(|part| !part.is_empty()).collect()
}

fn launches_of(steps: &[Step]) -> Vec<&Launch> {
    steps.iter().filter_map(launch_of).collect()
}

fn launch_of(step: &Step) -> Option<&Launch> {
    if let Step::Launch(launch) = step { Some(launch) } else { None }
}

fn unmatched(nodes: &[&Node], launches: &[&Launch]) -> Vec<Diagnostic> {
    let mut left: Vec<&Launch> = launches.to_vec();
    let mut mistakes = Vec::new();
    for node in nodes {
        match left.iter().position(|launch| is_of(launch, node)) {
            Some(index) => drop(left.swap_remove(index)),
            None => {
                let message = format!("the schedule does not launch `{}` as it is", node.name);
                mistakes.push(Diagnostic::new("T2402", node.place, message));
            }
        }
    }
    mistakes.extend(left.iter().map(|launch| {
        let message = format!("the schedule launches `{}` {}, which no node does", launch.node, launch.nano);
        Diagnostic::new("T2402", Place::default(), message)
    }));
    mistakes
}

fn is_of(launch: &Launch, node: &Node) -> bool {
    let Launch { node: name, nano: _, op, outputs, range, stream, share } = launch;
    let what = (name, op, outputs) == (&node.name, &node.op, &node.outputs);
    what && (Some(*range), Some(*stream), *share) == (node.range, node.stream, node.share)
}

/// Events and streams of records and waits.
fn signs(graph: &Graph, schedule: &Schedule) -> Vec<Diagnostic> {
    let num_streams = graph.streams.as_ref().map_or(0, |streams| streams.len());
    let signs = steps(&schedule.sections).filter_map(|(_, step)| match *step {
        Step::Record { stream, event } | Step::Wait { stream, event } => Some((stream, event)),
        Step::Launch(_) => None,
    });
    let wrong = signs.filter(|(stream, event)| stream.index() >= num_streams || event.index() >= schedule.num_events);
    let message = |(stream, event)| format!("{event} on {stream} is not there to record or wait for");
    wrong.map(|sign| Diagnostic::new("T2404", Place::default(), message(sign))).collect()
}
