//! `trefoil simulate-serving`: requests through the runtime's batcher, on the clock of a device profile.

mod offer;
mod over_time;
mod picture;
mod plans;
mod replay;
mod report;
mod table;

use std::path::Path;

use anyhow::{Context, anyhow};
use serde::Serialize;
use trefoil_passes::cost::Footprint;
use trefoil_passes::simulate::units::time;
use trefoil_runtime::executor::Capacity;

use crate::args::SimulateServingArgs;
use crate::exit::{CommandError, Exit, OrExit, Outcome};
use crate::study::Study;

use offer::Offer;
use over_time::Moment;
use plans::Plans;
use replay::{Ran, Replayed};
use report::Report;

/// Parts of the time for which it is told what went on.
const NUM_PARTS: usize = 240;
/// Steps that are simulated in full, to tell how good the predictions are.
const NUM_CHECKED: usize = 16;
/// The longest sequence of a model whose configuration does not say.
const DEFAULT_MODEL_LEN: usize = 4096;

/// What came of it.
#[derive(Debug, Serialize)]
struct Simulated<'a> {
    graph: &'a str,
    device: &'a str,
    ranks: u32,
    workload: &'a str,
    arrivals: &'a str,
    num_skipped: usize,
    memory: Limits,
    report: Report,
    prediction: Prediction,
    over_time: Vec<Moment>,
}

/// What the batcher is allowed, and the memory it follows from.
#[derive(Debug, Serialize)]
struct Limits {
    weight_bytes: f64,
    kv_bytes_per_token: f64,
    page_tokens: usize,
    num_pages: usize,
    longest_sequence: usize,
    max_num_batched_tokens: usize,
    max_num_seqs: usize,
}

/// How far predicted steps are from those simulated with exactly their rows and all layers.
#[derive(Debug, Serialize)]
struct Prediction {
    num_simulated: usize,
    num_checked: usize,
    /// Of the time of all of them, relative to the full one.
    error: f64,
    largest_error: f64,
}

/// Runs the command.
pub(crate) fn run(args: &SimulateServingArgs) -> Outcome {
    let study = Study::load_with_any_lengths(&args.study)?;
    let footprint = study.footprint();
    let capacity = capacity(args, &study, &footprint)?;
    let offer = offer::offer(args, capacity.longest_sequence()).or_exit(Exit::Usage)?;
    let mut plans = Plans::load(&study, &args.plan)?;
    let replayed = replay::replay(&offer.requests, &capacity, &mut |mix| {
        let plan = plans.choose(mix);
        (plan, plans.totals(plan, mix))
    })?;
    let names: Vec<_> = plans.names().collect();
    let num_warmups = num_warmups(args, &offer).or_exit(Exit::Usage)?;
    let simulated = Simulated {
        graph: &study.source.name,
        device: &study.profile.name,
        ranks: study.ranks,
        workload: &study.workload_name,
        arrivals: &offer.manner,
        num_skipped: offer.num_skipped,
        memory: Limits::of(&footprint, &capacity),
        report: Report::of(&replayed, &names, &study.profile, study.ranks, num_warmups),
        prediction: check(&plans, &replayed),
        over_time: over_time::over_time(&replayed, NUM_PARTS, names.len(), &study.profile),
    };
    print!("{}", table::text(&simulated));
    write(args.svg.as_deref(), || picture::svg(&simulated))?;
    let json = serde_json::to_string_pretty(&simulated)?;
    write(args.output_json.as_deref(), || json + "\n")
}

/// What the batcher may use: pages for as many tokens as fit beside the weights, or as its sequences could ever fill.
fn capacity(args: &SimulateServingArgs, study: &Study, footprint: &Footprint) -> Result<Capacity, CommandError> {
    let room = footprint.capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let own_len = study.config.get("max_position_embeddings").and_then(|len| len.as_u64());
    let max_model_len = args.max_model_len.or(own_len.map(|len| len as usize)).unwrap_or(DEFAULT_MODEL_LEN);
    let max_num_seqs = args.max_num_seqs.unwrap_or(args.max_num_batched_tokens);
    let page_tokens = args.block_size;
    let most_pages = max_num_seqs.saturating_mul(max_model_len.div_ceil(page_tokens.max(1)));
    let num_pages = most_pages.min((room.kv_tokens / page_tokens as f64) as usize);
    let max_num_batched_tokens = args.max_num_batched_tokens;
    let capacity = Capacity { vocab: 1, max_model_len, max_num_batched_tokens, max_num_seqs, page_tokens, num_pages };
    capacity.check().map_err(|limit| anyhow!("the limit {limit} is 0: nothing could run")).or_exit(Exit::Usage)?;
    Ok(capacity)
}

fn num_warmups(args: &SimulateServingArgs, offer: &Offer) -> anyhow::Result<usize> {
    let count = offer.requests.len();
    let num_warmups = args.num_warmups.unwrap_or(if offer.is_at_once { count / 2 } else { 0 });
    anyhow::ensure!(num_warmups < count, "--num-warmups {num_warmups}: of {count} requests none is left to measure");
    Ok(num_warmups)
}

/// Simulates some steps in full, evenly from all of them.
fn check(plans: &Plans, replayed: &Replayed) -> Prediction {
    let stride = replayed.steps.len().div_ceil(NUM_CHECKED).max(1);
    let in_full = |step: &Ran| (step.totals.seconds, plans.in_full(step.plan, &step.mix).seconds);
    let pairs: Vec<_> = replayed.steps.iter().skip(stride / 2).step_by(stride).map(in_full).collect();
    let (predicted, full) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    let errors = pairs.iter().map(|(predicted, full)| (predicted / full - 1.0).abs());
    Prediction {
        num_simulated: plans.num_known(),
        num_checked: pairs.len(),
        error: if full > 0.0 { predicted / full - 1.0 } else { 0.0 },
        largest_error: errors.fold(0.0, f64::max),
    }
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Outcome {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

impl Simulated<'_> {
    fn title(&self) -> String {
        let Self { graph, ranks, device, workload, .. } = self;
        let workload = Path::new(workload).file_name().map_or((*workload).into(), |name| name.to_string_lossy());
        format!("{graph} on {ranks} × {device}, workload {workload}, {}", self.arrivals)
    }

    fn subtitle(&self) -> String {
        let (report, throughput) = (&self.report, &self.report.throughput);
        format!(
            "simulated; {} requests in {}; {:.0} tokens/s per device, normalized latency {} in the mean",
            report.num_requests,
            time(report.seconds),
            throughput.tokens_per_second_per_device,
            time(report.latency.normalized_seconds.mean),
        )
    }
}

impl Limits {
    fn of(footprint: &Footprint, capacity: &Capacity) -> Self {
        let Capacity { page_tokens, num_pages, max_num_batched_tokens, max_num_seqs, .. } = *capacity;
        let Footprint { weight_bytes, kv_bytes_per_token, .. } = *footprint;
        let longest_sequence = capacity.longest_sequence();
        Self {
            weight_bytes,
            kv_bytes_per_token,
            page_tokens,
            num_pages,
            longest_sequence,
            max_num_batched_tokens,
            max_num_seqs,
        }
    }
}
