//! The texts of a launch schedule as the generated functions take them: embed, layers, head.

use trefoil_ir::dim::Dim;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::BlockId;
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};

/// What happens in the layers of one repeat.
pub(crate) struct Layers<'a> {
    /// What is done once, between the layers of the repeat before and the first of this one; nothing for the first.
    pub(crate) before: Vec<&'a Step>,
    /// One period of the pattern.
    pub(crate) blocks: &'a [(BlockId, Vec<Step>)],
    /// How many layers.
    pub(crate) times: &'a Dim,
}

/// A schedule in its three parts.
pub(crate) struct Parts<'a> {
    pub(crate) embed: Vec<&'a Step>,
    pub(crate) layers: Vec<Layers<'a>>,
    pub(crate) head: Vec<&'a Step>,
}

impl<'a> Parts<'a> {
    /// Takes a schedule apart. Without a repeat everything is part of embed.
    pub(crate) fn of(schedule: &'a Schedule) -> Self {
        let mut parts = Self { embed: vec![], layers: vec![], head: vec![] };
        let mut pending = vec![];
        for section in &schedule.sections {
            match section {
                Section::Once(text) => pending.extend(text),
                Section::Repeat { blocks, times } => {
                    let mut before = std::mem::take(&mut pending);
                    if parts.layers.is_empty() {
                        std::mem::swap(&mut parts.embed, &mut before);
                    }
                    parts.layers.push(Layers { before, blocks, times });
                }
            }
        }
        let last = if parts.layers.is_empty() { &mut parts.embed } else { &mut parts.head };
        *last = pending;
        parts
    }
}

/// The launches of a scheduled graph, in the order of the text.
pub(crate) fn launches(graph: &Graph) -> impl Iterator<Item = &Launch> {
    let texts = graph.schedule.iter().flat_map(|schedule| &schedule.sections).flat_map(|section| match section {
        Section::Once(text) => vec![text],
        Section::Repeat { blocks, .. } => blocks.iter().map(|(_, text)| text).collect(),
    });
    texts.flatten().filter_map(|step| match step {
        Step::Launch(launch) => Some(launch),
        Step::Record { .. } | Step::Wait { .. } => None,
    })
}
