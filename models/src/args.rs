//! The command line. Flags that mean what vLLM's mean have vLLM's names; each has an environment variable.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "trefoil", version, about = "Serves language models compiled from graphs", long_about = None, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How the log is written
    #[arg(long, global = true, env = "TREFOIL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// What is logged, as `level` or `target=level,…`
    #[arg(long, global = true, env = "TREFOIL_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
}

/// Documented here and in the README; see [`crate::exit`].
const EXIT_CODES: &str = "\
Exit codes:
  0  done, or drained after a signal      4  the model does not fit into memory
  1  anything not named here              5  the device failed
  2  the command line is wrong
  3  a graph, plan or checkpoint is wrong

Without a command, `trefoil` serves the shipped model.";

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over the OpenAI-compatible API
    Serve(ServeArgs),
    /// Continue prompts on the terminal
    Generate(GenerateArgs),
    /// Check a graph, and what it asks of a config.json
    Check(CheckArgs),
    /// Begin a graph for a model that none serves, from the nearest family
    ///
    /// Compares a config.json, and the tensors beside it, with every graph that is compiled in, and writes a copy of the
    /// nearest one in which each difference is a comment that begins with `DECIDE`. Where a graph serves the model as it
    /// is, nothing is written.
    NewModel(NewModelArgs),
    /// Say what bounds a model on a device under a workload, operator by operator
    Analyze(AnalyzeArgs),
    /// Compare the analysis with the numbers that NanoFlow's authors published
    Paper(PaperArgs),
    /// Show a graph after any pass, its launch schedule, or the generated Rust
    Dump(DumpArgs),
    /// Find a plan for a model on a device under a workload
    Search(SearchArgs),
    /// Tell which plan serves which batch, by what rule, and what it is predicted to win
    Explain(ExplainArgs),
    /// Run one step of a plan on a device profile: its time, what it uses, and a picture of it
    Simulate(SimulateArgs),
    /// Replay requests through the batcher on a device profile: throughput, latencies, and what ran when
    SimulateServing(SimulateServingArgs),
    /// Measure what a device can do, and write it as a profile to plan with
    Profile(ProfileArgs),
    /// Measure
    Bench {
        #[command(subcommand)]
        bench: Bench,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Total tokens per second with all requests offered at once
    Throughput(ThroughputArgs),
}

