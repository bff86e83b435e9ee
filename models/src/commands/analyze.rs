//! `trefoil analyze`: what bounds a model on a device under a workload, operator by operator and as a whole.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use trefoil_passes::analyze::{Analysis, Iteration, Operator, Rank, Subject, Times, analyze};
use trefoil_passes::cost::Mix;
use trefoil_passes::profile::{Network, ResourceKey};

use crate::args::AnalyzeArgs;
use crate::exit::{Exit, OrExit, Outcome};
use crate::study::{self, Study};
use crate::table::{Table, digits, fixed, whole, wrap};

/// Runs the command.
pub(crate) fn run(args: &AnalyzeArgs) -> Outcome {
    let study = Study::load(&args.study)?;
    let graph = study::fused(study.graph.clone()).or_exit(Exit::Invalid)?;
    let ties = study::ties_weights(&study.config);
    let subject = Subject { graph: &graph, bound: &study.bound, profile: &study.profile, ranks: study.ranks, ties };
    subject.footprint().capacity(&study.profile, study.ranks, &study.workload).or_exit(Exit::DoesNotFit)?;
    let (own, bound) = study::sharded(study.graph.clone(), &study.config, study.ranks).or_exit(Exit::Usage)?;
    let rank = Rank { graph: &own, bound: &bound };
    let analysis = analyze(&subject, &rank, &study.workload, args.batch).or_exit(Exit::DoesNotFit)?;
    print!("{}", report(&study, &analysis, args.batch));
    if let Some(path) = &args.output_json {
        write_json(&study, &analysis, path)?;
    }
    Ok(())
}

fn report(study: &Study, analysis: &Analysis, asked: Option<u32>) -> String {
    let parts = [
        headline(study, analysis),
        batch_line(analysis, asked),
        "\n".to_owned(),
        operator_table(&analysis.operators).text(),
        "\n".to_owned(),
        iteration_table(analysis).text(),
        "\n".to_owned(),
        conclusion(study, analysis),
        sources(study),
    ];
    parts.concat()
}

fn headline(study: &Study, analysis: &Analysis) -> String {
    let (footprint, capacity, workload) = (&analysis.footprint, &analysis.capacity, &study.workload);
    let profile = &study.profile;
    let ranks = f64::from(study.ranks);
    let links = match profile.network {
        Some(network) => format!(", links {} GB/s one way", digits(network.one_way() * ranks / 1e9)),
        None => ", no links".to_owned(),
    };
    let active = if footprint.active_parameters < footprint.parameters {
        format!(", {} of them for each token", billions(footprint.active_parameters))
    } else {
        String::new()
    };
    format!(
        "model        {}, {} parameters in {} GB{active}; a token keeps {} kB of keys and values\n\
         devices      {} x {}: {} TFLOP/s, memory {} GB at {} GB/s{links}\n\
         workload     {}: prompts of {} and outputs of {} tokens\n\
         room         keys and values of {} tokens: {} running sequences of {} tokens in the mean\n",
        study.source.name,
        billions(footprint.parameters),
        digits(footprint.weight_bytes / 1e9),
        digits(footprint.kv_bytes_per_token / 1e3),
        study.ranks,
        profile.name,
        digits(profile.compute.flops * ranks / 1e12),
        digits(capacity.memory_bytes / 1e9),
        digits(profile.memory.bandwidth * ranks / 1e9),
        study.workload_name,
        digits(workload.prompt),
        digits(workload.output),
        whole(capacity.kv_tokens),
        whole(capacity.sequences),
        digits(workload.decode_context),
    )
}

