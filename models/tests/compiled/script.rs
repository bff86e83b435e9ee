//! What a schedule asks for, read from the schedule itself and not from the code made of it.

use trefoil_ir::graph::Graph;
use trefoil_ir::ids::Id;
use trefoil_ir::schedule::{Section, Step};

use crate::recorder::Call;

/// The calls of a step, in short, when the layers of each repeat have these texts.
pub(crate) fn of(graph: &Graph, layers_of_repeats: &[&[usize]]) -> Vec<String> {
    let mut script = vec![];
    let mut repeats = layers_of_repeats.iter();
    let mut first = 0;
    for section in &graph.schedule.as_ref().unwrap().sections {
        match section {
            Section::Once(text) => script.extend(text.iter().map(|step| line(step, None))),
            Section::Repeat { blocks, .. } => {
                let layers = *repeats.next().unwrap();
                for (layer, turn) in (first..).zip(layers) {
                    let (_, text) = &blocks[*turn];
                    script.extend(text.iter().map(|step| line(step, Some(layer))));
                }
                first += layers.len();
            }
        }
    }
    script
}

fn line(step: &Step, layer: Option<usize>) -> String {
    match step {
        Step::Launch(launch) => {
            format!("{} on {}: {}#{}", shown(layer), launch.stream.index(), launch.node, launch.nano)
        }
        Step::Record { stream, event } => format!("record {} on {}", event.index(), stream.index()),
        Step::Wait { stream, event } => format!("wait {} on {}", event.index(), stream.index()),
    }
}

fn shown(layer: Option<usize>) -> String {
    layer.map_or_else(|| "once".to_owned(), |layer| format!("layer {layer}"))
}

/// The calls a device was given, in short.
pub(crate) fn heard(calls: &[Call]) -> Vec<String> {
    let line = |call: &Call| match call {
        Call::Launch { site, .. } => {
            let layer = shown(site.layer.map(usize::from));
            format!("{layer} on {}: {}#{}", site.stream.0, site.node, site.nano)
        }
        Call::Record(stream, event) => format!("record {} on {}", event.0, stream.0),
        Call::Wait(stream, event) => format!("wait {} on {}", event.0, stream.0),
    };
    calls.iter().map(line).collect()
}