/// The model and how it is held in memory.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// Folder of the checkpoint, as on the Hugging Face Hub [default: the shipped model]
    #[arg(value_name = "MODEL_DIR", env = "TREFOIL_MODEL")]
    pub(crate) model: Option<PathBuf>,
    /// Graph to use where several serve the checkpoint's architecture
    #[arg(long, env = "TREFOIL_GRAPH", value_name = "NAME")]
    pub(crate) graph: Option<String>,
    /// Plan to run by, or `auto` for the one that suits each step's rows
    #[arg(long, env = "TREFOIL_PLAN", default_value = "auto", value_name = "NAME")]
    pub(crate) plan: String,
    /// Serve a checkpoint with tensors that the graph neither reads nor names in `ignores`; they are named in the log
    #[arg(long, env = "TREFOIL_IGNORE_EXTRA_WEIGHTS")]
    pub(crate) ignore_extra_weights: bool,
    /// Type of the weights in memory
    #[arg(long, env = "TREFOIL_DTYPE", value_enum, default_value_t = Dtype::Auto)]
    pub(crate) dtype: Dtype,
    /// Type of the KV cache
    #[arg(long, env = "TREFOIL_KV_CACHE_DTYPE", value_enum, default_value_t = Dtype::Auto)]
    pub(crate) kv_cache_dtype: Dtype,
    /// Bytes for the KV cache, such as 2GiB [default: what the most sequences at full length need, within memory]
    #[arg(long, env = "TREFOIL_KV_CACHE_MEMORY_BYTES", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) kv_cache_memory_bytes: Option<u64>,
    /// Tokens of a KV page
    #[arg(long, env = "TREFOIL_BLOCK_SIZE", value_name = "TOKENS")]
    pub(crate) block_size: Option<usize>,
    /// Longest sequence, prompt and output [default: the model's]
    #[arg(long, env = "TREFOIL_MAX_MODEL_LEN", value_name = "TOKENS")]
    pub(crate) max_model_len: Option<usize>,
    /// Most sequences in one step
    #[arg(long, env = "TREFOIL_MAX_NUM_SEQS", default_value_t = 64, value_name = "SEQS")]
    pub(crate) max_num_seqs: usize,
    /// Most tokens in one step (the dense batch)
    #[arg(long, env = "TREFOIL_MAX_NUM_BATCHED_TOKENS", default_value_t = 512, value_name = "TOKENS")]
    pub(crate) max_num_batched_tokens: usize,
    /// Worker threads of a whole-device stream [default: all cores]
    #[arg(long, env = "TREFOIL_THREADS")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// As the checkpoint
    Auto,
    Bfloat16,
    Float32,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Address to listen on
    #[arg(long, env = "TREFOIL_HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "TREFOIL_PORT", default_value_t = 8000)]
    pub(crate) port: u16,
    /// Name in the API; may be given several times [default: the folder's name]
    #[arg(long, env = "TREFOIL_SERVED_MODEL_NAME", value_name = "NAME", value_delimiter = ',')]
    pub(crate) served_model_name: Vec<String>,
    /// Chat template to use instead of the checkpoint's
    #[arg(long, env = "TREFOIL_CHAT_TEMPLATE", value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,
    /// Most requests that may wait
    #[arg(long, env = "TREFOIL_MAX_NUM_QUEUED_REQS", default_value_t = 1024, value_name = "REQUESTS")]
    pub(crate) max_num_queued_reqs: usize,
    /// Most alternatives per token that a request may ask for
    #[arg(long, env = "TREFOIL_MAX_LOGPROBS", default_value_t = 20, value_name = "TOKENS")]
    pub(crate) max_logprobs: usize,
    /// Seconds that running requests have to finish after SIGTERM
    #[arg(long, env = "TREFOIL_SHUTDOWN_TIMEOUT", default_value_t = 30, value_name = "SECONDS")]
    pub(crate) shutdown_timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Text to continue; may be given several times [default: standard input]
    #[arg(long, short, env = "TREFOIL_PROMPT", value_name = "TEXT")]
    pub(crate) prompt: Vec<String>,
    /// Take the prompt as a user's message and answer by the chat template
    #[arg(long, env = "TREFOIL_CHAT")]
    pub(crate) chat: bool,
    /// Most new tokens
    #[arg(long, env = "TREFOIL_MAX_TOKENS", default_value_t = 128, value_name = "TOKENS")]
    pub(crate) max_tokens: usize,
    /// 0 is greedy [default: the checkpoint's, or 1]
    #[arg(long, env = "TREFOIL_TEMPERATURE")]
    pub(crate) temperature: Option<f32>,
    /// Keep this many of the most probable tokens; 0 keeps all [default: the checkpoint's]
    #[arg(long, env = "TREFOIL_TOP_K", value_name = "TOKENS")]
    pub(crate) top_k: Option<usize>,
    /// Keep the most probable tokens up to this mass [default: the checkpoint's]
    #[arg(long, env = "TREFOIL_TOP_P", value_name = "SHARE")]
    pub(crate) top_p: Option<f32>,
    /// Same seed, same text
    #[arg(long, env = "TREFOIL_SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// String that ends the text; may be given several times
    #[arg(long, env = "TREFOIL_STOP", value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
    /// Go on past end-of-sequence tokens
    #[arg(long, env = "TREFOIL_IGNORE_EOS")]
    pub(crate) ignore_eos: bool,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TraceArgs {
    /// Write what ran, a lane per stream and a slice per launch, for ui.perfetto.dev or chrome://tracing
    #[arg(long, env = "TREFOIL_TRACE", value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// A graph's file, or the name of one that is compiled in
    pub(crate) graph: String,
    /// Configuration whose sizes the graph is bound to
    #[arg(long, env = "TREFOIL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct NewModelArgs {
    /// A config.json, or the folder of a checkpoint, whose tensors are then compared too
    #[arg(long, env = "TREFOIL_FROM", value_name = "PATH")]
    pub(crate) from: PathBuf,
    /// File to write, or `-` for standard output [default: MODEL_TYPE.ron, in models/graphs if the current folder has that]
    #[arg(long, env = "TREFOIL_OUT", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Graph to begin from [default: the nearest]
    #[arg(long, env = "TREFOIL_GRAPH", value_name = "NAME")]
    pub(crate) graph: Option<String>,
    /// Overwrite the file, and write even where a graph serves the model as it is
    #[arg(long, env = "TREFOIL_FORCE")]
    pub(crate) force: bool,
}