fn batch_line(analysis: &Analysis, asked: Option<u32>) -> String {
    let Mix { decode, decode_context, prefill, prefill_keys, .. } = analysis.mix;
    let tokens = f64::from(analysis.mix.tokens());
    let largest = whole(analysis.capacity.largest_batch);
    let why = match asked {
        Some(_) if tokens > analysis.capacity.largest_batch => format!("more than the {largest} that fit"),
        Some(_) => format!("as asked; at most {largest} fit"),
        None => format!("by default 2,048 or what fits; at most {largest} fit"),
    };
    let rows = |count: u32, keys: f64, kind: &str| {
        let shown = format!("{} {kind} rows that see {} keys each in the mean", whole(f64::from(count)), digits(keys));
        (count > 0).then_some(shown)
    };
    let kinds = [rows(decode, decode_context, "decode"), rows(prefill, prefill_keys, "prefill")];
    let kinds: Vec<_> = kinds.into_iter().flatten().collect();
    format!("batch        {} tokens ({why})\n             {}\n", whole(tokens), kinds.join(", "))
}

fn operator_table(operators: &[Operator]) -> Table {
    let headings = ["all layers, all devices", "launches", "GFLOP", "memory GB", "network GB"];
    let headings = headings.into_iter().chain(["compute ms", "memory ms", "network ms", "bound by", "predicted ms"]);
    let mut table = Table::new(headings);
    table.rows.extend(operators.iter().map(operator_row));
    table.rows.push(total_row(operators));
    table
}

fn operator_row(operator: &Operator) -> Vec<String> {
    let Operator { name, operator: kind, launches, flops, memory_bytes, network_bytes, times, predicted_seconds } =
        operator;
    let label = if name == kind { name.clone() } else { format!("{name} ({kind})") };
    let amounts = [flops, memory_bytes, network_bytes].map(|amount| digits(amount / 1e9));
    let launches = whole(*launches as f64);
    let is_idle = times.compute.max(times.memory).max(times.network) == 0.0;
    let bound_by = if is_idle { "-" } else { resource_name(times.bound_by()) }.to_owned();
    [
        vec![label, launches],
        amounts.to_vec(),
        milliseconds(*times).to_vec(),
        vec![bound_by, digits(predicted_seconds * 1e3)],
    ]
    .concat()
}

fn total_row(operators: &[Operator]) -> Vec<String> {
    let times = operators.iter().map(|operator| operator.times).fold(Times::default(), Times::plus);
    let sum = |amount: fn(&Operator) -> f64| digits(operators.iter().map(amount).sum::<f64>());
    let launches: u64 = operators.iter().map(|operator| operator.launches).sum();
    let amounts = [
        sum(|operator| operator.flops / 1e9),
        sum(|operator| operator.memory_bytes / 1e9),
        sum(|operator| operator.network_bytes / 1e9),
    ];
    let bound_by = resource_name(times.bound_by()).to_owned();
    let predicted = sum(|operator| operator.predicted_seconds * 1e3);
    let label = vec!["one after another".to_owned(), whole(launches as f64)];
    [label, amounts.to_vec(), milliseconds(times).to_vec(), vec![bound_by, predicted]].concat()
}

fn milliseconds(times: Times) -> [String; 3] {
    [times.compute, times.memory, times.network].map(|seconds| digits(seconds * 1e3))
}

fn iteration_table(analysis: &Analysis) -> Table {
    let headings = ["an iteration at the peaks", "tokens", "compute ms", "memory ms", "network ms"];
    let mut table = Table::new(headings.into_iter().chain(["network/compute", "memory/compute", "bound by"]));
    let rows = [("of this batch", analysis.iteration), ("of the largest batch", analysis.largest)];
    table.rows.extend(rows.map(|(label, iteration)| iteration_row(label, iteration)));
    table
}

fn iteration_row(label: &str, Iteration { batch, times }: Iteration) -> Vec<String> {
    let ratios = [times.network, times.memory].map(|time| fixed(time / times.compute, 3));
    let bound_by = resource_name(times.bound_by()).to_owned();
    [vec![label.to_owned(), whole(batch)], milliseconds(times).to_vec(), ratios.to_vec(), vec![bound_by]].concat()
}

