//! The settings of the paper that plans are found for, and the plans: `bench/plans/NAME.ron`, found by
//! `trefoil paper --search`.

use std::path::Path;

use anyhow::{Context, anyhow};
use trefoil::config::lookup;
use trefoil::registry::PAPER_PLANS;
use trefoil_ir::graph::Graph;
use trefoil_passes::cost::{Mix, Model, Workload};
use trefoil_passes::pipeline::compile;
use trefoil_passes::plan::Plan;
use trefoil_passes::search::{Found, Goal, Options, search, sequential_plan};
use trefoil_passes::simulate::Simulation;
use trefoil_passes::simulate::picture::View;

use super::subject::{Loaded, device, model};
use crate::commands::search::suits;
use crate::study::bind_ranks;

/// A model on devices under a workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// The name of its plan.
    pub(super) name: &'static str,
    pub(super) model: &'static str,
    pub(super) device: &'static str,
    pub(super) ranks: u32,
    /// Rows of a step.
    pub(super) batch: u32,
    pub(super) requests: Requests,
}

/// What requests are like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Requests {
    /// Prompts and outputs of these lengths.
    Constant(f64, f64),
    /// Means and standard deviations of prompts and outputs.
    Spread { prompt: (f64, f64), output: (f64, f64) },
    /// One step: decode rows, what each has kept, and the rows of one whole prompt.
    Step { decode: u32, context: f64, prompt: u32 },
}

const fn llama_2_70b(name: &'static str, requests: Requests) -> Case {
    Case { name, model: "llama-2-70b", device: "a100-80g-x8", ranks: 8, batch: 2048, requests }
}

const fn other(name: &'static str, model: &'static str, ranks: u32, batch: u32) -> Case {
    Case { name, model, device: "a100-80g-x8", ranks, batch, requests: Requests::Constant(1024.0, 512.0) }
}

/// The ablation's workloads (figure 9), the last three of which are the constant ones of the throughput's (figure 7).
pub(super) const CONSTANT: [Case; 4] = [
    llama_2_70b("llama-2-70b-512-0", Requests::Constant(512.0, 2.0)),
    llama_2_70b("llama-2-70b-512-512", Requests::Constant(512.0, 512.0)),
    llama_2_70b("llama-2-70b-1024-512", Requests::Constant(1024.0, 512.0)),
    llama_2_70b("llama-2-70b-512-1024", Requests::Constant(512.0, 1024.0)),
];

/// The datasets (table 4). Prompts of Splitwise are those that the authors' script leaves, 850 tokens in the mean.
pub(super) const DATASETS: [Case; 3] = [
    llama_2_70b("llama-2-70b-splitwise", Requests::Spread { prompt: (849.9, 1109.0), output: (225.4, 163.0) }),
    llama_2_70b("llama-2-70b-lmsys", Requests::Spread { prompt: (102.0, 169.0), output: (222.0, 210.0) }),
    llama_2_70b("llama-2-70b-sharegpt", Requests::Spread { prompt: (246.0, 547.0), output: (322.0, 244.0) }),
];

/// The other models (figure 11): prompts of 1024 tokens, outputs of 512.
pub(super) const OTHERS: [Case; 5] = [
    other("llama-3-70b-1024-512", "llama-3-70b", 8, 2048),
    other("qwen2-72b-1024-512", "qwen2-72b", 8, 2048),
    other("deepseek-67b-1024-512", "deepseek-67b", 8, 2048),
    other("mixtral-8x7b-1024-512", "mixtral-8x7b", 8, 4096),
    other("llama-3-8b-1024-512", "llama-3-8b", 1, 1024),
];

/// The authors' rewrite on four H200: 640 decodes over 1024 tokens beside a prompt of 1408.
pub(super) const REWRITE: Case = Case {
    name: "llama-3-70b-h200",
    model: "llama-3-70b",
    device: "h200-141g",
    ranks: 4,
    batch: 2048,
    requests: Requests::Step { decode: 640, context: 1024.0, prompt: 1408 },
};

fn all() -> impl Iterator<Item = Case> {
    CONSTANT.into_iter().chain(DATASETS).chain(OTHERS).chain([REWRITE])
}

impl Case {
    /// The rows of a step.
    pub(super) fn mix(&self) -> Mix {
        match self.requests {
            Requests::Constant(prompt, output) => Workload::constant(prompt, output).mix(self.batch),
            Requests::Spread { prompt: (prompt, prompt_std), output: (output, output_std) } => {
                let of_square = |mean: f64, std: f64| (mean * mean + std * std) / mean;
                let decode_context = prompt + of_square(output, output_std) / 2.0;
                let prompt_of_row = of_square(prompt, prompt_std);
                Workload { prompt, output, decode_context, prompt_of_row }.mix(self.batch)
            }
            Requests::Step { decode, context, prompt } => Mix {
                decode,
                decode_context: context,
                prefill: prompt,
                prefill_keys: f64::from(prompt) / 2.0,
                prefill_kept: f64::from(prompt),
                seqs: decode + 1,
            },
        }
    }

    /// Tokens per second of each device, where a step takes so many seconds.
    pub(super) fn throughput(&self, seconds: f64) -> f64 {
        f64::from(self.mix().tokens()) / seconds / f64::from(self.ranks)
    }

    /// The plan that was found; `None` where there is no file.
    pub(super) fn plan(&self) -> anyhow::Result<Option<Plan>> {
        plan(self.name)
    }

