//! A model that is divided between two ranks: what each is told to launch, and what each holds.

use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::launch::StepRows;
use trefoil_runtime::model::{BoundModel, CompiledPlan, Part, Suits, WeightSpec};

use crate::recorder::{Call, Recorder, run};
use crate::script;

trefoil_macro::compile_model!("graphs/llama.ron", plans: ["plans/sequential.ron", "tests/plans/gather-2.ron"]);

const ROWS: StepRows = StepRows { tokens: 10, decode: 6, seqs: 7 };

fn bound() -> BoundModel {
    llama_tp2::bind(&Config::from_json(crate::bind::OLD_STYLE).unwrap()).unwrap()
}

fn plan(name: &str) -> &'static CompiledPlan<Recorder> {
    llama_tp2::compiled::<Recorder>().plans.iter().find(|plan| plan.name == name).unwrap()
}

#[test]
fn a_plan_for_ranks_makes_a_model_of_its_own() {
    let (alone, divided) = (llama::compiled::<Recorder>(), llama_tp2::compiled::<Recorder>());
    let names = |plans: &[CompiledPlan<Recorder>]| plans.iter().map(|plan| plan.name).collect::<Vec<_>>();
    assert_eq!((alone.name, alone.ranks, names(alone.plans)), ("llama", 1, vec!["sequential"]));
    assert_eq!((divided.name, divided.ranks, names(divided.plans)), ("llama_tp2", 2, vec!["sequential", "gather-2"]));
    assert_eq!((plan("gather-2").device, plan("sequential").device), (Some("h200-141g"), None));
    let suits = Suits { min_tokens: 8, min_decode: 0, max_tokens: Some(64), max_decode: Some(32) };
    assert_eq!(plan("gather-2").suits, suits);
}

#[test]
fn every_rank_launches_what_the_schedule_says() {
    let graph = ("llama", include_str!("../../graphs/llama.ron"));
    let plans = [
        ("sequential", include_str!("../../plans/sequential.ron")),
        ("gather-2", include_str!("../plans/gather-2.ron")),
    ];
    let compiled = trefoil_codegen::compile(graph.0, graph.1, &plans).unwrap();
    let divided: Vec<_> = compiled.plans.iter().filter(|planned| planned.plan.ranks == Some(2)).collect();
    assert_eq!(divided.len(), 2);
    for planned in divided {
        let calls = run(plan(&planned.plan.name), &bound(), ROWS, &[0..4]);
        assert_eq!(script::heard(&calls), script::of(&planned.graph, &[&[0; 4]]), "{}", planned.plan.name);
    }
}

/// The launches of one layer, as `node#nano`, that `is_wanted` says.
fn of_layer_2(calls: &[Call], is_wanted: impl Fn(&str) -> bool) -> Vec<(String, Option<f32>, String)> {
    let launch = |call: &Call| match call {
        Call::Launch { site, text, .. } if site.layer == Some(2) && is_wanted(site.node) => {
            Some((format!("{}#{}", site.node, site.nano), site.share, text.clone()))
        }
        Call::Launch { .. } | Call::Record(..) | Call::Wait(..) => None,
    };
    calls.iter().filter_map(launch).collect()
}

/// The widths of the regions in a launch's arguments.
fn widths_in(text: &str) -> Vec<&str> {
    text.split("num_columns: ").skip(1).filter_map(|rest| rest.split(' ').next()).collect()
}

#[test]
fn collectives_come_in_the_listed_order() {
    let calls = run(plan("gather-2"), &bound(), ROWS, &[0..4]);
    let exchanges =
        of_layer_2(&calls, |node| node.ends_with("_in") || node.ends_with("_out") || node.ends_with("_sum"));
    let names: Vec<_> = exchanges.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["o_in#0", "o_out#0", "o_sum#0", "down_sum#0", "down_sum#1"]);
    let widths: Vec<_> = exchanges.iter().map(|(_, _, text)| widths_in(text)).collect();
    assert_eq!(widths[..3], [["16", "32"], ["16", "32"], ["32", "32"]]);
    let last = calls.iter().rev().find_map(|call| match call {
        Call::Launch { site, .. } => Some(site.node),
        Call::Record(..) | Call::Wait(..) => None,
    });
    assert_eq!(last, Some("logits_out"), "the columns of the head are gathered at the end");
}

#[test]
fn shares_reach_the_device() {
    let calls = run(plan("gather-2"), &bound(), ROWS, &[0..4]);
    let shares = of_layer_2(&calls, |node| ["qkv", "o", "attn_decode"].contains(&node));
    let shares: Vec<_> = shares.iter().map(|(name, share, _)| (name.as_str(), *share)).collect();
    let expected = [
        ("qkv#0", Some(0.8)),
        ("qkv#1", Some(0.4)),
        ("attn_decode#0", None),
        ("attn_decode#1", None),
        ("o#0", Some(0.8)),
        ("o#1", Some(0.8)),
    ];
    assert_eq!(shares, expected);
}

#[test]
fn a_rank_holds_its_parts() {
    let bound = bound();
    let shape = |weight: &WeightSpec| {
        let rows: Vec<_> = weight.pieces.iter().map(|piece| piece.rows).collect();
        (weight.part, rows, weight.columns)
    };
    let of = |tensor: &str| {
        let named = |weight: &&WeightSpec| weight.pieces.iter().any(|piece| piece.tensor.contains(tensor));
        bound.weights.iter().filter(named).map(shape).collect::<Vec<_>>()
    };
    assert_eq!(of("q_proj"), [(Part::Rows, vec![16, 8, 8], 32)]);
    assert_eq!(of("down_proj"), [(Part::Columns, vec![32], 24)]);
    assert_eq!(of("o_proj"), [(Part::Columns, vec![32], 16), (Part::Rows, vec![16], 32)], "`o` in both layouts");
    assert_eq!(of("input_layernorm"), [(Part::Whole, vec![1], 32)]);
    assert_eq!(of("lm_head"), [(Part::Rows, vec![50], 32)]);
    assert_eq!((bound.caches[0].kv_heads, bound.vocab, bound.num_layers), (1, 100, 4));
}

#[test]
fn heads_that_ranks_cannot_share_are_told() {
    let config = crate::bind::OLD_STYLE.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 1");
    let faults = llama_tp2::bind(&Config::from_json(&config).unwrap()).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "config.json: `kv_heads` = all_kv_heads / ranks is 1 / 2, not a whole number (graph llama_tp2)"
    );
}
