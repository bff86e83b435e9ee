//! What happens when the host's program runs.
//!
//! A [`Trace`] is a program unrolled for two steps of some layers, each launch with a vector clock: how many
//! launches of each stream are known to be done before it starts. Clocks follow the rules of the device: launches of one
//! stream run in order, a record keeps the clock of its stream, a wait adds the clock of the latest record the host made
//! before.

use std::collections::BTreeMap;

use trefoil_ir::ids::{EventId, Id, StreamId, ValueId};

use crate::program::{Move, Program, Site, SiteId, Text};
use crate::touch::{Layout, Thing};

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
    /// Runs `texts`, which have the sites of `program`. The layers of each repeat have the texts of these numbers, or of
    /// what is left of them where there are fewer.
    pub(crate) fn of(program: &Program, texts: &[Text], order: &[usize]) -> Self {
        let mut tracer = Tracer::new(program);
        for step in 0..NUM_STEPS {
            tracer.step(texts, step, order);
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

    fn step(&mut self, texts: &[Text], step: usize, order: &[usize]) {
        let mut next_layer = 0;
        for text in texts {
            match text {
                Text::Once(moves) => self.moves(moves, step, None),
                Text::Repeat { carry, blocks } => {
                    let mut held = carry.with;
                    for (layer, text) in order.iter().enumerate() {
                        let at = text % blocks.len();
                        let (_, takes, gives) = carry.blocks[at];
                        self.hand_over(held, takes);
                        self.moves(&blocks[at], step, Some(next_layer + layer));
                        held = gives;
                    }
                    next_layer += order.len();
                    self.hand_over(held, carry.result);
                }
            }
        }
    }

    fn hand_over(&mut self, from: ValueId, to: ValueId) {
        self.trace.handovers.push(Handover { before: self.trace.runs.len(), from, to });
    }

    fn moves(&mut self, moves: &[Move], step: usize, layer: Option<usize>) {
        for own in moves {
            match *own {
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
