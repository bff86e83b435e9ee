//! From what was measured to a profile: work as the cost model counts it, peaks, kernels, sharing and slowdown.

use std::collections::BTreeMap;

use trefoil_passes::profile::{
    Compute, ElementBytes, Kernel, Memory, Oversubscribed, Profile, ResourceKey, Slowdown, Speed, rounded,
};
use trefoil_runtime::measure::{Beside, Case, Measured, Pair, Sample, Shape};

use crate::exit::{CommandError, Exit, OrExit};
use crate::source::Source;

/// How far the points of a kernel may be off the measured times.
const TOLERANCE: f64 = 0.06;
/// A product this much slower than its weight takes to stream is bound by arithmetic.
const BOUND_BY_COMPUTE: f64 = 1.15;
/// The processor's weights and pages are bfloat16, its activations float32.
const BYTES: ElementBytes = ElementBytes { weights: 2, activations: 4, kv: 2 };
/// Nano-batches of fewer rows pay for the rows of a tile that they do not fill.
const CUT_ROWS: u32 = 16;

/// Work of a launch, as `trefoil_passes::cost` counts it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Work {
    flops: f64,
    bytes: f64,
}

impl Work {
    fn of(case: Case, shape: Shape) -> Self {
        let [weights, activations, kv_bytes] = [BYTES.weights, BYTES.activations, BYTES.kv].map(f64::from);
        let [hidden, ffn, kv] = [shape.hidden, shape.ffn, shape.kv()].map(|width| width as f64);
        let moved = |rows: u32, width: f64, bytes: f64| Self { flops: 0.0, bytes: f64::from(rows) * width * bytes };
        let attention = |rows: u32, keys: f64, kept: f64| Self {
            flops: 4.0 * hidden * keys,
            bytes: 2.0 * hidden * f64::from(rows) * activations + 2.0 * kv * kv_bytes * kept,
        };
        match case {
            Case::Embed(rows) => moved(rows, hidden, weights + activations),
            Case::RmsNorm(rows) | Case::Rope(rows) | Case::Rows(rows) => moved(rows, hidden, 2.0 * activations),
            Case::AddRmsNorm(rows) => moved(rows, hidden, 4.0 * activations),
            Case::Add(rows) => moved(rows, hidden, 3.0 * activations),
            Case::GatedMul(rows) => moved(rows, ffn, 3.0 * activations),
            Case::KvWrite(rows) => moved(rows, 2.0 * kv, activations + kv_bytes),
            Case::Linear { rows, product } => {
                let (inputs, outputs) = shape.products()[usize::from(product)];
                let (matrix, rows) = ((inputs * outputs) as f64, f64::from(rows));
                let bytes = matrix * weights + (inputs + outputs) as f64 * rows * activations;
                Self { flops: 2.0 * matrix * rows, bytes }
            }
            Case::DecodeAttention { seqs, context } => {
                let kept = f64::from(seqs) * f64::from(context);
                attention(seqs, kept, kept)
            }
            Case::PrefillAttention { rows, context } => {
                let (own, before) = (f64::from(rows), f64::from(context - rows));
                attention(rows, own * before + own * (own + 1.0) / 2.0, f64::from(context))
            }
        }
    }
}

/// The profile of a device of `units` units that was measured.
pub(super) fn profile(about: String, measured: &Measured, memory_bytes: f64, units: u32) -> Profile {
    let flops = rounded(best(measured, is_product, |work| work.flops));
    let bandwidth = rounded(best(measured, is_streamed, |work| work.bytes));
    Profile {
        name: "cpu-local".to_owned(),
        about,
        memory: Memory { bytes: memory_bytes, bandwidth },
        compute: Compute { flops, units, tile: None, split_seconds: 0.0 },
        network: None,
        bytes: BYTES,
        cut_rows: CUT_ROWS,
        kernels: kernels(measured, flops, bandwidth),
        sharing: sharing(measured),
        slowdown: slowdown(measured, bandwidth),
        oversubscribed: Oversubscribed::Slows,
    }
}

/// The profile as its own file's text gives it.
pub(super) fn read_back(profile: &Profile) -> Result<Profile, CommandError> {
    let label = format!("devices/{}.ron", profile.name);
    let source = Source { name: profile.name.clone(), label, text: file(profile) };
    source.load_device().or_exit(Exit::Other)
}

