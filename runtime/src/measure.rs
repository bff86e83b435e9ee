//! Measures what a device profile says: operators by size, by share of the device, and in pairs.
//!
//! A made-up model ([`Needs`]) holds weights and KV pages of more bytes than any cache. Every [`Case`] is an operator at
//! a size; its launches go round these weights and pages, so that they are as cold as in a model of many layers, and the
//! activations, as in a model, are not. The time of a case is that of a run of launches put on one stream, by the host's
//! clock, over their number: what a launch costs where others stand in line behind it. Rounds go through all cases,
//! one after another, and the median of the rounds is taken, so that a disturbance of some seconds spoils one round.
//!
//! Beside launches a device gives streams of a share, and waits for one: that is [`Bench`].
//!
//! This module knows nothing of profiles: it gives seconds, and what is made of them is the caller's.

mod case;
mod needs;
mod pair;
mod rig;

use std::time::Duration;

use crate::executor::DeviceFault;
use crate::launch::{BufferId, Device, StreamId, StreamSpec};

pub use case::{Case, cases};
pub use needs::{Needs, Shape};
pub use pair::{Beside, Pair};
use rig::Rig;

/// What measuring asks of a device beside launches.
pub trait Bench: Device + Sized {
    /// What of the device is measured: threads of a processor, for one.
    type Part;

    /// The device with this much in its memory, random weights, and the ids of the buffers.
    ///
    /// # Errors
    /// The device refuses.
    fn open(needs: &Needs, part: Self::Part) -> Result<(Self, Vec<BufferId>), BenchError>;

    /// Adds a stream with a share of the device.
    ///
    /// # Errors
    /// The device refuses.
    fn bench_stream(&mut self, spec: &StreamSpec) -> Result<StreamId, BenchError>;

    /// The shares that it can give, rising; the last is 1.
    fn shares(&self) -> Vec<f32>;

    /// Blocks until all that was put on `stream` has run.
    ///
    /// # Errors
    /// The device's first fault.
    fn finish(&self, stream: StreamId) -> Result<(), DeviceFault>;
}

/// Why nothing was measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BenchError {
    /// The memory that measuring takes is not there.
    #[error("the system refuses the {0} bytes that measuring takes")]
    OutOfMemory(usize),
    /// No stream.
    #[error("the device refuses a stream: {0}")]
    Stream(String),
    /// A launch failed.
    #[error(transparent)]
    Fault(#[from] DeviceFault),
}

/// How thoroughly to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Effort {
    /// Sizes of the made-up model.
    pub shape: Shape,
    /// Bytes of weights of each size, and of KV pages, that launches go round: twice the largest cache, better more.
    pub cycled_bytes: usize,
    /// Most rows of a launch.
    pub max_rows: u32,
    /// Most tokens of a sequence.
    pub max_context: u32,
    /// Rounds of which the median is taken.
    pub rounds: usize,
    /// How long the launches of one case take together, at least.
    pub run: Duration,
    /// For the weights.
    pub seed: u64,
}

/// A case, and the seconds that one launch of it takes on the whole device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The case.
    pub case: Case,
    /// Seconds of a launch.
    pub seconds: f64,
}

/// The speed on a part of the device, relative to that on all of it, with nothing else running.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareSpeed {
    /// The part.
    pub share: f64,
    /// Of a large product.
    pub compute: f64,
    /// Of decode attention.
    pub memory: f64,
}

/// All that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The sizes it was measured with.
    pub shape: Shape,
    /// Operators by size.
    pub samples: Vec<Sample>,
    /// Speeds by share, all shares but the whole.
    pub shares: Vec<ShareSpeed>,
    /// A product beside attention, for the pairs of shares that fill the device, and each with all of it.
    pub pairs: Vec<Pair>,
}

/// Measures a device. `progress` is told how much is done of how much.
///
/// # Errors
/// The device refuses memory or a stream, or a launch fails.
pub fn measure<D: Bench>(part: D::Part, effort: &Effort, progress: &dyn Fn(u64, u64)) -> Result<Measured, BenchError> {
    let mut rig = Rig::<D>::open(part, effort)?;
    let cases = case::cases(effort);
    let pairs = pair::pairs(&rig.shares());
    let total = (effort.rounds * (cases.len() + rig.shares().len() + pairs.len())) as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, total);
    };
    let whole = rig.whole();
    let mut rounds = vec![Vec::new(); cases.len()];
    for _ in 0..effort.rounds {
        for (case, seconds) in cases.iter().zip(&mut rounds) {
            seconds.push(rig.seconds(*case, whole)?);
            step();
        }
    }
    let samples = cases.iter().zip(rounds).map(|(case, seconds)| Sample { case: *case, seconds: median(seconds) });
    let samples = samples.collect();
    let shares = pair::share_speeds(&mut rig, effort.rounds, &mut step)?;
    let pairs = pair::measure_pairs(&mut rig, &pairs, effort.rounds, &mut step)?;
    Ok(Measured { shape: effort.shape, samples, shares, pairs })
}

/// The middle of some values; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
