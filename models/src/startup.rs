//! From a checkpoint's folder to a model that is ready to run, with the time of every phase on the way.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use trefoil::registry;
use trefoil_runtime::checkpoint::keys::{self, UnreadKey};
use trefoil_runtime::checkpoint::{Checkpoint, Config};
use trefoil_runtime::compiled::{CompiledExecutor, ExecutorError, ExecutorOptions, KvDtype, PlanChoice};
use trefoil_runtime::device::cpu::CpuDevice;
use trefoil_runtime::engine::{Engine, EngineConfig, EngineHandle};
use trefoil_runtime::model::{BoundModel, CompiledModel};
use trefoil_runtime::trace::Trace;
use trefoil_runtime::weights::{self, LoadOptions, Rank, WeightDtype, Weights};

use crate::args::{Dtype, ModelArgs};
use crate::exit::{CommandError, Exit, OrExit, Outcome};

/// Longest sequence where neither the flags nor the checkpoint say one, in tokens.
const DEFAULT_MODEL_LEN: usize = 4096;
/// Slices that a trace holds, 64 bytes each: some thousand steps of a model of thirty layers.
const TRACE_SLICES: usize = 4 << 20;

/// A model that is ready to run.
pub(crate) struct Ready {
    /// The small files beside the weights.
    pub(crate) checkpoint: Checkpoint,
    /// What runs its steps.
    pub(crate) loaded: Loaded,
}

/// A model's executor, with what there is to say about it.
pub(crate) struct Loaded {
    /// What runs its steps.
    pub(crate) executor: CompiledExecutor,
    /// Where it records its launches, if it was asked to.
    pub(crate) trace: Option<Arc<Trace>>,
    /// For logs and reports.
    pub(crate) description: Description,
}

/// What there is to say about a model in memory.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    /// The folder's name and the graph.
    pub(crate) model: String,
    /// How weights and their size are held.
    pub(crate) weights: String,
    /// Threads of a whole-device stream.
    pub(crate) threads: usize,
    /// The instruction set that the kernels use.
    pub(crate) instruction_set: String,
    /// What the memory went to.
    pub(crate) memory: String,
}

/// Opens the folder that the arguments name and loads its weights.
pub(crate) fn ready(args: &ModelArgs, traced: bool) -> Result<Ready, CommandError> {
    let mut timeline = Timeline::new();
    let dir = model_dir(args);
    let checkpoint = Checkpoint::open(&dir).or_exit(Exit::Invalid)?;
    timeline.end("files");
    let (model, bound) = bind(&checkpoint.config, args)?;
    let bar = progress_bar();
    let progress = |done: u64, total: u64| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let options = load_options(args, &checkpoint.config, &bound, &progress);
    let read = weights::load(&dir, &bound.weights, options).or_exit(Exit::Invalid)?;
    bar.finish_and_clear();
    if !read.unused.is_empty() {
        let names: Vec<_> =
            weights::grouped(read.unused.iter().map(String::as_str)).into_iter().map(|(name, _)| name).collect();
        tracing::warn!("{} tensors of the checkpoint are not used: {}", read.unused.len(), names.join(", "));
    }
    timeline.end("weights");
    let loaded = hold(args, &checkpoint.config, &model, bound, read.weights, traced)?;
    timeline.end("memory");
    tracing::info!("start-up: {}", timeline.summary());
    Ok(Ready { checkpoint, loaded })
}

/// Makes up the weights of the configuration in the folder that the arguments name; no other file need be there.
pub(crate) fn dummy(args: &ModelArgs, seed: u64, traced: bool) -> Result<Loaded, CommandError> {
    let config = Config::open(&model_dir(args)).or_exit(Exit::Invalid)?;
    let (model, bound) = bind(&config, args)?;
    let weights = weights::random(&bound.weights, load_options(args, &config, &bound, &|_, _| {}), seed);
    hold(args, &config, &model, bound, weights, traced)
}

/// Starts an engine over the executor.
pub(crate) fn engine(executor: CompiledExecutor, config: EngineConfig) -> Result<EngineHandle, CommandError> {
    Engine::start(executor, config).or_exit(Exit::Other)
}

/// Writes the trace, where one was asked for.
pub(crate) fn write_trace(trace: Option<Arc<Trace>>, path: Option<&Path>) -> Outcome {
    let (Some(trace), Some(path)) = (trace, path) else { return Ok(()) };
    let file = File::create(path).with_context(|| format!("cannot write the trace to {}", path.display()))?;
    trace.write_json(BufWriter::new(file))?;
    let summary = trace.summary();
    let busy: Vec<_> = summary.busy.iter().map(|(stream, time)| format!("{stream} {} ms", time.as_millis())).collect();
    eprintln!(
        "trace in {}: {} busy, {} ms of it side by side; open it at ui.perfetto.dev",
        path.display(),
        busy.join(", "),
        summary.overlap.as_millis()
    );
    if summary.num_dropped > 0 {
        eprintln!("the trace was full: {} launches at the end are not in it", summary.num_dropped);
    }
    Ok(())
}

/// The folder that the arguments name, or that of the model which ships with the source.
pub(crate) fn model_dir(args: &ModelArgs) -> PathBuf {
    args.model.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny"))
}

