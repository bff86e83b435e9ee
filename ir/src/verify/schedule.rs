//! Proves that a launch schedule is free of races, or says which two launches race and what would order them.
//!
//! Written independently of the passes, from the meaning of the schedule alone: the host's program is unrolled for two
//! consecutive steps and for every small number and order of layers ([`Order`]), each launch gets a vector clock, and every pair
//! of launches that touch the same rows and columns of a buffer, or the same layer of a cache, must have a
//! happens-before path between them. Before `memory` has given values their buffers, every value is taken to have a
//! place of its own, reused by each layer and each step.
//!
//! Checked, with the code each mistake carries:
//!
//! - `T3001` read after write, `T3002` write after read, `T3003` write after write without a path between the two;
//! - `T3004` a value overwritten (in order) before its last reader ran;
//! - `T3005` rows read that no launch before has written;
//! - `T3006` a launch that writes over what it reads, where its operator cannot work in place;
//! - `T3007` a launch that may still run when the stream that gives the result has ended;
//! - `T3008` a value that is launched upon but has no home, or a layer that does not find its input where the layer
//!   before left it;
//! - `T3010` a wait for an event that nothing records, `T3011` a record that nothing waits for;
//! - `T3012` a stream, `T3013` an event that the plan does not have.
//!
//! Nothing can wait in a circle: a wait refers to a record that the host made before.
//!
//! Not checked: that an operator touches only what its contract says; that consecutive steps under *different* plans
//! are ordered (whoever changes plans lets the streams of one finish before those of the other begin); and that the
//! parts of one step run with the same rows: a host that gives `layers(0..8)` and `layers(8..16)` different rows cuts
//! them at different places, and has to let the streams of the first finish.

use std::collections::BTreeSet;

use crate::diag::Diagnostic;
use crate::graph::Graph;
use crate::op::layer_orders;
use crate::schedule::{Schedule, Section, Step};

mod access;
mod check;
mod order;
mod origin;
mod soundness;
#[cfg(test)]
mod tests;

pub use order::{LaunchNumber, Order};

/// Everything that is wrong with the order of the launches; nothing for a graph that has no schedule yet.
pub fn hazards(graph: &Graph) -> Vec<Diagnostic> {
    let (Some(schedule), Some(_)) = (&graph.schedule, &graph.streams) else { return vec![] };
    let unsound = soundness::mistakes(graph, schedule);
    if !unsound.is_empty() {
        return unsound;
    }
    let mut seen = BTreeSet::new();
    let mistakes = orders(schedule).into_iter().flat_map(|order| check::mistakes(graph, &order));
    let new = mistakes.filter(|mistake| seen.insert((mistake.diagnostic.code, mistake.texts)));
    new.map(|mistake| mistake.diagnostic).chain(soundness::unused_records(schedule)).collect()
}

/// The waits that no conflict needs, each by its text: removing any one of them leaves a schedule without hazards.
pub fn needless_waits(graph: &Graph) -> Vec<Step> {
    let mut needless = vec![];
    for number in 0.. {
        let mut without = graph.clone();
        let Some(wait) = without.schedule.as_mut().and_then(|schedule| remove_wait(schedule, number)) else { break };
        if hazards(&without).iter().all(|mistake| mistake.code == soundness::UNUSED_RECORD) {
            needless.push(wait);
        }
    }
    needless
}

/// Takes wait number `number`, in the order of the text, out of the schedule.
pub fn remove_wait(schedule: &mut Schedule, number: usize) -> Option<Step> {
    let mut left = number;
    for text in texts_mut(schedule) {
        for at in 0..text.len() {
            match text[at] {
                Step::Wait { .. } if left == 0 => return Some(text.remove(at)),
                Step::Wait { .. } => left -= 1,
                Step::Launch(_) | Step::Record { .. } => {}
            }
        }
    }
    None
}

/// The texts in the order the host goes through them, a repeated one once.
fn texts(schedule: &Schedule) -> impl Iterator<Item = &[Step]> {
    schedule.sections.iter().flat_map(|section| match section {
        Section::Once(text) => vec![text.as_slice()],
        Section::Repeat { blocks, .. } => blocks.iter().map(|(_, text)| text.as_slice()).collect(),
    })
}

fn texts_mut(schedule: &mut Schedule) -> impl Iterator<Item = &mut Vec<Step>> {
    schedule.sections.iter_mut().flat_map(|section| match section {
        Section::Once(text) => vec![text],
        Section::Repeat { blocks, .. } => blocks.iter_mut().map(|(_, text)| text).collect(),
    })
}

/// Orders of layers that show every neighbourhood of layers that there can be, the longest first: a config may say which
/// layer has which text.
fn orders(schedule: &Schedule) -> Vec<Vec<usize>> {
    let texts = schedule.sections.iter().map(|section| match section {
        Section::Once(_) => 1,
        Section::Repeat { blocks, .. } => blocks.len(),
    });
    let mut orders = layer_orders(texts.max().unwrap_or(1).max(1));
    orders.reverse();
    orders
}
