//! A step's time and work in one line, by all of its layers or by a few.
//!
//! Launches of neighbouring layers overlap, but after the first layers each further one takes as long as the last. So two
//! runs with few layers give the time of a layer, and that of a step with any number of them. The work of a step is the
//! same in each layer, so of work nothing is lost. Where a model has fewer layers than the two runs, all are run.

use trefoil_ir::ids::BlockId;

use super::report::work;
use super::{engine, tasks};
use crate::cost::{Mix, Model};
use crate::profile::ResourceKey;

/// Layers of each repeat in the first run, and further ones in the second.
const FEW_LAYERS: usize = 4;

/// What a step takes and does on one device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Its time in seconds.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes read from and written to memory.
    pub bytes: f64,
    /// Bytes sent to other devices.
    pub network: f64,
}

impl Totals {
    /// By a run of all layers.
    pub fn of(model: &Model, mix: &Mix) -> Self {
        Self::with_layers(model, mix, &|_, times| times)
    }

    /// By runs of a few layers.
    pub fn by_few_layers(model: &Model, mix: &Mix) -> Self {
        let repeats = repeats(model);
        let short = |at: usize, times: usize| repeats.get(at).map_or(times, |repeat| repeat.few);
        let base = Self::with_layers(model, mix, &short);
        let mut sum = base;
        for (number, repeat) in repeats.iter().enumerate().filter(|(_, repeat)| repeat.few < repeat.times) {
            let more = |at: usize, times: usize| short(at, times) + if at == number { repeat.more } else { 0 };
            let periods = (repeat.times - repeat.few) as f64 / repeat.more as f64;
            sum = sum.plus(Self::with_layers(model, mix, &more).plus(base.scaled(-1.0)).scaled(periods));
        }
        sum
    }

    fn with_layers(model: &Model, mix: &Mix, num_layers: &dyn Fn(usize, usize) -> usize) -> Self {
        let tasks = tasks::with_layers(model, mix, num_layers).tasks;
        let sum = |resource| tasks.iter().fold(0.0, |sum, task| sum + work(task, resource));
        Self {
            seconds: engine::run(model.profile, &tasks, false).end,
            flops: sum(ResourceKey::Compute),
            bytes: sum(ResourceKey::Memory),
            network: sum(ResourceKey::Network),
        }
    }

    /// Both after each other.
    pub fn plus(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            flops: self.flops + other.flops,
            bytes: self.bytes + other.bytes,
            network: self.network + other.network,
        }
    }

    fn scaled(self, by: f64) -> Self {
        let Self { seconds, flops, bytes, network } = self;
        Self { seconds: seconds * by, flops: flops * by, bytes: bytes * by, network: network * by }
    }
}

/// How the layers of a repeat are extended.
struct Repeat {
    times: usize,
    few: usize,
    more: usize,
}

/// The repeats. Each is cut to whole periods of its layers, and ends with the text that the whole repeat ends with.
fn repeats(model: &Model) -> Vec<Repeat> {
    let repeat = |layers: &Vec<BlockId>| {
        let (times, period) = (layers.len(), period(layers));
        let more = FEW_LAYERS.next_multiple_of(period);
        let few = more + times % period;
        if few + more < times { Repeat { times, few, more } } else { Repeat { times, few: times, more } }
    };
    model.bound.repeats.iter().map(repeat).collect()
}

/// After how many layers their texts come again, at the latest after all; at least 1.
fn period(layers: &[BlockId]) -> usize {
    let comes_again = |period: &usize| layers.iter().zip(&layers[*period..]).all(|(a, b)| a == b);
    (1..layers.len()).find(comes_again).unwrap_or(layers.len()).max(1)
}
