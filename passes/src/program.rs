//! The host's program in short, and what happens when it runs.
//!
//! [`Program`] is a schedule with its launches numbered. [`Trace`] is the program unrolled for two steps of some number
//! of layers, each launch with a vector clock: how many launches of each stream are known to be done before it starts.
//! Clocks follow the rules of the device: launches of one stream run in order, a record keeps the clock of its stream,
//! a wait adds the clock of the latest record the host made before.

use std::collections::BTreeMap;

use trefoil_ir::depend;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{EventId, Id, StreamId, ValueId};
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};

use crate::carry::Carry;
use crate::touch::{Layout, Rows, Thing, Touch, touches};

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
    /// One text per block, run in turn.
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

    /// Numbers of layers that show every neighbourhood of layers that larger numbers have: two periods of the longest
    /// pattern of blocks and at least three layers, and then each way in which the last period can be incomplete.
    pub(crate) fn layer_counts(&self) -> impl Iterator<Item = usize> + use<> {
        let periods = self.texts.iter().map(|text| match text {
            Text::Once(_) => 1,
            Text::Repeat { blocks, .. } => blocks.len().max(1),
        });
        let period = periods.max().unwrap_or(1);
        1..(2 * period).max(3) + period
    }
}

/// How many launches of each stream are done.
pub(crate) type Clock = Vec<usize>;

/// One run of a launch.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) site: SiteId,
    pub(crate) step: usize,
    pub(crate) layer: Option<usize>,
    stream: StreamId,
    /// Its number among all runs.
    turn: usize,
    /// Its number on its stream, from 1.
    number: usize,
    /// What is done when it starts.
    clock: Clock,
}

impl Run {
    /// Whether it is surely done when `later` starts.
    pub(crate) fn is_before(&self, later: &Self) -> bool {
        later.clock[self.stream.index()] >= self.number
    }
}

/// A value takes another's name, since a layer begins or the layers end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handover {
    /// The number of the run before which it happens.
    pub(crate) before: usize,
    pub(crate) from: ValueId,
    pub(crate) to: ValueId,
}

/// A program unrolled.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// In the order of the host's program.
    pub(crate) runs: Vec<Run>,
    pub(crate) handovers: Vec<Handover>,
}

/// Steps that a trace has: whatever races with a step after the next races with the next one too.
const NUM_STEPS: usize = 2;

impl Trace {
    /// Runs `texts`, which have the sites of `program`.
    pub(crate) fn of(program: &Program, texts: &[Text], num_layers: usize) -> Self {
        let mut tracer = Tracer::new(program);
        for step in 0..NUM_STEPS {
            tracer.step(texts, step, num_layers);
        }
        tracer.trace
    }

    /// The first run that may start too early, after the latest one on another stream that it meets and that may still
    /// be running.
    pub(crate) fn first_race(&self, clashes: &Clashes) -> Option<(&Run, &Run)> {
        let mut by_stream: BTreeMap<StreamId, Vec<&Run>> = BTreeMap::new();
        for later in &self.runs {
            let running = by_stream.values().flat_map(|runs| runs.iter().rev().take_while(|run| !run.is_before(later)));
            let racing = running.filter(|run| clashes.between(run, later)).max_by_key(|run| run.turn);
            if let Some(racing) = racing {
                return Some((racing, later));
            }
            by_stream.entry(later.stream).or_default().push(later);
        }
        None
    }
}

struct Tracer<'a> {
    program: &'a Program<'a>,
    clocks: Vec<Clock>,
    records: BTreeMap<EventId, Clock>,
    trace: Trace,
}

impl<'a> Tracer<'a> {
    fn new(program: &'a Program<'a>) -> Self {
        let clocks = vec![vec![0; program.num_streams]; program.num_streams];
        let trace = Trace { runs: vec![], handovers: vec![] };
        Self { program, clocks, records: BTreeMap::new(), trace }
    }

