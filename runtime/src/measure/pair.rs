//! Parts of the device, and unlike operators beside each other: a product, bound by arithmetic, and decode attention,
//! bound by memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::case::{Case, tables};
use super::rig::{Rig, launches_in};
use super::{Bench, BenchError, ShareSpeed, median};

/// How much longer than the measured one the other runs: it must still run when the measured one has ended.
const BESIDE: f64 = 4.0;
/// How many times longer a pair is measured than a case: it begins and ends with one of the two alone.
const LONGER: u32 = 4;

/// A product beside attention, each with its share of the device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The product.
    pub compute: Beside,
    /// The attention.
    pub memory: Beside,
}

/// One of two that run beside each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// What was launched.
    pub case: Case,
    /// Its share of the device.
    pub share: f64,
    /// Seconds of a launch with this share and nothing beside it.
    pub alone: f64,
    /// Seconds of a launch beside the other.
    pub together: f64,
}

/// The pairs of shares that fill the device, and the whole twice.
pub(super) fn pairs(shares: &[f32]) -> Vec<(f32, f32)> {
    let has = |share: f32| shares.iter().copied().find(|own| (own - share).abs() < 1e-3);
    let filling = shares.iter().filter_map(|share| Some((*share, has(1.0 - share)?)));
    filling.chain([(1.0, 1.0)]).collect()
}

/// Speeds by share, all shares but the whole.
pub(super) fn share_speeds<D: Bench>(
    rig: &mut Rig<D>,
    rounds: usize,
    step: &mut impl FnMut(),
) -> Result<Vec<ShareSpeed>, BenchError> {
    let cases = [Case::of_compute(rig.needs()), Case::of_memory(rig.needs())];
    let shares = rig.shares();
    let mut seconds = vec![[Vec::new(), Vec::new()]; shares.len()];
    for _ in 0..rounds {
        for (share, seconds) in shares.iter().zip(&mut seconds) {
            for (case, seconds) in cases.iter().zip(seconds) {
                let [stream, _] = rig.streams(*share);
                seconds.push(rig.seconds(*case, stream)?);
            }
            step();
        }
    }
    let medians: Vec<_> = seconds.into_iter().map(|seconds| seconds.map(median)).collect();
    let Some((whole, parts)) = medians.split_last() else { return Ok(Vec::new()) };
    let speed = |(share, part): (&f32, &[f64; 2])| {
        let [compute, memory] = [0, 1].map(|which| whole[which] / part[which]);
        ShareSpeed { share: f64::from(*share), compute, memory }
    };
    Ok(shares.iter().zip(parts).map(speed).collect())
}

/// Pairs of shares, each with the product's first.
pub(super) fn measure_pairs<D: Bench>(
    rig: &mut Rig<D>,
    pairs: &[(f32, f32)],
    rounds: usize,
    step: &mut impl FnMut(),
) -> Result<Vec<Pair>, BenchError> {
    let mut found = vec![[const { Vec::new() }; 4]; pairs.len()];
    for _ in 0..rounds {
        for (shares, found) in pairs.iter().zip(&mut found) {
            let times = one_pair(rig, *shares)?;
            found.iter_mut().zip(times).for_each(|(all, time)| all.push(time));
            step();
        }
    }
    let (compute, memory) = (Case::of_compute(rig.needs()), Case::of_memory(rig.needs()));
    let pair = |((compute_share, memory_share), found): (&(f32, f32), [Vec<f64>; 4])| {
        let [compute_alone, memory_alone, compute_together, memory_together] = found.map(median);
        let beside = |case, share, alone, together| Beside { case, share: f64::from(share), alone, together };
        Pair {
            compute: beside(compute, *compute_share, compute_alone, compute_together),
            memory: beside(memory, *memory_share, memory_alone, memory_together),
        }
    };
    Ok(pairs.iter().zip(found).map(pair).collect())
}

/// Seconds of a launch: of the product and of the attention alone, then of each beside the other.
fn one_pair<D: Bench>(rig: &mut Rig<D>, shares: (f32, f32)) -> Result<[f64; 4], BenchError> {
    let (compute, memory) = (Case::of_compute(rig.needs()), Case::of_memory(rig.needs()));
    let [compute_stream, _] = rig.streams(shares.0);
    let [_, memory_stream] = rig.streams(shares.1);
    let compute_alone = rig.seconds(compute, compute_stream)?;
    let memory_alone = rig.seconds(memory, memory_stream)?;
    // The product reads no tables, so one step serves both.
    rig.device().begin_step(Arc::new(tables(memory, rig.needs())));
    let compute = (compute, compute_stream, compute_alone);
    let memory = (memory, memory_stream, memory_alone);
    let compute_together = together(rig, compute, memory)?;
    let memory_together = together(rig, memory, compute)?;
    Ok([compute_alone, memory_alone, compute_together, memory_together])
}

type Looped = (Case, crate::launch::StreamId, f64);

/// Seconds of a launch of the one while the other runs.
fn together<D: Bench>(rig: &mut Rig<D>, one: Looped, other: Looped) -> Result<f64, BenchError> {
    let run = rig.run() * LONGER;
    let count = |time: Duration, alone: f64| launches_in(time, Duration::from_secs_f64(alone));
    let launches = count(run, one.2);
    let beside = count(Duration::from_secs_f64(one.2 * launches as f64 * BESIDE), other.2);
    rig.put(other.0, other.1, beside);
    let began = Instant::now();
    rig.put(one.0, one.1, launches);
    rig.device().finish(one.1)?;
    let seconds = began.elapsed().as_secs_f64() / launches as f64;
    rig.device().finish(other.1)?;
    Ok(seconds)
}