fn bind(config: &Config, args: &ModelArgs) -> Result<(CompiledModel<CpuDevice>, BoundModel), CommandError> {
    let model = registry::find::<CpuDevice>(config, args.graph.as_deref()).or_exit(Exit::Invalid)?;
    let bound = bind_to(&model, config)
        .with_context(|| format!("graph {} cannot serve {}", model.name, config.path().display()))
        .or_exit(Exit::Invalid)?;
    match (args.max_model_len, bound.context) {
        (Some(wanted), Some(context)) if wanted > context => {
            Err(anyhow!("--max-model-len {wanted} is longer than the {context} tokens that the model was made for"))
                .or_exit(Exit::Usage)
        }
        _ => Ok((model, bound)),
    }
}

/// The model at a configuration. Refused with every fault at once: those of the keys that the graph reads, those that it
/// does not read though they change the mathematics.
fn bind_to(model: &CompiledModel<CpuDevice>, config: &Config) -> anyhow::Result<BoundModel> {
    let own = (model.bind)(config);
    let unread = keys::unread(config.root(), model.config_keys);
    let mut faults: Vec<_> = own.as_ref().err().into_iter().flatten().map(ToString::to_string).collect();
    faults.extend(unread.faults.iter().map(|fault| format!("{fault}; {}", UnreadKey::REMEDY)));
    let bound = own.ok().filter(|_| faults.is_empty()).ok_or_else(|| anyhow!("{}", faults.join("\n")))?;
    if !unread.unknown.is_empty() {
        tracing::info!("keys of the config that nothing reads and no table knows: {}", unread.unknown.join(", "));
    }
    Ok(bound)
}

fn load_options<'a>(
    args: &ModelArgs,
    config: &Config,
    bound: &BoundModel,
    progress: &'a (dyn Fn(u64, u64) + Sync),
) -> LoadOptions<'a> {
    LoadOptions {
        rank: Rank::ALONE,
        tied: config.get("tie_word_embeddings").and_then(|tied| tied.as_bool()).unwrap_or(false),
        names: bound.names,
        ignore_extra: args.ignore_extra_weights,
        dtype: match args.dtype {
            Dtype::Auto => WeightDtype::Auto,
            Dtype::Bfloat16 => WeightDtype::Bfloat16,
            Dtype::Float32 => WeightDtype::Float32,
        },
        num_threads: options(args, bound).num_threads(),
        progress,
    }
}

/// Allocates the rest of the memory and starts the streams.
fn hold(
    args: &ModelArgs,
    config: &Config,
    model: &CompiledModel<CpuDevice>,
    bound: BoundModel,
    weights: Weights,
    traced: bool,
) -> Result<Loaded, CommandError> {
    let trace = traced.then(|| Arc::new(Trace::new(TRACE_SLICES)));
    let weight_type = format!("{:?}", weights.element()).to_lowercase();
    let options = options(args, &bound);
    let executor = CompiledExecutor::new(model, bound, weights, &options, trace.clone()).map_err(|error| {
        let exit = match error {
            ExecutorError::Limit { .. }
            | ExecutorError::UnknownPlan { .. }
            | ExecutorError::OtherDevice { .. }
            | ExecutorError::Sharded { .. } => Exit::Usage,
            ExecutorError::NoRoomForPages { .. } | ExecutorError::OutOfMemory => Exit::DoesNotFit,
            ExecutorError::Thread(_) => Exit::Device,
        };
        CommandError { exit, error: error.into() }
    })?;
    let folder = config.path().parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let description = Description {
        model: format!("{folder} by graph {}", model.name),
        weights: weight_type,
        threads: executor.device().num_threads(),
        instruction_set: executor.device().instruction_set(),
        memory: executor.ledger().to_string(),
    };
    Ok(Loaded { executor, trace, description })
}

fn options(args: &ModelArgs, bound: &BoundModel) -> ExecutorOptions {
    let default = ExecutorOptions::default();
    ExecutorOptions {
        max_num_batched_tokens: args.max_num_batched_tokens,
        max_num_seqs: args.max_num_seqs,
        max_model_len: args.max_model_len.or(bound.context).unwrap_or(DEFAULT_MODEL_LEN),
        page_tokens: args.block_size.unwrap_or(default.page_tokens),
        kv_memory_bytes: args.kv_cache_memory_bytes.map(|bytes| bytes as usize),
        kv_dtype: match args.kv_cache_dtype {
            Dtype::Auto => KvDtype::Auto,
            Dtype::Bfloat16 => KvDtype::Bfloat16,
            Dtype::Float32 => KvDtype::Float32,
        },
        plan: if args.plan == "auto" { PlanChoice::Auto } else { PlanChoice::Named(args.plan.clone()) },
        num_threads: args.threads,
    }
}

/// A bar on standard error while weights are read; silent where that is no terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(0).with_message("weights");
    match ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The phases of a start and what each took, for one line in the log.
#[derive(Debug)]
struct Timeline {
    began: Instant,
    last: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Timeline {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, phases: Vec::new() }
    }

    fn end(&mut self, phase: &'static str) {
        let now = Instant::now();
        self.phases.push((phase, now - self.last));
        self.last = now;
    }

    /// `files 30 ms, weights 120 ms, memory 4 ms; 154 ms in all`.
    fn summary(&self) -> String {
        let phases: Vec<_> = self.phases.iter().map(|(name, took)| format!("{name} {} ms", took.as_millis())).collect();
        format!("{}; {} ms in all", phases.join(", "), self.began.elapsed().as_millis())
    }
}
