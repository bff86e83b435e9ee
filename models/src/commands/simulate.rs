//! `trefoil simulate`: one step of a plan on a device profile, in numbers and pictures.

mod table;

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Serialize;
use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;
use trefoil_passes::cost::{Capacity, Footprint, Mix, Model};
use trefoil_passes::simulate::Simulation;
use trefoil_passes::simulate::picture::View;
use trefoil_passes::simulate::report::Report;

use crate::args::SimulateArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::source;
use crate::study::Study;

/// The plan that all others are compared with.
const BASELINE: &str = "sequential";
/// Parts of a step's time for which its use of the resources is told.
const NUM_PARTS: usize = 100;

/// What came of it.
#[derive(Debug, Serialize)]
struct Simulated<'a> {
    graph: &'a str,
    device: &'a str,
    ranks: u32,
    workload: &'a str,
    plan: &'a str,
    batch: Batch,
    memory: Memory,
    report: Report,
    sequential: Report,
}

/// The rows of the dense batch.
#[derive(Debug, Serialize)]
struct Batch {
    decode: u32,
    decode_context: f64,
    prefill: u32,
    prefill_keys: f64,
    seqs: u32,
}

/// What fits into the memory of all devices.
#[derive(Debug, Serialize)]
struct Memory {
    weight_bytes: f64,
    kv_bytes_per_token: f64,
    kv_tokens: f64,
    sequences: f64,
    largest_batch: f64,
}

/// Runs the command.
pub(crate) fn run(args: &SimulateArgs) -> Outcome {
    let study = Study::load(&args.study)?;
    let plan = source::plan(&args.plan).or_exit(Exit::Usage)?;
    let footprint = study.footprint();
    let capacity = footprint.capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let mix = study.workload.mix(study.batch(&capacity, args.batch).or_exit(Exit::DoesNotFit)?);
    let compiled = study.compile(&plan).or_exit(Exit::Invalid)?;
    let sequential = study.compile(&source::plan(BASELINE)?).or_exit(Exit::Invalid)?;
    let simulation = simulate(&study, &compiled, &mix);
    let simulated = Simulated {
        graph: &study.source.name,
        device: &study.profile.name,
        ranks: study.ranks,
        workload: &study.workload_name,
        plan: &plan.name,
        batch: Batch::of(&mix),
        memory: Memory::of(&footprint, &capacity),
        report: simulation.report(NUM_PARTS),
        sequential: simulate(&study, &sequential, &mix).report(NUM_PARTS),
    };
    let view = View { title: title(&simulated), layers: layers(args, &simulation).or_exit(Exit::Usage)? };
    print!("{}", table::text(&simulated));
    write(args.trace.as_deref(), || simulation.trace())?;
    write(args.svg.as_deref(), || simulation.svg(&view))?;
    write(args.html.as_deref(), || simulation.html(&view, &simulated.report))?;
    let json = serde_json::to_string_pretty(&simulated)?;
    write(args.output_json.as_deref(), || json + "\n")
}

fn simulate<'a>(study: &'a Study, (graph, bound): &'a (Graph, Bound), mix: &Mix) -> Simulation<'a> {
    Simulation::of(&Model { graph, bound, profile: &study.profile }, mix)
}

fn title(simulated: &Simulated) -> String {
    let Simulated { graph, plan, ranks, device, workload, .. } = simulated;
    format!("{graph} by plan {plan} on {ranks} × {device}, workload {workload}")
}

fn layers(args: &SimulateArgs, simulation: &Simulation) -> anyhow::Result<Range<usize>> {
    let Some(asked) = args.layers else { return Ok(simulation.middle_layers()) };
    let num_layers = simulation.num_layers();
    ensure!(
        asked.to <= num_layers,
        "--layers {}..{}: the model has {num_layers} layers, 0..{num_layers}",
        asked.from,
        asked.to
    );
    Ok(asked.from..asked.to)
}

fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Outcome {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

impl Batch {
    fn of(mix: &Mix) -> Self {
        let Mix { decode, decode_context, prefill, prefill_keys, seqs, .. } = *mix;
        Self { decode, decode_context, prefill, prefill_keys, seqs }
    }
}

impl Memory {
    fn of(footprint: &Footprint, capacity: &Capacity) -> Self {
        let Footprint { weight_bytes, kv_bytes_per_token, .. } = *footprint;
        let Capacity { kv_tokens, sequences, largest_batch, .. } = *capacity;
        Self { weight_bytes, kv_bytes_per_token, kv_tokens, sequences, largest_batch }
    }
}