/// The profile's file.
pub(super) fn file(profile: &Profile) -> String {
    "// Measured; measure again rather than edit.\n".to_owned() + &profile.to_ron()
}

fn is_product(case: Case) -> bool {
    matches!(case, Case::Linear { .. })
}

/// Whether its time is that of reading weights or keys.
fn is_streamed(case: Case) -> bool {
    matches!(case, Case::Linear { rows: 1, .. } | Case::DecodeAttention { .. })
}

/// The best rate of some cases.
fn best(measured: &Measured, is_counted: impl Fn(Case) -> bool, amount: impl Fn(Work) -> f64) -> f64 {
    let counted = measured.samples.iter().filter(|sample| is_counted(sample.case));
    counted.map(|sample| amount(Work::of(sample.case, measured.shape)) / sample.seconds).fold(0.0, f64::max)
}

/// Kernels by operator. `"*"` is the streaming of weights by products of one row: the cost model takes a product's bytes
/// to move at its rate.
fn kernels(measured: &Measured, flops: f64, bandwidth: f64) -> BTreeMap<String, Kernel> {
    let streamed = measured.samples.iter().filter(|sample| matches!(sample.case, Case::Linear { rows: 1, .. }));
    let streamed = Kernel::fit(&timed(streamed, measured.shape, |work| work.bytes), bandwidth, TOLERANCE);
    let mut by_operator: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in &measured.samples {
        by_operator.entry(sample.case.operator()).or_default().push(sample);
    }
    let is_bound_by_compute = |sample: &&Sample| {
        let weight = streamed.seconds(Work::of(sample.case, measured.shape).bytes, bandwidth);
        sample.seconds > BOUND_BY_COMPUTE * weight
    };
    let kernel = |(operator, samples): (&str, Vec<&Sample>)| {
        let kernel = match operator {
            "Linear" => {
                let bound = samples.into_iter().filter(is_bound_by_compute);
                Kernel::fit(&timed(bound, measured.shape, |work| work.flops), flops, TOLERANCE)
            }
            "PrefillAttention" => {
                Kernel::fit(&timed(samples.into_iter(), measured.shape, |work| work.flops), flops, TOLERANCE)
            }
            _ => Kernel::fit(&timed(samples.into_iter(), measured.shape, |work| work.bytes), bandwidth, TOLERANCE),
        };
        (operator.to_owned(), kernel)
    };
    let kernels = by_operator.into_iter().map(kernel).chain([("*".to_owned(), streamed.clone())]);
    kernels.filter(|(_, kernel)| !kernel.points().is_empty()).collect()
}

fn timed<'a>(samples: impl Iterator<Item = &'a Sample>, shape: Shape, amount: impl Fn(Work) -> f64) -> Vec<(f64, f64)> {
    samples.map(|sample| (amount(Work::of(sample.case, shape)), sample.seconds)).collect()
}

fn sharing(measured: &Measured) -> BTreeMap<ResourceKey, Speed> {
    let speed = |points: Vec<(f64, f64)>| {
        // More of the device is not slower, and no part is faster than the whole.
        let rising = points.into_iter().scan(0.0, |before: &mut f64, (share, speed)| {
            *before = before.max(speed);
            Some((rounded(share), rounded(before.min(1.0))))
        });
        Speed::new(rising.collect())
    };
    let compute = measured.shares.iter().map(|speed| (speed.share, speed.compute)).collect::<Vec<_>>();
    let memory = measured.shares.iter().map(|speed| (speed.share, speed.memory)).collect::<Vec<_>>();
    let keys = [(ResourceKey::Compute, compute), (ResourceKey::Memory, memory)];
    keys.into_iter().filter(|(_, points)| !points.is_empty()).map(|(key, points)| (key, speed(points))).collect()
}

/// What each suffers beside the other where their shares fill the device: how much slower it is than alone with its
/// share, less what dividing the bandwidth explains, which the simulator does by itself.
fn slowdown(measured: &Measured, bandwidth: f64) -> Vec<Slowdown> {
    let pairs: Vec<_> = measured.pairs.iter().filter(|pair| is_divided(pair)).collect();
    if pairs.is_empty() {
        return Vec::new();
    }
    let wants = |beside: &Beside| Work::of(beside.case, measured.shape).bytes / beside.alone;
    let beyond = |own: &Beside, other: &Beside| {
        let divided = divided(wants(own), wants(other), bandwidth);
        (rounded(other.share), rounded((own.together / own.alone / divided).max(1.0)))
    };
    let of = |of, beside, mut points: Vec<(f64, f64)>| {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Slowdown { of, beside, points }
    };
    let (compute, memory) = (ResourceKey::Compute, ResourceKey::Memory);
    vec![
        of(compute, memory, pairs.iter().map(|pair| beyond(&pair.compute, &pair.memory)).collect()),
        of(memory, compute, pairs.iter().map(|pair| beyond(&pair.memory, &pair.compute)).collect()),
    ]
}