fn conclusion(study: &Study, analysis: &Analysis) -> String {
    let bound_by = resource_name(analysis.largest.times.bound_by());
    let (all, each) = (analysis.optimal_throughput, analysis.optimal_throughput / f64::from(study.ranks));
    format!(
        "bound by     {bound_by}, at the largest batch that fits\n\
         optimum      {} tokens/s per device and {} in all, prompts and outputs together, if compute is never idle\n\n",
        whole(each),
        whole(all)
    )
}

/// What is given, what was measured, and what follows from them.
fn sources(study: &Study) -> String {
    let profile = &study.profile;
    let method = "Times of resources are at the peaks of the specification (NanoFlow, arXiv 2408.12757v2, section 3): the \
                  iteration counts its products alone as compute, and all memory as read once. Operators are counted \
                  once for all devices together. Predicted times are by the kernels of the device profile, for what \
                  each device does of the sharded graph, each launch alone.";
    wrap(method) + &wrap(&format!("Profile {}: {}", profile.name, profile.about))
}

fn billions(count: f64) -> String {
    if count < 1e9 { format!("{} million", digits(count / 1e6)) } else { format!("{} billion", digits(count / 1e9)) }
}

fn resource_name(resource: ResourceKey) -> &'static str {
    match resource {
        ResourceKey::Compute => "compute",
        ResourceKey::Memory => "memory",
        ResourceKey::Network => "network",
    }
}

fn write_json(study: &Study, analysis: &Analysis, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&as_json(study, analysis))?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

/// The analysis with a unit in each name; bytes, seconds and operations are of all devices together.
fn as_json(study: &Study, analysis: &Analysis) -> Value {
    let (footprint, capacity, mix) = (&analysis.footprint, &analysis.capacity, &analysis.mix);
    let profile = &study.profile;
    let operators: Vec<_> = analysis.operators.iter().map(operator_json).collect();
    json!({
        "graph": study.source.name, "workload": study.workload_name,
        "device": {
            "name": profile.name, "about": profile.about, "ranks": study.ranks,
            "flops_per_second": profile.compute.flops, "memory_bytes": profile.memory.bytes,
            "memory_bytes_per_second": profile.memory.bandwidth,
            "network_bytes_per_second_one_way": profile.network.map(Network::one_way),
        },
        "parameters": footprint.parameters, "active_parameters": footprint.active_parameters,
        "weight_bytes": footprint.weight_bytes, "kv_bytes_per_token": footprint.kv_bytes_per_token,
        "kv_tokens": capacity.kv_tokens, "sequences": capacity.sequences, "largest_batch": capacity.largest_batch,
        "batch": {
            "tokens": mix.tokens(), "decode": mix.decode, "decode_context": mix.decode_context,
            "prefill": mix.prefill, "prefill_keys": mix.prefill_keys,
        },
        "operators": operators,
        "iteration": iteration_json(analysis.iteration), "largest_iteration": iteration_json(analysis.largest),
        "optimal_tokens_per_second": analysis.optimal_throughput,
        "optimal_tokens_per_second_per_device": analysis.optimal_throughput / f64::from(study.ranks),
    })
}

fn operator_json(operator: &Operator) -> Value {
    json!({
        "name": operator.name, "operator": operator.operator, "launches": operator.launches,
        "flops": operator.flops, "memory_bytes": operator.memory_bytes, "network_bytes": operator.network_bytes,
        "times": times_json(operator.times), "predicted_seconds": operator.predicted_seconds,
    })
}

fn iteration_json(Iteration { batch, times }: Iteration) -> Value {
    json!({
        "tokens": batch, "times": times_json(times), "network_over_compute": times.network / times.compute,
        "memory_over_compute": times.memory / times.compute,
    })
}

fn times_json(times: Times) -> Value {
    json!({
        "compute_seconds": times.compute, "memory_seconds": times.memory, "network_seconds": times.network,
        "bound_by": resource_name(times.bound_by()),
    })
}