/// A model on a device under a workload.
#[derive(Debug, Clone, Args)]
pub(crate) struct StudyArgs {
    /// A graph's file, or the name of one that is compiled in
    pub(crate) graph: String,
    /// Configuration of the model: a config.json, or the folder it lies in
    #[arg(long, env = "TREFOIL_CONFIG", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// A device profile's file, or the name of one that is compiled in
    #[arg(long, env = "TREFOIL_DEVICE", default_value = "cpu-local", value_name = "DEVICE")]
    pub(crate) device: String,
    /// Devices that share the model (tensor parallelism)
    #[arg(long, env = "TREFOIL_TP", default_value_t = 1, value_name = "RANKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tp: u32,
    /// Tokens of prompts and outputs, or a request trace (CSV with a header, or JSON lines) to take them from
    #[arg(long, env = "TREFOIL_WORKLOAD", default_value = "512:512", value_name = "PROMPT:OUTPUT|TRACE")]
    pub(crate) workload: String,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) study: StudyArgs,
    /// Tokens of a step to plan for; may be given several times, one plan each [default: 2048, or the most that fits into
    /// memory]
    #[arg(long, env = "TREFOIL_BATCH", value_name = "TOKENS", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Vec<u32>,
    /// Folder for the plans; with models/plans/GRAPH, `cargo build` compiles them in [default: print to standard output]
    #[arg(long, env = "TREFOIL_OUT", value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Choices that the simulator judges for each plan
    #[arg(long, env = "TREFOIL_JUDGEMENTS", default_value_t = 1_000_000, value_name = "CHOICES")]
    pub(crate) judgements: u64,
    /// Seconds after which the best plan so far is taken, as it is on Ctrl-C
    #[arg(long, env = "TREFOIL_TIME_LIMIT", default_value_t = 600, value_name = "SECONDS")]
    pub(crate) time_limit: u64,
    /// Same seed and judgements, same plan
    #[arg(long, env = "TREFOIL_SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads to search on [default: all cores]
    #[arg(long, env = "TREFOIL_THREADS")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    pub(crate) study: StudyArgs,
    /// Tokens of the dense batch [default: 2048, or the most that fit if those are fewer]
    #[arg(long, env = "TREFOIL_BATCH", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub(crate) batch: Option<u32>,
    /// Write the result to a file, as JSON
    #[arg(long, env = "TREFOIL_OUTPUT_JSON", value_name = "FILE")]
    pub(crate) output_json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) study: StudyArgs,
    /// File of a plan to consider beside those that are compiled in; may be given several times
    #[arg(long, env = "TREFOIL_PLAN", value_name = "FILE", value_delimiter = ',')]
    pub(crate) plan: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    pub(crate) study: StudyArgs,
    /// A plan's file, or the name of one that is compiled in
    #[arg(long, env = "TREFOIL_PLAN", default_value = "sequential", value_name = "PLAN")]
    pub(crate) plan: String,
    /// Rows of the dense batch [default: 2048, or the most that fits into memory]
    #[arg(long, env = "TREFOIL_BATCH", value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Option<u32>,
    /// Layers to show in pictures, the last one left out [default: two from the middle]
    #[arg(long, env = "TREFOIL_LAYERS", value_name = "A..B", value_parser = parse_layers)]
    pub(crate) layers: Option<Layers>,
    /// Write what ran, a lane per stream and a slice per launch, for ui.perfetto.dev or chrome://tracing
    #[arg(long, env = "TREFOIL_TRACE", value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Draw the layers
    #[arg(long, env = "TREFOIL_SVG", value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Draw the layers on a page with the step's numbers
    #[arg(long, env = "TREFOIL_HTML", value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the result to a file, as JSON
    #[arg(long, env = "TREFOIL_OUTPUT_JSON", value_name = "FILE")]
    pub(crate) output_json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateServingArgs {
    #[command(flatten)]
    pub(crate) study: StudyArgs,
    /// A plan's file, or the name of one that is compiled in; may be given several times, and each step runs by the last
    /// that suits it, or by `sequential` [default: all that are compiled in and made for device and ranks]
    #[arg(long, env = "TREFOIL_PLAN", value_name = "PLAN", value_delimiter = ',')]
    pub(crate) plan: Vec<String>,
    /// Requests per second, `inf` for all at once; a trace's own times are scaled, requests without times arrive as a
    /// Poisson process [default: as the trace says, or `inf` without a trace]
    #[arg(long, env = "TREFOIL_RATE", value_name = "REQUESTS", value_parser = parse_rate)]
    pub(crate) rate: Option<f64>,
    /// Seed of the Poisson process
    #[arg(long, env = "TREFOIL_SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Number of requests [default: all of a trace, or 5000]
    #[arg(long, env = "TREFOIL_NUM_REQUESTS", value_name = "REQUESTS")]
    pub(crate) num_requests: Option<usize>,
    /// Requests that end before throughput is measured, and whose latencies do not count [default: 0, or half of all if
    /// all are offered at once]
    #[arg(long, env = "TREFOIL_NUM_WARMUPS", value_name = "REQUESTS")]
    pub(crate) num_warmups: Option<usize>,
    /// Most sequences in one step [default: one for each token of the dense batch]
    #[arg(long, env = "TREFOIL_MAX_NUM_SEQS", value_name = "SEQS")]
    pub(crate) max_num_seqs: Option<usize>,
    /// Most tokens in one step (the dense batch)
    #[arg(long, env = "TREFOIL_MAX_NUM_BATCHED_TOKENS", default_value_t = 2048, value_name = "TOKENS")]
    pub(crate) max_num_batched_tokens: usize,
    /// Longest sequence, prompt and output; longer requests are skipped [default: the model's]
    #[arg(long, env = "TREFOIL_MAX_MODEL_LEN", value_name = "TOKENS")]
    pub(crate) max_model_len: Option<usize>,
    /// Tokens of a KV page
    #[arg(long, env = "TREFOIL_BLOCK_SIZE", default_value_t = 16, value_name = "TOKENS")]
    pub(crate) block_size: usize,
    /// Draw batches, plans, sequences and latencies over time
    #[arg(long, env = "TREFOIL_SVG", value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the result to a file, as JSON
    #[arg(long, env = "TREFOIL_OUTPUT_JSON", value_name = "FILE")]
    pub(crate) output_json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// Kind of device
    #[arg(long, env = "TREFOIL_DEVICE_KIND", value_enum, default_value_t = DeviceKind::Cpu)]
    pub(crate) device: DeviceKind,
    /// Threads to measure [default: all cores]
    #[arg(long, env = "TREFOIL_THREADS")]
    pub(crate) threads: Option<usize>,
    /// File to write, such as models/devices/cpu-local.ron; no other profile is overwritten than one that was measured [default: standard output]
    #[arg(long, env = "TREFOIL_OUT", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Fewer rounds and sizes: half a minute at most
    #[arg(long, env = "TREFOIL_QUICK")]
    pub(crate) quick: bool,
    /// Seed of the weights
    #[arg(long, env = "TREFOIL_SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Run a model's steps, too, and compare them with what the profile predicts: a folder with a config.json
    #[arg(long, env = "TREFOIL_CHECK", value_name = "MODEL_DIR")]
    pub(crate) check: Option<PathBuf>,
}

