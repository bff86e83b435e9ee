//! The host's program in short: a schedule with its launches numbered, and what each of them touches.

use trefoil_ir::depend;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{EventId, Id, StreamId, ValueId};
use trefoil_ir::op::layer_orders;
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};

use crate::carry::Carry;
use crate::touch::{Rows, Thing, Touch, touches};

/// The number of a launch in the text of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SiteId(pub(crate) usize);

/// A launch in the text of the schedule; or, as the last one, the host's own reading of the result.
#[derive(Debug, Clone)]
pub(crate) struct Site<'a> {
    /// `None` for the host.
    pub(crate) launch: Option<&'a Launch>,
    pub(crate) stream: StreamId,
    /// The number of its section.
    pub(crate) section: usize,
    pub(crate) touches: Vec<Touch>,
}

/// One step of the host's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    Launch(SiteId),
    Record(StreamId, EventId),
    Wait(StreamId, EventId),
}

/// The text of a section.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Once(Vec<Move>),
    /// One text per block, each run for the layers that have it.
    Repeat {
        carry: Carry,
        blocks: Vec<Vec<Move>>,
    },
}

impl Text {
    pub(crate) fn moves(&self) -> impl Iterator<Item = &Move> {
        let texts = match self {
            Text::Once(text) => std::slice::from_ref(text),
            Text::Repeat { blocks, .. } => blocks.as_slice(),
        };
        texts.iter().flatten()
    }
}

/// A schedule with its launches numbered.
#[derive(Debug, Clone)]
pub(crate) struct Program<'a> {
    pub(crate) sites: Vec<Site<'a>>,
    pub(crate) texts: Vec<Text>,
    pub(crate) num_streams: usize,
    /// By the number of a value: the one that a launch has to give for it to exist.
    bases: Vec<ValueId>,
}

impl<'a> Program<'a> {
    /// The program of a schedule of the graph.
    pub(crate) fn of(graph: &Graph, schedule: &'a Schedule) -> Self {
        let num_streams = graph.streams.as_ref().map_or(0, |streams| streams.len());
        let bases = graph.values.ids().map(|value| depend::base(graph, value)).collect();
        let mut program = Self { sites: vec![], texts: vec![], num_streams, bases };
        let mut carries = graph.nodes.iter().filter_map(|node| Carry::of(graph, node));
        for (number, section) in schedule.sections.iter().enumerate() {
            let text = match section {
                Section::Once(steps) => Text::Once(program.number(graph, number, steps)),
                Section::Repeat { blocks, .. } => {
                    let blocks = blocks.iter().map(|(_, steps)| program.number(graph, number, steps)).collect();
                    let Some(carry) = carries.next() else { continue };
                    Text::Repeat { carry, blocks }
                }
            };
            program.texts.push(text);
        }
        program.end(graph);
        program
    }

    /// The host reads the result when the stream that gives it has come so far, and takes that as the end of the step.
    fn end(&mut self, graph: &Graph) {
        let gives = self.base(graph.gives);
        let is_giver = |site: &&Site| site.launch.is_some_and(|launch| launch.outputs.contains(&gives));
        let giver = self.sites.iter().rfind(is_giver).or(self.sites.last());
        let (stream, section) = (giver.map_or(StreamId::new(0), |site| site.stream), self.texts.len());
        let whole = graph.split.as_ref().map(|split| Rows::all(split.whole()));
        let read = whole.map(|rows| Touch { thing: Thing::Value(graph.gives), rows, writes: false });
        self.sites.push(Site { launch: None, stream, section, touches: read.into_iter().collect() });
        let end = Move::Launch(SiteId(self.sites.len() - 1));
        match self.texts.last_mut() {
            Some(Text::Once(last)) => last.push(end),
            Some(Text::Repeat { .. }) | None => self.texts.push(Text::Once(vec![end])),
        }
    }

    fn number(&mut self, graph: &Graph, section: usize, steps: &'a [Step]) -> Vec<Move> {
        let mut number = |step: &'a Step| match step {
            Step::Launch(launch) => {
                let touches = touches(graph, &launch.op, &launch.outputs, launch.range);
                self.sites.push(Site { launch: Some(launch), stream: launch.stream, section, touches });
                Move::Launch(SiteId(self.sites.len() - 1))
            }
            Step::Record { stream, event } => Move::Record(*stream, *event),
            Step::Wait { stream, event } => Move::Wait(*stream, *event),
        };
        steps.iter().map(&mut number).collect()
    }

    /// The value that a launch has to give for this one to exist: itself, unless it is a window of columns.
    pub(crate) fn base(&self, value: ValueId) -> ValueId {
        self.bases[value.index()]
    }

    pub(crate) fn site(&self, site: SiteId) -> &Site<'a> {
        &self.sites[site.0]
    }

    /// Orders of layers that show every neighbourhood of layers that there can be: a config may say which layer has
    /// which text.
    pub(crate) fn layer_orders(&self) -> Vec<Vec<usize>> {
        let texts = self.texts.iter().map(|text| match text {
            Text::Once(_) => 1,
            Text::Repeat { blocks, .. } => blocks.len().max(1),
        });
        layer_orders(texts.max().unwrap_or(1))
    }
}
