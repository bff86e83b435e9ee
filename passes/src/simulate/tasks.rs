//! The tasks of a launch schedule: its sections unrolled over the layers, its events turned into what comes after what.
//!
//! An event stands for all that its stream had been given when it was recorded: its latest launch, and what the stream
//! waits for since. A wait binds the launches that follow on its stream, of which the first one is enough; a wait for
//! an event that was never recorded binds nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use trefoil_ir::graph::Graph;
use trefoil_ir::ids::Id;
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};

use crate::cost::{Load, Mix, Model};

use super::engine::Task;

/// What the tasks are, and where each comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tasks<'a> {
    /// The tasks, in the order of the host's program.
    pub tasks: Vec<Task>,
    /// The launch behind each task.
    pub sites: Vec<Site<'a>>,
}

/// Where a task comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site<'a> {
    /// The node.
    pub node: &'a str,
    /// The operator.
    pub operator: &'static str,
    /// Number of the nano-batch among those of its node.
    pub nano: usize,
    /// The layer, `None` outside the layers.
    pub layer: Option<usize>,
    /// Its part of the dense batch.
    pub rows: Range<u32>,
}

/// The tasks of a scheduled graph on a batch; none where there is no schedule.
pub fn of<'a>(model: &Model<'a>, mix: &Mix) -> Tasks<'a> {
    with_layers(model, mix, &|_, times| times)
}

/// The tasks of a graph that has another number of layers: `num_layers` is given the number of a repeat among all
/// repeats, and how many layers it has.
pub fn with_layers<'a>(model: &Model<'a>, mix: &Mix, num_layers: &dyn Fn(usize, usize) -> usize) -> Tasks<'a> {
    let Some(schedule) = &model.graph.schedule else { return Tasks::default() };
    let cuts = model.graph.split.as_ref().map(|split| split.cut(mix.tokens(), mix.decode));
    let host = Host { model, mix, cuts: &cuts.unwrap_or_else(|| vec![0, mix.tokens()]) };
    let mut queues = Queues::of(model.graph, schedule);
    let (mut repeat, mut first_layer) = (0, 0);
    for section in &schedule.sections {
        match section {
            Section::Once(steps) => queues.put_all(&host.steps(steps), None),
            Section::Repeat { blocks, .. } => {
                let texts: BTreeMap<_, _> = blocks.iter().map(|(block, steps)| (*block, host.steps(steps))).collect();
                // A bound graph knows how many layers it has.
                let layers = model.bound.repeats.get(repeat).map_or(&[][..], Vec::as_slice);
                let times = num_layers(repeat, layers.len()).min(layers.len());
                for (layer, text) in layers[..times].iter().filter_map(|block| texts.get(block)).enumerate() {
                    queues.put_all(text, Some(first_layer + layer));
                }
                (repeat, first_layer) = (repeat + 1, first_layer + times);
            }
        }
    }
    queues.done
}

/// A step with what it costs, so that layers of one text are computed once.
type Costed<'a> = (&'a Step, Load, Range<u32>);

struct Host<'a> {
    model: &'a Model<'a>,
    mix: &'a Mix,
    cuts: &'a [u32],
}

impl Host<'_> {
    fn steps<'s>(&self, steps: &'s [Step]) -> Vec<Costed<'s>> {
        let cost = |step: &'s Step| match step {
            Step::Launch(launch) => {
                let rows = self.cuts[launch.range.from.index()]..self.cuts[launch.range.to.index()];
                (step, self.model.load(&launch.op, self.mix, rows.clone()), rows)
            }
            Step::Record { .. } | Step::Wait { .. } => (step, Load::default(), 0..0),
        };
        steps.iter().map(cost).collect()
    }
}

/// What the host has put on the streams so far.
struct Queues<'a> {
    graph: &'a Graph,
    /// By stream: what has to end before all that was put on it has.
    tails: Vec<Tail>,
    /// By event: the tail of its stream when it was last recorded.
    events: Vec<Tail>,
    done: Tasks<'a>,
}

#[derive(Debug, Clone, Default)]
struct Tail {
    /// The latest task.
    last: Option<usize>,
    /// What has been waited for since.
    waits: Vec<usize>,
}

impl<'a> Queues<'a> {
    fn of(graph: &'a Graph, schedule: &Schedule) -> Self {
        let num_streams = graph.streams.as_ref().map_or(0, trefoil_ir::ids::Table::len);
        let (tails, events) = (vec![Tail::default(); num_streams], vec![Tail::default(); schedule.num_events]);
        Self { graph, tails, events, done: Tasks::default() }
    }

    fn put_all(&mut self, steps: &[Costed<'a>], layer: Option<usize>) {
        for (step, load, rows) in steps {
            match step {
                Step::Launch(launch) => self.launch(launch, *load, rows.clone(), layer),
                Step::Record { stream, event } => self.events[event.index()] = self.tails[stream.index()].clone(),
                Step::Wait { stream, event } => {
                    let Tail { last, waits } = &self.events[event.index()];
                    self.tails[stream.index()].waits.extend(last.iter().chain(waits));
                }
            }
        }
    }

    fn launch(&mut self, launch: &'a Launch, load: Load, rows: Range<u32>, layer: Option<usize>) {
        let stream = launch.stream.index();
        let tail = &mut self.tails[stream];
        let after = std::mem::take(&mut tail.waits);
        tail.last = Some(self.done.tasks.len());
        let (resource, share) = (load.bound_by, share(self.graph, launch));
        self.done.tasks.push(Task { stream, resource, share, load, after });
        self.done.sites.push(Site { node: &launch.node, operator: launch.op.name(), nano: launch.nano, layer, rows });
    }
}

/// A launch's part of the device: its own, or else its stream's.
fn share(graph: &Graph, launch: &Launch) -> f64 {
    let of_stream = || graph.streams.as_ref().map_or(1.0, |streams| streams[launch.stream].share);
    f64::from(launch.share.unwrap_or_else(of_stream))
}
