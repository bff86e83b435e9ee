//! `trefoil search`: finds plans and writes them where `cargo build` compiles them in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use trefoil::config::lookup;
use trefoil_ir::diag::{Diagnostic, render_all};
use trefoil_passes::cost::{Capacity, Mix};
use trefoil_passes::plan::Suits;
use trefoil_passes::search::{Found, Goal, Options, Progress, search};

use crate::args::SearchArgs;
use crate::exit::{CommandError, Exit, OrExit, Outcome};
use crate::study::Study;

/// Runs the command.
pub(crate) fn run(args: &SearchArgs) -> Outcome {
    let study = Study::load(&args.study)?;
    let capacity =
        study.footprint().capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let batches = batches(args, &study, &capacity).or_exit(Exit::DoesNotFit)?;
    let stop = stop_on_interrupt();
    for batch in batches {
        let planned = plan_for(args, &study, batch, &stop)?;
        planned.print();
        write(args, &planned)?;
    }
    Ok(())
}

/// The batches asked for, if all of them fit; or the usual one, in whole tiles.
fn batches(args: &SearchArgs, study: &Study, capacity: &Capacity) -> anyhow::Result<Vec<u32>> {
    if args.batch.is_empty() {
        let (usual, tile) = (study.batch(capacity, None)?, study.profile.cut_rows);
        return Ok(vec![if usual > tile { usual / tile * tile } else { usual }]);
    }
    args.batch.iter().map(|batch| study.batch(capacity, Some(*batch))).collect()
}

/// A plan with what it was found for.
struct Planned {
    found: Found,
    mix: Mix,
    searched: Duration,
    about: String,
}

fn plan_for(args: &SearchArgs, study: &Study, batch: u32, stop: &AtomicBool) -> Result<Planned, CommandError> {
    let mix = study.workload.mix(batch);
    let config = |key: &str| lookup(&study.config, key);
    let (profile, ranks) = (&study.profile, study.ranks);
    let name = format!("{}-tp{ranks}-{batch}", profile.name);
    let goal = Goal { graph: &study.graph, config: &config, profile, ranks, mix, name: &name };
    let began = Instant::now();
    let limit = Duration::from_secs(args.time_limit);
    let bar = progress_bar(args.judgements);
    let options = Options {
        seed: args.seed,
        judgements: args.judgements,
        threads: args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        go_on: &|| !stop.load(Ordering::Relaxed) && began.elapsed() < limit,
        progress: &|progress| show(&bar, &progress),
    };
    let found = search(&goal, &options).map_err(|mistakes| complaint(study, &mistakes)).or_exit(Exit::Invalid)?;
    bar.finish_and_clear();
    let mut planned = Planned { found, mix, searched: began.elapsed(), about: String::new() };
    planned.found.plan.suits = suits(&mix);
    planned.about = planned.describe(args, study);
    Ok(planned)
}

/// The batches around the one that was planned for.
pub(super) fn suits(mix: &Mix) -> Suits {
    let tokens = mix.tokens();
    let max_tokens = Some(tokens + tokens / 4);
    Suits { min_tokens: tokens - tokens / 4, min_decode: mix.decode / 2, max_tokens, max_decode: None }
}

fn complaint(study: &Study, mistakes: &[Diagnostic]) -> anyhow::Error {
    anyhow!("{}", render_all(mistakes, &study.source.label, &study.source.text).trim_end().to_owned())
}

/// True once the process is asked to stop; asked again, it ends at once.
fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let _ = tokio::signal::ctrl_c().await;
            told.store(true, Ordering::Relaxed);
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(130);
        });
    });
    stop
}

fn progress_bar(judgements: u64) -> ProgressBar {
    let bar = ProgressBar::new(judgements);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} judged, {eta} left  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.judged.min(progress.judgements));
    let Progress { num_shapes, layer_seconds, sequential_seconds, .. } = progress;
    bar.set_message(format!(
        "{num_shapes} shapes, a layer {:.3} ms (sequential {:.3} ms)",
        layer_seconds * 1e3,
        sequential_seconds * 1e3
    ));
}

impl Planned {
    fn describe(&self, args: &SearchArgs, study: &Study) -> String {
        format!(
            "Found by `trefoil search {} --device {} --tp {} --workload {} --batch {} --seed {} --judgements {}`\n\
             for {} decode rows of {:.0} tokens and {} prefill rows: {}.\n\
             Simulated: {:.2} ms a step, sequential {:.2} ms, gain {:.3}, gap to the bound {:.1} %.",
            args.study.graph,
            study.profile.name,
            study.ranks,
            study.workload_name,
            self.mix.tokens(),
            args.seed,
            args.judgements,
            self.mix.decode,
            self.mix.decode_context,
            self.mix.prefill,
            self.found.shape,
            self.found.seconds * 1e3,
            self.found.sequential_seconds * 1e3,
            self.found.sequential_seconds / self.found.seconds,
            self.found.gap() * 100.0,
        )
    }

    fn print(&self) {
        println!("plan        {} ({})", self.found.plan.name, self.found.shape);
        println!(
            "rows        {} decode (mean context {:.0}), {} prefill",
            self.mix.decode, self.mix.decode_context, self.mix.prefill
        );
        println!(
            "step        {:.2} ms; sequential {:.2} ms: {:.3} times as fast",
            self.found.seconds * 1e3,
            self.found.sequential_seconds * 1e3,
            self.found.sequential_seconds / self.found.seconds
        );
        println!(
            "layer       {:.4} ms; bound {:.4} ms, gap {:.1} %; sequential {:.4} ms",
            self.found.layer_seconds * 1e3,
            self.found.bound_seconds * 1e3,
            self.found.gap() * 100.0,
            self.found.sequential_layer_seconds * 1e3
        );
        println!(
            "cuts alone  {:.2} ms: the same nano-batches one launch after another",
            self.found.without_overlap_seconds * 1e3
        );
        println!("throughput  {:.0} tokens/s", f64::from(self.mix.tokens()) / self.found.seconds);
        println!("search      {} choices in {:.1} s", self.found.judged, self.searched.as_secs_f64());
    }
}

fn write(args: &SearchArgs, planned: &Planned) -> anyhow::Result<()> {
    let text = planned.found.plan.to_ron(&planned.about);
    let Some(folder) = &args.out else {
        println!("\n{text}");
        return Ok(());
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = Path::new(folder).join(format!("{}.ron", planned.found.plan.name));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written     {}", path.display());
    Ok(())
}
