//! `trefoil generate`: continues prompts on the terminal, all of them in one batch.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::json;
use trefoil_runtime::checkpoint::Checkpoint;
use trefoil_runtime::engine::{EngineConfig, EngineHandle};
use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
use trefoil_runtime::text::{Generation, Outline, Settings};

use crate::args::GenerateArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::startup::{self, Loaded, Ready};

/// Runs the command.
pub(crate) fn run(args: &GenerateArgs) -> Outcome {
    let prompts = prompts(args)?;
    let Ready { checkpoint, loaded: Loaded { executor, trace, .. } } =
        startup::ready(&args.model, args.trace.trace.is_some())?;
    let engine = startup::engine(executor, EngineConfig::default())?;
    let generations: Vec<_> = prompts
        .iter()
        .enumerate()
        .map(|(number, prompt)| submit(args, number, prompt, &checkpoint, &engine))
        .collect::<anyhow::Result<_>>()
        .or_exit(Exit::Usage)?;
    print(&prompts, generations, args.chat).or_exit(Exit::Device)?;
    drop(engine);
    startup::write_trace(trace, args.trace.trace.as_deref())
}

fn prompts(args: &GenerateArgs) -> anyhow::Result<Vec<String>> {
    if !args.prompt.is_empty() {
        return Ok(args.prompt.clone());
    }
    if std::io::stdin().is_terminal() {
        eprintln!("reading the prompt from the terminal; end it with Ctrl-D (or give --prompt TEXT)");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from standard input")?;
    Ok(vec![text])
}

fn submit(
    args: &GenerateArgs,
    number: usize,
    prompt: &str,
    checkpoint: &Checkpoint,
    engine: &EngineHandle,
) -> anyhow::Result<Generation> {
    let draft = Draft {
        prompt: tokens(args, prompt, checkpoint)?,
        sampling: sampling(args, number, checkpoint),
        stopping: Stopping {
            max_tokens: Some(args.max_tokens),
            eos: checkpoint.eos()?,
            ignore_eos: args.ignore_eos,
            ..Stopping::default()
        },
        num_logprobs: None,
    };
    let request = Request::new(draft, engine.bounds())?;
    let outline = Outline::of(&request);
    let settings = Settings { stop: args.stop.clone(), ..Settings::default() };
    let stream = engine.submit(request)?;
    Ok(Generation::new(stream, &outline, Arc::clone(&checkpoint.tokenizer), &settings)?)
}

fn tokens(args: &GenerateArgs, prompt: &str, checkpoint: &Checkpoint) -> anyhow::Result<Vec<u32>> {
    if !args.chat {
        return Ok(checkpoint.tokenizer.encode(prompt, true)?);
    }
    let Some(template) = &checkpoint.template else {
        bail!("the checkpoint has no chat template: leave out --chat, or add a chat_template.jinja");
    };
    let messages = [json!({ "role": "user", "content": prompt })];
    let rendered = template.render(&messages, true, &serde_json::Map::new())?;
    Ok(checkpoint.tokenizer.encode(&rendered, false)?)
}

/// The flags, then the checkpoint's own settings, then the defaults.
fn sampling(args: &GenerateArgs, number: usize, checkpoint: &Checkpoint) -> Sampling {
    let own = &checkpoint.generation;
    let default = Sampling::default();
    Sampling {
        temperature: args.temperature.or(own.temperature).unwrap_or(default.temperature),
        top_k: args.top_k.or(own.top_k).unwrap_or(default.top_k),
        top_p: args.top_p.or(own.top_p).unwrap_or(default.top_p),
        min_p: own.min_p.unwrap_or(default.min_p),
        repetition_penalty: own.repetition_penalty.unwrap_or(default.repetition_penalty),
        seed: args.seed.wrapping_add(number as u64),
        ..default
    }
}

/// Streams the first text as it comes; the others follow whole, in the order of their prompts.
fn print(prompts: &[String], generations: Vec<Generation>, chat: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for (prompt, mut generation) in prompts.iter().zip(generations) {
        if !chat {
            write!(out, "{prompt}")?;
        }
        while let Some(delta) = generation.blocking_next() {
            write!(out, "{}", delta?.text)?;
            out.flush()?;
        }
        writeln!(out)?;
    }
    Ok(())
}
