//! The analysis of the shipped graph at the sizes of LLaMA-2-70B, on the A100 of the paper.

use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::graph::{Graph, Literal};

use super::*;
use crate::pipeline::run_until;
use crate::plan::Plan;

fn graph(pass: &str, ranks: u32) -> Graph {
    let graph = trefoil_ir::load::load("llama", include_str!("../../../models/graphs/llama.ron")).unwrap();
    let plan = Plan::load("sequential", include_str!("../../../models/plans/sequential.ron")).unwrap();
    run_until(graph, &Plan { ranks: Some(ranks), ..plan }, pass).unwrap()
}

fn sizes(graph: &Graph) -> Bound {
    let config = |key: &str| {
        let size = match key {
            "hidden_act" => return Some(Literal::Text("silu".into())),
            "hidden_size" => 8192.0,
            "intermediate_size" => 28672.0,
            "num_hidden_layers" => 80.0,
            "num_attention_heads" => 64.0,
            "num_key_value_heads" => 8.0,
            "vocab_size" => 32000.0,
            "rms_norm_eps" => 1e-5,
            _ => return None,
        };
        Some(Literal::Number(size))
    };
    bind(graph, &config).unwrap()
}

fn profile() -> Profile {
    let text = include_str!("../../../models/devices/a100-80g-x8.ron");
    Profile::load("a100-80g-x8", text, &|_| None, &[]).unwrap()
}

fn analysis(ranks: u32, workload: &Workload, batch: Option<u32>) -> Result<Analysis, DoesNotFit> {
    let (whole, part, profile) = (graph("fuse", ranks), graph("shard", ranks), profile());
    let (bound, own) = (sizes(&whole), sizes(&part));
    let subject = Subject { graph: &whole, bound: &bound, profile: &profile, ranks, ties: false };
    analyze(&subject, &Rank { graph: &part, bound: &own }, workload, batch)
}

const LONG_OUTPUTS: Workload = Workload { prompt: 512.0, output: 1024.0, decode_context: 1024.0, prompt_of_row: 512.0 };

#[test]
fn parameters_and_keys_are_counted() {
    let footprint = analysis(8, &LONG_OUTPUTS, None).unwrap().footprint;
    assert_eq!(footprint.parameters, 68_976_648_192.0);
    assert_eq!(footprint.weight_bytes, 2.0 * footprint.parameters);
    assert_eq!(footprint.kv_bytes_per_token, 327_680.0);
}

#[test]
fn tied_tensors_are_stored_once() {
    let (graph, profile) = (graph("fuse", 1), profile());
    let bound = sizes(&graph);
    let parameters = |ties| Footprint::of(&graph, &bound, &profile, ties).parameters;
    assert_eq!(parameters(false) - parameters(true), 32000.0 * 8192.0);
}

#[test]
fn the_default_batch_is_what_fits() {
    let roomy = analysis(8, &LONG_OUTPUTS, None).unwrap();
    assert_eq!(roomy.mix.tokens(), 2048);
    assert_eq!(roomy.capacity.largest_batch.floor(), 2244.0);
    let tight = analysis(2, &LONG_OUTPUTS, None).unwrap();
    assert!(tight.capacity.largest_batch < 128.0 && f64::from(tight.mix.tokens()) <= tight.capacity.largest_batch);
    let asked = analysis(2, &LONG_OUTPUTS, Some(512)).unwrap();
    assert_eq!(asked.mix.tokens(), 512);
}

#[test]
fn prompts_without_outputs_are_bounded_by_their_own_keys() {
    let capacity = analysis(8, &Workload::constant(512.0, 0.0), None).unwrap().capacity;
    assert_eq!(capacity.largest_batch, capacity.kv_tokens);
}

#[test]
fn a_model_that_does_not_fit_says_what_would_do() {
    let error = analysis(1, &LONG_OUTPUTS, None).unwrap_err();
    assert_eq!((error.enough_ranks, error.most_ranks), (2, 8));
    let text = error.to_string();
    let divided = DoesNotFit { enough_ranks: 16, ..error }.to_string();
    assert!(divided.contains("16 of these would do") && divided.contains("no more than 8"), "{divided}");
    for part in ["T1503", "138.0 GB", "80.0 GB", "memory.bytes", "--tp 2"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn operators_are_bound_as_the_paper_says() {
    let operators = analysis(8, &LONG_OUTPUTS, None).unwrap().operators;
    let named = |name: &str| operators.iter().find(|operator| operator.name == name).unwrap();
    let bound_by = |name| named(name).times.bound_by();
    assert_eq!(["qkv", "o", "gate_up", "down"].map(bound_by), [ResourceKey::Compute; 4]);
    assert_eq!(bound_by("attn_decode"), ResourceKey::Memory);
    assert_eq!(bound_by("o_sum"), ResourceKey::Network);
    assert_eq!(named("down").launches, 80);
    assert_eq!(named("down_sum").launches, 80);
    let network = |name| named(name).network_bytes;
    assert_eq!(network("o_sum") + network("down_sum"), (4 * 7 * 2048 * 8192 * 2 * 80u64) as f64);
    assert_eq!(operators.first().map(|operator| operator.name.as_str()), Some("emb"));
}

/// The measured column of table 2, but for O, which gathers its results there and sums them here. The profile's kernels
/// are calibrated on such times, so this checks the arithmetic in between and predicts nothing.
#[test]
fn calibrated_kernels_give_their_times_back() {
    let operators = analysis(8, &LONG_OUTPUTS, None).unwrap().operators;
    for (name, measured) in [("qkv", 16.08e-3), ("gate_up", 69.92e-3), ("down", 34.96e-3), ("attn_decode", 35.60e-3)] {
        let operator = operators.iter().find(|operator| operator.name == name).unwrap();
        let error = operator.predicted_seconds / measured - 1.0;
        assert!(error.abs() < 0.08, "{name}: {error:+.3}");
    }
}

#[test]
fn one_rank_has_no_network() {
    let (whole, part, profile) = (graph("fuse", 1), graph("shard", 1), profile());
    let mut bound = sizes(&whole);
    bound.dims.insert("layers".into(), 2);
    bound.repeats[0].truncate(2);
    let subject = Subject { graph: &whole, bound: &bound, profile: &profile, ranks: 1, ties: false };
    let rank = Rank { graph: &part, bound: &bound };
    let analysis = analyze(&subject, &rank, &Workload::constant(16.0, 16.0), None).unwrap();
    assert_eq!(analysis.iteration.times.network, 0.0);
    assert!(analysis.operators.iter().all(|operator| operator.network_bytes == 0.0));
}
