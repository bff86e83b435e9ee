//! Which launches are ordered: the host's program unrolled, with a vector clock per stream.
//!
//! A clock counts, for each stream, the launches that are sure to have ended. A launch begins with its stream's clock;
//! a record keeps the clock of its stream, a wait takes the maximum with what the latest record kept, and a wait for an
//! event that was never recorded passes, as on a device.

use crate::graph::Graph;
use crate::ids::{BlockId, Id, StreamId};
use crate::schedule::{Launch, Schedule, Section, Step};

use super::access::Places;
use super::orders;

/// Number of steps that are unrolled, one after the other.
const NUM_STEPS: usize = 2;

/// A launch by its turn in the host's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaunchNumber(pub(super) usize);

/// The order of all launches of two consecutive steps.
pub struct Order<'a> {
    issued: Vec<Issued<'a>>,
}

/// A launch as the host puts it on its stream.
pub(super) struct Issued<'a> {
    /// `None` for the host's own reading of the result, at the end of a step.
    pub(super) launch: Option<&'a Launch>,
    /// Number of its text: the same for the same launch of another step or layer.
    pub(super) text: usize,
    pub(super) step: usize,
    pub(super) block: Option<BlockId>,
    pub(super) layer: Option<usize>,
    pub(super) stream: StreamId,
    /// How many launches its stream has seen, itself included.
    turn: u32,
    /// What is sure to have ended when it begins.
    clock: Vec<u32>,
}

impl<'a> Order<'a> {
    /// The order of two steps of a scheduled graph, with as many layers as show every neighbourhood of layers.
    pub fn of(graph: &'a Graph) -> Self {
        let order = graph.schedule.as_ref().and_then(|schedule| orders(schedule).into_iter().next());
        Self::unrolled(graph, &order.unwrap_or_default())
    }

    /// With layers of which each has the text of that number, or of what is left of it where there are fewer.
    pub(super) fn unrolled(graph: &'a Graph, order: &[usize]) -> Self {
        let mut host = Host::new(graph);
        if let Some(schedule) = &graph.schedule {
            for step in 0..NUM_STEPS {
                host.run(graph, schedule, step, order);
            }
        }
        Self { issued: host.issued }
    }

    /// The launch of nano-batch `nano` of `node` in step 0 or 1, in a layer or outside the layers.
    pub fn find(&self, step: usize, layer: Option<usize>, node: &str, nano: usize) -> Option<LaunchNumber> {
        let is_it = |issued: &Issued<'_>| {
            let names_it = issued.launch.is_some_and(|launch| launch.node == node && launch.nano == nano);
            names_it && (issued.step, issued.layer) == (step, layer)
        };
        self.issued.iter().position(is_it).map(LaunchNumber)
    }

    /// Whether `a` is sure to have ended when `b` begins.
    pub fn before(&self, a: LaunchNumber, b: LaunchNumber) -> bool {
        let earlier = &self.issued[a.0];
        a < b && self.issued[b.0].clock[earlier.stream.index()] >= earlier.turn
    }

    /// Whether nothing orders the two, so that they can run at the same time.
    pub fn side_by_side(&self, a: LaunchNumber, b: LaunchNumber) -> bool {
        a != b && !self.before(a, b) && !self.before(b, a)
    }

    pub(super) fn issued(&self) -> &[Issued<'a>] {
        &self.issued
    }
}

/// The host, and what it and the streams know.
struct Host<'a> {
    places: Places<'a>,
    /// By stream: what is sure to have ended when its next launch begins.
    clocks: Vec<Vec<u32>>,
    /// By stream: launches so far.
    turns: Vec<u32>,
    /// By event: the clock of its latest record.
    events: Vec<Option<Vec<u32>>>,
    issued: Vec<Issued<'a>>,
}

/// Where in the unrolled program the host stands.
#[derive(Clone, Copy)]
struct Here {
    step: usize,
    block: Option<BlockId>,
    layer: Option<usize>,
}

impl<'a> Host<'a> {
    fn new(graph: &'a Graph) -> Self {
        let num_streams = graph.streams.as_ref().map_or(0, |streams| streams.len());
        let num_events = graph.schedule.as_ref().map_or(0, |schedule| schedule.num_events);
        Self {
            places: Places::of(graph),
            clocks: vec![vec![0; num_streams]; num_streams],
            turns: vec![0; num_streams],
            events: vec![None; num_events],
            issued: vec![],
        }
    }

    fn run(&mut self, graph: &Graph, schedule: &'a Schedule, step: usize, order: &[usize]) {
        let mut first_text = 0;
        let mut first_layer = 0;
        for section in &schedule.sections {
            match section {
                Section::Once(text) => {
                    self.go_through(Here { step, block: None, layer: None }, first_text, text);
                    first_text += text.len();
                }
                Section::Repeat { blocks, .. } => {
                    self.repeat(step, first_text, blocks, (first_layer, order));
                    first_text += blocks.iter().map(|(_, text)| text.len()).sum::<usize>();
                    first_layer += order.len();
                }
            }
        }
        self.read_result(graph, step, first_text);
    }

    fn repeat(
        &mut self,
        step: usize,
        first_text: usize,
        blocks: &'a [(BlockId, Vec<Step>)],
        (first_layer, order): (usize, &[usize]),
    ) {
        for (layer, text) in (first_layer..).zip(order) {
            let number = text % blocks.len();
            let (block, text) = &blocks[number];
            let before: usize = blocks[..number].iter().map(|(_, text)| text.len()).sum();
            self.go_through(Here { step, block: Some(*block), layer: Some(layer) }, first_text + before, text);
        }
    }

    fn go_through(&mut self, here: Here, first_text: usize, text: &'a [Step]) {
        for (number, step) in text.iter().enumerate() {
            match step {
                Step::Launch(launch) => self.issue(here, first_text + number, Some(launch), launch.stream),
                Step::Record { stream, event } => {
                    self.events[event.index()] = Some(self.clocks[stream.index()].clone());
                }
                Step::Wait { stream, event } => self.wait(stream.index(), event.index()),
            }
        }
    }

    fn issue(&mut self, here: Here, text: usize, launch: Option<&'a Launch>, stream: StreamId) {
        let Here { step, block, layer } = here;
        let clock = self.clocks[stream.index()].clone();
        let turn = &mut self.turns[stream.index()];
        *turn += 1;
        self.clocks[stream.index()][stream.index()] = *turn;
        self.issued.push(Issued { launch, text, step, block, layer, stream, turn: *turn, clock });
    }

    fn wait(&mut self, stream: usize, event: usize) {
        let Some(ended) = &self.events[event] else { return };
        for (known, ended) in self.clocks[stream].iter_mut().zip(ended) {
            *known = (*known).max(*ended);
        }
    }

    /// The host takes the end of the stream that the result is written on as the end of the step.
    fn read_result(&mut self, graph: &Graph, step: usize, text: usize) {
        let gives_result = |launch: &Launch| launch.outputs.iter().any(|value| self.places.same(*value, graph.gives));
        let last = self.issued.iter().rev().filter_map(|issued| issued.launch).find(|launch| gives_result(launch));
        if let Some(stream) = last.map(|launch| launch.stream) {
            self.issue(Here { step, block: None, layer: None }, text, None, stream);
        }
    }
}