    fn step(&mut self, texts: &[Text], step: usize, num_layers: usize) {
        let mut next_layer = 0;
        for text in texts {
            match text {
                Text::Once(moves) => self.moves(moves, step, None),
                Text::Repeat { carry, blocks } => {
                    let mut held = carry.with;
                    for layer in 0..num_layers {
                        let at = layer % blocks.len();
                        let (_, takes, gives) = carry.blocks[at];
                        self.hand_over(held, takes);
                        self.moves(&blocks[at], step, Some(next_layer + layer));
                        held = gives;
                    }
                    next_layer += num_layers;
                    self.hand_over(held, carry.result);
                }
            }
        }
    }

    fn hand_over(&mut self, from: ValueId, to: ValueId) {
        self.trace.handovers.push(Handover { before: self.trace.runs.len(), from, to });
    }

    fn moves(&mut self, moves: &[Move], step: usize, layer: Option<usize>) {
        for step_of_host in moves {
            match *step_of_host {
                Move::Launch(site) => self.launch(site, step, layer),
                Move::Record(stream, event) => {
                    self.records.insert(event, self.clocks[stream.index()].clone());
                }
                Move::Wait(stream, event) => self.wait(stream, event),
            }
        }
    }

    fn launch(&mut self, site: SiteId, step: usize, layer: Option<usize>) {
        let stream = self.program.site(site).stream;
        let clock = self.clocks[stream.index()].clone();
        let number = clock[stream.index()] + 1;
        self.clocks[stream.index()][stream.index()] = number;
        let turn = self.trace.runs.len();
        self.trace.runs.push(Run { site, step, layer, stream, turn, number, clock });
    }

    fn wait(&mut self, stream: StreamId, event: EventId) {
        let Some(record) = self.records.get(&event) else { return };
        for (known, done) in self.clocks[stream.index()].iter_mut().zip(record) {
            *known = (*known).max(*done);
        }
    }
}

/// Which launches of different streams meet in an element, one of them writing: by pairs of sites. All launches of a step
/// meet its end.
#[derive(Debug, Clone)]
pub(crate) struct Clashes {
    num_sites: usize,
    pairs: Vec<Clash>,
}

/// How two launches meet.
#[derive(Debug, Clone, Copy, Default)]
struct Clash {
    /// In values: in one step, in different ones.
    values: [bool; 2],
    /// In the cache of one layer: in one step, in different ones.
    caches: [bool; 2],
}

impl Clashes {
    /// Of a program whose values live as `layout` says.
    pub(crate) fn of(program: &Program, layout: &Layout) -> Self {
        let num_sites = program.sites.len();
        let mut pairs = Vec::with_capacity(num_sites * num_sites);
        for a in &program.sites {
            pairs.extend(program.sites.iter().map(|b| Clash::between(a, b, layout)));
        }
        Self { num_sites, pairs }
    }

    /// Whether the two runs, of which `a` is put down first, meet.
    pub(crate) fn between(&self, a: &Run, b: &Run) -> bool {
        let clash = self.pairs[a.site.0 * self.num_sites + b.site.0];
        let apart = usize::from(a.step != b.step);
        clash.values[apart] || a.layer == b.layer && clash.caches[apart]
    }
}

impl Clash {
    fn between(a: &Site, b: &Site, layout: &Layout) -> Self {
        if a.stream == b.stream {
            return Self::default();
        }
        let step_ends = a.launch.is_none() || b.launch.is_none();
        let mut clash = Self { values: [step_ends, false], caches: [false, false] };
        for (a, b) in a.touches.iter().flat_map(|a| b.touches.iter().map(move |b| (a, b))) {
            for (apart, same_step) in [true, false].into_iter().enumerate() {
                let met = match a.thing {
                    Thing::Value(_) => &mut clash.values[apart],
                    Thing::Cache(_) => &mut clash.caches[apart],
                };
                *met |= layout.clash(a, b, same_step);
            }
        }
        clash
    }
}
