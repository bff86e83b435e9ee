//! One step of a real model, as the profile predicts it and as it runs.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use serde_json::Value;
use trefoil::registry;
use trefoil_passes::cost::{Mix, Model};
use trefoil_passes::pipeline::compile;
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;
use trefoil_passes::simulate;
use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::compiled::CompiledExecutor;
use trefoil_runtime::device::cpu::CpuDevice;
use trefoil_runtime::executor::{Executor, Input, PageIndex, Part, Slot, Step};

use crate::args::{ModelArgs, ProfileArgs};
use crate::exit::{CommandError, Exit, OrExit};
use crate::startup::{self, Loaded};
use crate::{source, study};

/// Sequences of the decode step.
const SEQS: usize = 16;
/// Tokens that each has kept, its row's own with them.
const CONTEXT: usize = 256;
/// Tokens of the prefill step.
const PROMPT: usize = 512;

#[derive(Parser)]
struct Checked {
    #[command(flatten)]
    model: ModelArgs,
}

/// Two lines of predicted and measured times, with what the prediction is off by.
pub(super) fn against(folder: &Path, profile: &Profile, args: &ProfileArgs) -> Result<String, CommandError> {
    let model = model_args(folder, args).or_exit(Exit::Usage)?;
    let predicted = predicted(folder, profile).or_exit(Exit::Invalid)?;
    let Loaded { mut executor, description, .. } = startup::dummy(&model, args.seed, false)?;
    let measured = measured(&mut executor, if args.quick { 3 } else { 8 }).or_exit(Exit::Device)?;
    let steps = [format!("decode of {SEQS} at {CONTEXT}"), format!("prefill of {PROMPT}")];
    let told = steps.iter().zip(predicted.into_iter().zip(measured)).map(|(step, (predicted, measured))| {
        format!(
            "{}, {step}: predicted {:.1} ms, measured {:.1} ms, off by {:+.1} %\n",
            description.model,
            predicted * 1e3,
            measured * 1e3,
            (predicted / measured - 1.0) * 100.0
        )
    });
    Ok(told.collect())
}

/// The graph that serves the model in a folder.
pub(super) fn graph_of(folder: &Path) -> anyhow::Result<&'static str> {
    Ok(registry::find::<CpuDevice>(&Config::open(folder)?, None)?.name)
}

/// The arguments of a server that would run these steps.
fn model_args(folder: &Path, args: &ProfileArgs) -> anyhow::Result<ModelArgs> {
    let folder = folder.to_str().context("the folder's name is not Unicode")?;
    let threads = args.threads.map_or(Vec::new(), |threads| vec!["--threads".to_owned(), threads.to_string()]);
    let limits = ["--max-num-seqs=16", "--max-num-batched-tokens=512", "--max-model-len=1024", "--block-size=32"];
    let fixed = ["check", folder, "--plan=sequential", "--dtype=bfloat16", "--kv-cache-dtype=bfloat16"];
    let line = fixed.into_iter().chain(limits).map(str::to_owned).chain(threads);
    Ok(Checked::try_parse_from(line)?.model)
}

/// Seconds of the two steps by the profile.
fn predicted(folder: &Path, profile: &Profile) -> anyhow::Result<[f64; 2]> {
    let config: Value = study::read_config(folder)?;
    let name = graph_of(folder)?;
    let plan = Plan { ranks: Some(1), ..source::plan("sequential")?.load_plan()? };
    let graph = compile(source::graph(name)?.load_graph()?, &plan)?;
    let bound = study::bind_ranks(&graph, &config, 1)?;
    let model = Model { graph: &graph, bound: &bound, profile };
    let decode = Mix { decode: SEQS as u32, decode_context: CONTEXT as f64, seqs: SEQS as u32, ..Mix::default() };
    let prompt = PROMPT as f64;
    let prefill = Mix {
        prefill: PROMPT as u32,
        prefill_keys: (prompt + 1.0) / 2.0,
        prefill_kept: prompt,
        seqs: 1,
        ..Mix::default()
    };
    Ok([decode, prefill].map(|mix| simulate::seconds(&model, &mix)))
}

/// Medians of the seconds of the two steps. Prefills come first: they write the pages that the decodes read.
fn measured(executor: &mut CompiledExecutor, prefills: usize) -> anyhow::Result<[f64; 2]> {
    let page_tokens = executor.capacity().page_tokens;
    let pages_each = PROMPT / page_tokens;
    let pages = |first: usize, count: usize| (first..first + count).map(|page| PageIndex(page as u32)).collect();
    let mut prefill_seconds = Vec::new();
    for number in 0..prefills {
        let input = Input::Known(tokens(number, PROMPT));
        let pages = pages(number * pages_each, pages_each);
        let parts = vec![Part { slot: Slot(0), input, position: 0, pages, sample: None }];
        prefill_seconds.push(seconds(executor, &Step { parts, num_decodes: 0 })?);
    }
    let (written, pages_each) = (prefills * pages_each, CONTEXT / page_tokens);
    let part = |seq: usize| Part {
        slot: Slot(seq as u32),
        input: Input::Known(tokens(seq, 1)),
        position: CONTEXT - 1,
        pages: pages(seq * pages_each % written, pages_each),
        sample: None,
    };
    let step = Step { parts: (0..SEQS).map(part).collect(), num_decodes: SEQS };
    let decode_seconds: Vec<_> = (0..24).map(|_| seconds(executor, &step)).collect::<anyhow::Result<_>>()?;
    // The first of each pays for first use.
    Ok([median(&decode_seconds[1..]), median(&prefill_seconds[1..])])
}

/// Seconds of a step to the logits of the last row of each sequence.
fn seconds(executor: &mut CompiledExecutor, step: &Step) -> anyhow::Result<f64> {
    let ends = step.parts.iter().scan(0, |end, part| {
        *end += part.num_tokens() as u32;
        Some(*end - 1)
    });
    let last: Vec<u32> = ends.collect();
    let began = Instant::now();
    executor.logits(step, &last)?;
    Ok(began.elapsed().as_secs_f64())
}

fn tokens(seed: usize, count: usize) -> Vec<u32> {
    (0..count).map(|index| ((seed * 7919 + index * 104_729) % 1000) as u32).collect()
}

fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}