/// A device that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceKind {
    /// The processor
    Cpu,
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PaperArgs {
    /// Find the plans anew that the comparison simulates, and write them to a folder
    #[arg(long, env = "TREFOIL_SEARCH")]
    pub(crate) search: bool,
    /// Choices that the simulator judges for each plan
    #[arg(long, env = "TREFOIL_JUDGEMENTS", default_value_t = 1_200_000, value_name = "CHOICES", requires = "search")]
    pub(crate) judgements: u64,
    /// The folder for the plans; those that lie in it when the binary is built are compared
    #[arg(long, env = "TREFOIL_PLANS", default_value = "bench/plans", value_name = "FOLDER", requires = "search")]
    pub(crate) plans: PathBuf,
    /// Find this plan alone
    #[arg(long, env = "TREFOIL_ONLY", value_name = "NAME", requires = "search")]
    pub(crate) only: Option<String>,
    /// File to write, in Markdown [default: standard output]
    #[arg(long, env = "TREFOIL_OUT", value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Layers `from` up to, and without, `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A graph's file, or the name of one that is compiled in
    pub(crate) graph: String,
    /// The last pass to run, `load` for none, or `emit` for the generated Rust
    #[arg(long, env = "TREFOIL_AFTER", value_name = "PASS", default_value = "memory")]
    pub(crate) after: String,
    /// A plan's file, or the name of one that is compiled in
    #[arg(long, env = "TREFOIL_PLAN", default_value = "sequential", value_name = "PLAN")]
    pub(crate) plan: String,
    /// Print as
    #[arg(long, env = "TREFOIL_FORMAT", value_enum, default_value_t = DumpFormat::Text)]
    pub(crate) format: DumpFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DumpFormat {
    /// Lines that read back
    Text,
    /// Graphviz
    Dot,
}

#[derive(Debug, Args)]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Number of requests
    #[arg(long, env = "TREFOIL_NUM_PROMPTS", default_value_t = 32, value_name = "REQUESTS")]
    pub(crate) num_prompts: usize,
    /// Prompt tokens of each request
    #[arg(long, env = "TREFOIL_INPUT_LEN", default_value_t = 128, value_name = "TOKENS")]
    pub(crate) input_len: usize,
    /// New tokens of each request
    #[arg(long, env = "TREFOIL_OUTPUT_LEN", default_value_t = 64, value_name = "TOKENS")]
    pub(crate) output_len: usize,
    /// Take lengths from a request trace (CSV with a header, or JSON lines) instead; requests that do not fit are skipped
    #[arg(long, env = "TREFOIL_DATASET_PATH", value_name = "FILE")]
    pub(crate) dataset_path: Option<PathBuf>,
    /// Seed of the prompts and of dummy weights
    #[arg(long, env = "TREFOIL_SEED", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Random weights: MODEL_DIR needs no more than a config.json
    #[arg(long, env = "TREFOIL_DUMMY_WEIGHTS")]
    pub(crate) dummy_weights: bool,
    /// Write the result to a file, as JSON
    #[arg(long, env = "TREFOIL_OUTPUT_JSON", value_name = "FILE")]
    pub(crate) output_json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
}