/// Whether the two have no more than the device between them.
fn is_divided(pair: &Pair) -> bool {
    pair.compute.share + pair.memory.share < 1.01
}

/// By how much one is slower that wants `own` of a bandwidth beside one that wants `other`: who wants no more than half
/// gets it, and the rest is the other's.
fn divided(own: f64, other: f64, bandwidth: f64) -> f64 {
    let half = bandwidth / 2.0;
    if own + other <= bandwidth || own <= half { 1.0 } else { own / (bandwidth - other.min(half)) }
}

/// The main numbers, and how well the profile tells again what was measured.
pub(super) fn summary(profile: &Profile, measured: &Measured) -> String {
    let mut text = format!(
        "peaks        {:.0} GFLOP/s, {:.1} GB/s\n",
        profile.compute.flops / 1e9,
        profile.memory.bandwidth / 1e9
    );
    for operator in profile.kernels.keys().filter(|operator| *operator != "*") {
        let samples = measured.samples.iter().filter(|sample| sample.case.operator() == operator);
        let misses: Vec<_> = samples.map(|sample| miss(profile, sample, measured.shape)).collect();
        let mean = misses.iter().map(|miss| miss.abs()).sum::<f64>() / misses.len().max(1) as f64;
        let worst = misses.iter().fold(0.0f64, |worst, miss| if miss.abs() > worst.abs() { *miss } else { worst });
        let num_points = profile.kernel(operator).points().len();
        text += &format!(
            "{operator:<17} {:>3} sizes in {num_points:>2} points, off by {:.0} % in the mean, {:+.0} % at worst\n",
            misses.len(),
            mean * 100.0,
            worst * 100.0
        );
    }
    for speed in &measured.shares {
        text += &format!(
            "{:.2} of the device: products at {:.2}, attention at {:.2} of their speed\n",
            speed.share, speed.compute, speed.memory
        );
    }
    measured.pairs.iter().fold(text, |text, pair| text + &pair_told(profile, pair))
}

/// By how much the profile's time is above that measured, relative to it.
fn miss(profile: &Profile, sample: &Sample, shape: Shape) -> f64 {
    let Work { flops, bytes } = Work::of(sample.case, shape);
    let (compute, memory) = (profile.compute.flops, profile.memory.bandwidth);
    let kernel = profile.kernel(sample.case.operator());
    let seconds = match sample.case {
        Case::Linear { .. } => kernel.seconds(flops, compute).max(profile.kernel("*").seconds(bytes, memory)),
        Case::PrefillAttention { .. } => kernel.seconds(flops, compute).max(bytes / memory),
        Case::Embed(_)
        | Case::RmsNorm(_)
        | Case::AddRmsNorm(_)
        | Case::Rope(_)
        | Case::KvWrite(_)
        | Case::DecodeAttention { .. }
        | Case::Add(_)
        | Case::GatedMul(_)
        | Case::Rows(_) => kernel.seconds(bytes, memory).max(flops / compute),
    };
    seconds / sample.seconds - 1.0
}

fn pair_told(profile: &Profile, pair: &Pair) -> String {
    let slower = |beside: &Beside| beside.together / beside.alone;
    let Pair { compute, memory } = pair;
    let told = format!(
        "products at {:.2} beside attention at {:.2}: {:.2} and {:.2} times the time they take alone",
        compute.share,
        memory.share,
        slower(compute),
        slower(memory)
    );
    if is_divided(pair) {
        return told + "\n";
    }
    let half = |resource, beside| profile.slowdown(resource, beside, 0.5) / profile.speed(resource, 0.5);
    let (of_compute, of_memory) = (ResourceKey::Compute, ResourceKey::Memory);
    format!("{told}; the profile says {:.2} and {:.2}\n", half(of_compute, of_memory), half(of_memory, of_compute))
}