    /// Seconds of a step by a plan, `None` for the sequential one; and of a layer in the middle of the model.
    pub(super) fn seconds(&self, plan: Option<&Plan>) -> anyhow::Result<(f64, f64)> {
        let sequential = sequential_plan(self.ranks);
        let plan = plan.unwrap_or(&sequential);
        self.with_model(plan, |model, mix| {
            let run = Simulation::of(model, mix);
            (run.run.end, layer_seconds(&run))
        })
    }

    /// A picture of a step.
    pub(super) fn picture(&self, plan: Option<&Plan>, title: String) -> anyhow::Result<String> {
        let sequential = sequential_plan(self.ranks);
        self.with_model(plan.unwrap_or(&sequential), |model, mix| {
            let run = Simulation::of(model, mix);
            run.svg(&View { title, layers: run.middle_layers() })
        })
    }

    /// What one launch of each operator of a layer takes alone on the device, in seconds, by node and rows.
    pub(super) fn seconds_alone(&self, node: &str, rows: std::ops::Range<u32>) -> anyhow::Result<f64> {
        self.with_model(&sequential_plan(self.ranks), |model, mix| {
            let mut nodes = model.graph.bodies().flat_map(|(_, body)| body);
            let found = nodes.find(|own| own.name == node);
            found.map_or(f64::NAN, |own| model.load(&own.op, mix, rows).seconds)
        })
    }

    fn with_model<T>(&self, plan: &Plan, ask: impl FnOnce(&Model<'_>, &Mix) -> T) -> anyhow::Result<T> {
        let (profile, loaded) = (device(self.device)?, self.loaded()?);
        let plan = Plan { ranks: Some(self.ranks), ..plan.clone() };
        let graph: Graph =
            compile(loaded.as_loaded().clone(), &plan).map_err(|error| anyhow!("{}: {error}", self.name))?;
        let bound = bind_ranks(&graph, loaded.config(), self.ranks)?;
        Ok(ask(&Model { graph: &graph, bound: &bound, profile: &profile }, &self.mix()))
    }

    fn loaded(&self) -> anyhow::Result<Loaded> {
        model(self.model)?.with_context(|| format!("no graph serves {}", self.model))
    }
}

/// The plan of this name in `bench/plans/`.
pub(super) fn plan(name: &str) -> anyhow::Result<Option<Plan>> {
    let Some((_, text)) = PAPER_PLANS.iter().find(|(own, _)| *own == name) else { return Ok(None) };
    let wrong = |mistakes: Vec<trefoil_ir::diag::Diagnostic>| {
        anyhow!("{}", trefoil_ir::diag::render_all(&mistakes, &format!("bench/plans/{name}.ron"), text))
    };
    Plan::load(name, text).map(Some).map_err(wrong)
}

/// The time from the start of a layer in the middle of the model to that of the layer after the next, halved.
fn layer_seconds(run: &Simulation<'_>) -> f64 {
    let layers = run.middle_layers();
    let start_of = |layer: usize| {
        let starts = run.sites.iter().zip(&run.run.spans).filter(|(site, _)| site.layer == Some(layer));
        starts.map(|(_, span)| span.start).fold(f64::INFINITY, f64::min)
    };
    (start_of(layers.end) - start_of(layers.start)) / layers.len() as f64
}

/// Finds a plan for every case and writes it to a folder.
pub(super) fn find_all(folder: &Path, judgements: u64, only: Option<&str>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for case in all().filter(|case| only.is_none_or(|name| case.name == name)) {
        let (profile, loaded) = (device(case.device)?, case.loaded()?);
        let config = |key: &str| lookup(loaded.config(), key);
        let (graph, mix) = (loaded.as_loaded(), case.mix());
        let goal = Goal { graph, config: &config, profile: &profile, ranks: case.ranks, mix, name: case.name };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let options = Options { seed: 0, judgements, threads, go_on: &|| true, progress: &|_| () };
        let began = std::time::Instant::now();
        let found = search(&goal, &options).map_err(|mistakes| anyhow!("{}: {mistakes:?}", case.name))?;
        write(folder, &case, &found, judgements)?;
        eprintln!(
            "{}: {:.1} ms a step, sequential {:.1} ms, {:.3} times as fast, gap {:.1} %, {:.0} s",
            case.name,
            found.seconds * 1e3,
            found.sequential_seconds * 1e3,
            found.sequential_seconds / found.seconds,
            found.gap() * 100.0,
            began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn write(folder: &Path, case: &Case, found: &Found, judgements: u64) -> anyhow::Result<()> {
    let mix = case.mix();
    let about = format!(
        "Found by `trefoil paper --search --judgements {judgements}`: {} on {} x {}, {} decode rows of {:.0} tokens and {} \
         prefill rows; {}.\nSimulated: {:.2} ms a step, sequential {:.2} ms; a layer {:.4} ms, none in less than {:.4} ms.",
        case.model,
        case.ranks,
        case.device,
        mix.decode,
        mix.decode_context,
        mix.prefill,
        found.shape,
        found.seconds * 1e3,
        found.sequential_seconds * 1e3,
        found.layer_seconds * 1e3,
        found.bound_seconds * 1e3
    );
    let suits = suits(&mix);
    let path = folder.join(format!("{}.ron", case.name));
    let text = Plan { suits, ..found.plan.clone() }.to_ron(&about);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