/// Reads `4..6`.
fn parse_layers(text: &str) -> Result<Layers, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let layers = parts.map(|(from, to)| Layers { from, to }).filter(|layers| layers.from < layers.to);
    layers.ok_or_else(|| format!("`{text}` is no range of layers; write 4..6 for the layers 4 and 5"))
}

/// Reads requests per second: a number above zero, or `inf`.
fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| format!("`{text}` is no rate; write requests per second, such as 5, or inf for all at once"))
}

/// Reads a number of bytes with an optional unit: `4096`, `512MiB`, `2GB`.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is not a number of bytes; write 2GiB, 512MiB or 4096"))?;
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1024f64.powi(2),
        "g" | "gib" => 1024f64.powi(3),
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err(format!("`{unit}` is not a unit of bytes; use KiB, MiB, GiB, kB, MB or GB")),
    };
    Ok((number * scale) as u64)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            let built_in = ["help", "version"];
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let named = built_in.contains(&flag.get_id().as_str()) || flag.get_env().is_some();
                assert!(named, "--{} of `{}` has none", flag.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&CommandLine::command());
    }

    #[test]
    fn layers_are_a_range() {
        assert_eq!(parse_layers("4..6"), Ok(Layers { from: 4, to: 6 }));
        assert!(parse_layers("6..4").is_err() && parse_layers("4").is_err());
    }

    #[test]
    fn rates_are_above_zero() {
        assert_eq!((parse_rate("2.5"), parse_rate("inf")), (Ok(2.5), Ok(f64::INFINITY)));
        assert!(["0", "-1", "nan", "fast"].iter().all(|text| parse_rate(text).is_err()));
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("2MB"), Ok(2_000_000));
        assert!(parse_bytes("lots").is_err());
        assert!(parse_bytes("2 parsecs").is_err());
    }
}
