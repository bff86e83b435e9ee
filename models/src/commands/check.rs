//! `trefoil check`: all mistakes of a graph at once, and what it comes to at a configuration.
//!
//! | code | mistake |
//! |---|---|
//! | T0611 | a key of the configuration changes the mathematics, and the graph does not read it |

use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use trefoil::config::lookup;
use trefoil::registry::plans_of;
use trefoil_ir::bind::Bound;
use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::graph::Graph;
use trefoil_runtime::checkpoint::keys::{self, Unread, UnreadKey};
use trefoil_runtime::weights::{Inventory, WeightFault, WeightsError};

use crate::args::CheckArgs;
use crate::commands::new_model::tensors;
use crate::exit::{Exit, OrExit, Outcome};
use crate::source::{self, Source};
use crate::study;

/// Runs the command.
pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let source = source::graph(&args.graph).or_exit(Exit::Usage)?;
    let graph = source.load_graph().or_exit(Exit::Invalid)?;
    println!("{}: serves {}", source.label, graph.serves.join(", "));
    compile_plans(&source).or_exit(Exit::Invalid)?;
    if let Some(path) = &args.config {
        check_config(&source, &graph, path).or_exit(Exit::Invalid)?;
    }
    Ok(())
}

fn compile_plans(source: &Source) -> anyhow::Result<()> {
    let compiled = trefoil_codegen::compile(&source.name, &source.text, &plans_of(&source.name))?;
    for planned in &compiled.plans {
        let schedule = planned.graph.schedule.as_ref().context("a compiled graph has a schedule")?;
        let ranks = planned.plan.ranks.filter(|ranks| *ranks > 1);
        let among = ranks.map(|ranks| format!(" among {ranks} ranks")).unwrap_or_default();
        let (buffers, events) = (schedule.buffers.len(), schedule.num_events);
        println!("plan {}{among}: {buffers} buffers, {events} events", planned.plan.name);
    }
    Ok(())
}

fn check_config(source: &Source, graph: &Graph, path: &Path) -> anyhow::Result<()> {
    let config = study::read_config(path)?;
    let unread = keys::unread(&config, &graph.config_keys());
    let bound = bind(source, graph, &config, path, &unread)?;
    let served = config["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for architecture in served.filter(|name| !graph.serves.iter().any(|served| served == name)) {
        println!("note: the config names {architecture}, which this graph does not list under `serves`");
    }
    if !unread.unknown.is_empty() {
        println!(
            "note: nothing reads these keys of the config, and no table knows them: {}",
            unread.unknown.join(", ")
        );
    }
    print_sizes(graph, &bound);
    check_tensors(graph, &bound, &config, path)
}

/// Compares the tensors of the checkpoint that the configuration belongs to, where there are any: by the headers of its
/// files, as loading would.
fn check_tensors(graph: &Graph, bound: &Bound, config: &Value, path: &Path) -> anyhow::Result<()> {
    let held = match Inventory::open(path) {
        Err(error) if !path.is_dir() || matches!(error.faults[..], [WeightFault::NoWeights { .. }]) => return Ok(()),
        held => held?,
    };
    let tied = config["tie_word_embeddings"].as_bool().unwrap_or(false);
    let faults = tensors::faults(graph, bound, &held, tied);
    anyhow::ensure!(faults.is_empty(), WeightsError { dir: path.to_owned(), faults });
    println!("tensors: {} in the checkpoint, all as the graph needs them", held.num_tensors());
    Ok(())
}

/// The sizes; refused with all that the configuration has against the graph and itself.
fn bind(source: &Source, graph: &Graph, config: &Value, path: &Path, unread: &Unread) -> anyhow::Result<Bound> {
    let bound = trefoil_ir::bind::bind(graph, &|key: &str| lookup(config, key));
    let mut faults = bound.as_ref().err().cloned().unwrap_or_default();
    faults.extend(
        unread
            .faults
            .iter()
            .map(|fault| Diagnostic::new("T0611", Place::default(), fault.to_string()).help(UnreadKey::REMEDY)),
    );
    let refused = || source.draw(&faults).context(format!("{} does not go with this graph", path.display()));
    bound.ok().filter(|_| faults.is_empty()).ok_or_else(refused)
}

fn print_sizes(graph: &Graph, bound: &Bound) {
    let list = |pairs: Vec<String>| pairs.join(", ");
    println!("sizes: {}", list(bound.dims.iter().map(|(name, size)| format!("{name} {size}")).collect()));
    println!("settings: {}", list(bound.params.iter().map(|(name, value)| format!("{name} {value}")).collect()));
    let num_parameters = bound.num_parameters(graph);
    let kv_elements: u64 = graph
        .caches
        .values()
        .map(|cache| {
            let elements = bound.size(&cache.kept()).unwrap_or(0);
            elements * bound.num_layers(Some(cache.block))
        })
        .sum();
    println!("parameters: {num_parameters} with every tensor stored apart; {} bytes in 16 bits", 2 * num_parameters);
    println!("KV cache: {kv_elements} elements per token; {} bytes in 16 bits", 2 * kv_elements);
}
