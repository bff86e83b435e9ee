//! What the planning commands have in common: a graph at a configuration, on a device, under a workload.
//!
//! | code | mistake |
//! |---|---|
//! | T1501 | a workload longer than the model's context |
//! | T1502 | a batch larger than memory can hold the keys and values of |
//! | T1503 | weights and one sequence do not fit into the devices' memory |
//! | T1504 | a number of ranks that does not divide the model |
//! | T1505 | a plan for another number of ranks |
//! | T1506 | a plan for another device, or number of ranks, than is being served on |

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use trefoil::config::lookup;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::graph::Graph;
use trefoil_passes::cost::{Capacity, Footprint, Workload};
use trefoil_passes::pipeline::{compile, run_until};
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;

use crate::args::StudyArgs;
use crate::exit::{CommandError, Exit, OrExit};
use crate::lengths;
use crate::source::{self, Source};

/// Rows of a step unless the command line says otherwise: NanoFlow's for large models.
const DEFAULT_BATCH: u32 = 2048;

/// What is being planned for.
pub(crate) struct Study {
    /// The graph's text.
    pub(crate) source: Source,
    /// The graph as loaded.
    pub(crate) graph: Graph,
    /// The configuration.
    pub(crate) config: Value,
    /// The graph's sizes at the configuration, of the whole model.
    pub(crate) bound: Bound,
    /// The device.
    pub(crate) profile: Profile,
    /// The requests.
    pub(crate) workload: Workload,
    /// How the workload was named.
    pub(crate) workload_name: String,
    /// Devices that work as one.
    pub(crate) ranks: u32,
}

impl Study {
    /// Loads all of it, for a workload whose requests fit the context in the mean.
    pub(crate) fn load(args: &StudyArgs) -> Result<Self, CommandError> {
        let study = Self::load_with_any_lengths(args)?;
        fits_context(&study.workload, &args.workload, &study.config).or_exit(Exit::Invalid)?;
        Ok(study)
    }

    /// Loads all of it, whatever the lengths of requests.
    pub(crate) fn load_with_any_lengths(args: &StudyArgs) -> Result<Self, CommandError> {
        let source = source::graph(&args.graph).or_exit(Exit::Usage)?;
        let graph = source.load_graph().or_exit(Exit::Invalid)?;
        let config = read_config(&args.config).or_exit(Exit::Invalid)?;
        let bound = bind_config(&source, &graph, &config, &args.config).or_exit(Exit::Invalid)?;
        let device = source::device(&args.device).or_exit(Exit::Usage)?;
        let profile = device.load_device().or_exit(Exit::Invalid)?;
        let workload = workload(&args.workload).or_exit(Exit::Usage)?;
        let alone = profile.network.is_none();
        if alone && args.tp > 1 {
            let error = anyhow!(
                "--tp {}: the device `{}` has no network; `network` in its profile says what links it has",
                args.tp,
                profile.name
            );
            return Err(CommandError { exit: Exit::Invalid, error });
        }
        let workload_name = args.workload.clone();
        Ok(Self { source, graph, config, bound, profile, workload, workload_name, ranks: args.tp })
    }
}

impl Study {
    /// The graph compiled by a plan for as many ranks as are being planned for, and what sizes a rank has.
    pub(crate) fn compile(&self, plan: &Source) -> anyhow::Result<(Graph, Bound)> {
        let loaded = plan.load_plan()?;
        let ranks = loaded.ranks.unwrap_or(self.ranks);
        ensure!(
            ranks == self.ranks,
            "error[T1505]: the plan {} is for {ranks} ranks, and --tp is {}\n  help: --tp {ranks}, or another plan",
            plan.label,
            self.ranks
        );
        let loaded = Plan { ranks: Some(ranks), ..loaded };
        let compiled = compile(self.graph.clone(), &loaded).map_err(|error| {
            // The whole compilation says the same with the guilty lines of graph and plan.
            let (graph, plans) = (&self.source, [(plan.name.as_str(), plan.text.as_str())]);
            let drawn = trefoil_codegen::compile(&graph.name, &graph.text, &plans);
            drawn.err().map_or_else(|| anyhow!("{error}"), anyhow::Error::new)
        })?;
        let bound = bind_ranks(&compiled, &self.config, ranks)?;
        Ok((compiled, bound))
    }

