//! `trefoil bench throughput`: all requests offered at once, total tokens per second.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Serialize;
use trefoil_runtime::engine::{EngineConfig, EngineHandle, Event, Stream};
use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
use trefoil_runtime::trace::Summary;

use crate::args::ThroughputArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::lengths::{self, Lengths};
use crate::random;
use crate::startup::{self, Loaded};

/// What was measured; the first five fields are named as vLLM's are.
#[derive(Debug, Serialize)]
struct Measured {
    elapsed_time: f64,
    num_requests: usize,
    total_num_tokens: usize,
    requests_per_second: f64,
    tokens_per_second: f64,
    prompt_tokens: usize,
    output_tokens: usize,
    output_tokens_per_second: f64,
    steps: u64,
    preemptions: u64,
    model: String,
    plan: String,
    weights: String,
    threads: usize,
    instruction_set: String,
    max_num_seqs: usize,
    max_num_batched_tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<f64>,
}

/// Runs the benchmark and prints the result; also as JSON, if asked.
pub(crate) fn throughput(args: &ThroughputArgs) -> Outcome {
    let traced = args.trace.trace.is_some();
    let Loaded { executor, trace, description } = if args.dummy_weights {
        startup::dummy(&args.model, args.seed, traced)?
    } else {
        startup::ready(&args.model, traced)?.loaded
    };
    let config = EngineConfig { max_num_queued_reqs: usize::MAX, ..EngineConfig::default() };
    let engine = startup::engine(executor, config)?;
    let requests = requests(args, &engine).or_exit(Exit::Usage)?;
    warm_up(&engine, args.seed).or_exit(Exit::Device)?;
    let steps_before = engine.stats().num_steps;
    let began = Instant::now();
    let streams: Vec<Stream> = requests
        .iter()
        .enumerate()
        .map(|(number, lengths)| submit(&engine, *lengths, args.seed.wrapping_add(number as u64)))
        .collect::<anyhow::Result<_>>()
        .or_exit(Exit::Usage)?;
    let output_tokens = streams.into_iter().map(finish).sum::<anyhow::Result<usize>>().or_exit(Exit::Device)?;
    let elapsed = began.elapsed().as_secs_f64();

    let stats = engine.stats();
    let prompt_tokens: usize = requests.iter().map(|lengths| lengths.input).sum();
    let total = prompt_tokens + output_tokens;
    let measured = Measured {
        elapsed_time: elapsed,
        num_requests: requests.len(),
        total_num_tokens: total,
        requests_per_second: requests.len() as f64 / elapsed,
        tokens_per_second: total as f64 / elapsed,
        prompt_tokens,
        output_tokens,
        output_tokens_per_second: output_tokens as f64 / elapsed,
        steps: stats.num_steps - steps_before,
        preemptions: stats.num_preemptions,
        model: description.model,
        plan: args.model.plan.clone(),
        weights: description.weights,
        threads: description.threads,
        instruction_set: description.instruction_set,
        max_num_seqs: args.model.max_num_seqs,
        max_num_batched_tokens: args.model.max_num_batched_tokens,
        overlap: trace.as_ref().map(|trace| overlap(&trace.summary())),
    };
    drop(engine);
    report(&measured, args.output_json.as_deref())?;
    startup::write_trace(trace, args.trace.trace.as_deref())
}

fn requests(args: &ThroughputArgs, engine: &EngineHandle) -> anyhow::Result<Vec<Lengths>> {
    let max_model_len = engine.bounds().max_model_len;
    let Some(path) = &args.dataset_path else {
        let lengths = Lengths { input: args.input_len, output: args.output_len };
        ensure!(args.num_prompts > 0, "--num-prompts is 0: there is nothing to measure");
        return Ok(vec![lengths; args.num_prompts]);
    };
    let taken = lengths::from_trace(path, args.num_prompts, max_model_len)?;
    if taken.num_skipped > 0 {
        eprintln!("skipped {} requests that are empty or longer than {max_model_len} tokens", taken.num_skipped);
    }
    Ok(taken.requests)
}

/// Share of the busy time in which more than one stream was.
fn overlap(summary: &Summary) -> f64 {
    summary.overlap.as_secs_f64() / summary.any.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A short request, so that nothing measured pays for first use.
fn warm_up(engine: &EngineHandle, seed: u64) -> anyhow::Result<()> {
    let room = engine.bounds().max_model_len;
    let lengths = Lengths { input: 16.min(room / 2).max(1), output: 4.min(room / 2).max(1) };
    finish(submit(engine, lengths, seed)?).map(drop)
}

fn submit(engine: &EngineHandle, lengths: Lengths, seed: u64) -> anyhow::Result<Stream> {
    let bounds = engine.bounds();
    let draft = Draft {
        prompt: random_tokens(lengths.input, bounds.vocab, seed),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        stopping: Stopping { max_tokens: Some(lengths.output), ignore_eos: true, ..Stopping::default() },
        num_logprobs: None,
    };
    Ok(engine.submit(Request::new(draft, bounds)?)?)
}

/// Token ids below `vocab` that depend on the seed alone.
fn random_tokens(count: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let base = random::mix(seed.wrapping_add(1));
    (0..count as u64).map(|counter| (random::mix(base.wrapping_add(counter)) % vocab as u64) as u32).collect()
}

/// Waits for the end of a request and counts its tokens.
fn finish(mut stream: Stream) -> anyhow::Result<usize> {
    while let Some(event) = stream.blocking_next() {
        match event {
            Event::Token(_) => {}
            Event::Finished { num_generated_tokens, .. } => return Ok(num_generated_tokens),
            Event::Failed(failure) => return Err(failure).context("a request failed"),
        }
    }
    anyhow::bail!("the engine ended before a request did")
}

fn report(measured: &Measured, json: Option<&Path>) -> Outcome {
    println!(
        "model        {} ({}, {} threads, {})",
        measured.model, measured.weights, measured.threads, measured.instruction_set
    );
    println!("plan         {}", measured.plan);
    println!(
        "requests     {} in {:.2} s ({} steps, {} preemptions)",
        measured.num_requests, measured.elapsed_time, measured.steps, measured.preemptions
    );
    println!("tokens       {} prompt + {} output", measured.prompt_tokens, measured.output_tokens);
    println!(
        "throughput   {:.1} tokens/s in all, {:.1} output tokens/s",
        measured.tokens_per_second, measured.output_tokens_per_second
    );
    if let Some(overlap) = measured.overlap {
        println!("overlap      {:.1} % of the time in which any stream was busy, more than one was", overlap * 100.0);
    }
    let Some(path) = json else { return Ok(()) };
    let text = serde_json::to_string_pretty(measured)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