    /// The rows of a step: those asked for, or as many as are usual and fit.
    pub(crate) fn batch(&self, capacity: &Capacity, asked: Option<u32>) -> anyhow::Result<u32> {
        let most = capacity.largest_batch as u32;
        let batch = asked.unwrap_or(DEFAULT_BATCH.min(most));
        ensure!(
            batch <= most,
            "error[T1502]: --batch {batch}: beside the weights, {} × {} keep {:.0} tokens, those of {:.0} sequences of the \
             workload {}\n  help: they give dense batches of at most {most} rows",
            self.ranks,
            self.profile.name,
            capacity.kv_tokens.floor(),
            capacity.sequences.floor(),
            self.workload_name
        );
        Ok(batch)
    }

    /// What the model occupies.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::of(&self.graph, &self.bound, &self.profile, ties_weights(&self.config))
    }
}

/// A `config.json`, or the folder it lies in.
pub(crate) fn read_config(path: &Path) -> anyhow::Result<Value> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// The sizes of a graph at a configuration.
pub(crate) fn bind_config(source: &Source, graph: &Graph, config: &Value, path: &Path) -> anyhow::Result<Bound> {
    bind(graph, &|key: &str| lookup(config, key))
        .map_err(|faults| source.draw(&faults).context(format!("{} does not go with this graph", path.display())))
}

/// A graph as far as no plan has a say: lowered and fused.
pub(crate) fn fused(graph: Graph) -> anyhow::Result<Graph> {
    let plan = source::plan("sequential")?.load_plan()?;
    Ok(run_until(graph, &plan, "fuse")?)
}

/// What one of `ranks` that share a graph does, and its sizes.
pub(crate) fn sharded(graph: Graph, config: &Value, ranks: u32) -> anyhow::Result<(Graph, Bound)> {
    let plan = Plan { ranks: Some(ranks), ..source::plan("sequential")?.load_plan()? };
    let graph = run_until(graph, &plan, "shard")?;
    let bound = bind_ranks(&graph, config, ranks)?;
    Ok((graph, bound))
}

/// The sizes of a graph that is divided among ranks.
pub(crate) fn bind_ranks(graph: &Graph, config: &Value, ranks: u32) -> anyhow::Result<Bound> {
    bind(graph, &|key: &str| lookup(config, key)).map_err(|faults| {
        let faults: String = faults.into_iter().map(|fault| format!("\n  {}", fault.message)).collect();
        anyhow!("error[T1504]: --tp {ranks} does not divide the model:{faults}\n  help: choose a divisor of them all")
    })
}

/// Whether a configuration ties the weights that may be tied.
pub(crate) fn ties_weights(config: &Value) -> bool {
    config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false)
}

/// `512:1024` for prompts and outputs of these lengths, or the lengths of a trace's requests.
fn workload(argument: &str) -> anyhow::Result<Workload> {
    let parts =
        argument.split_once(':').and_then(|(prompt, output)| Some((prompt.parse().ok()?, output.parse().ok()?)));
    if let Some((prompt, output)) = parts {
        ensure!(prompt + output > 0.0, "--workload {argument}: a request has at least one token");
        return Ok(Workload::constant(prompt, output));
    }
    let path = Path::new(argument);
    if !path.is_file() {
        bail!("--workload {argument}: give PROMPT:OUTPUT tokens, such as 512:1024, or the file of a request trace");
    }
    let lengths = lengths::from_trace(path, usize::MAX, usize::MAX)?.requests;
    let lengths = lengths.iter().map(|request| (request.input as f64, request.output as f64));
    Workload::of_lengths(lengths).with_context(|| format!("the trace {argument} holds no tokens"))
}

fn fits_context(workload: &Workload, name: &str, config: &Value) -> anyhow::Result<()> {
    let Some(context) = config.get("max_position_embeddings").and_then(Value::as_f64) else { return Ok(()) };
    let longest = workload.prompt + workload.output;
    ensure!(
        longest <= context,
        "error[T1501]: --workload {name} asks for {longest} tokens, and `max_position_embeddings` of the config is {context}\n  help: \
         shorten prompt or output to at most {context} tokens together"
    );
    Ok(())
}
