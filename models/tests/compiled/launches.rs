//! Llama under both plans: the launches, records and waits of the schedule, over the rows of the batch.

use trefoil::registry::{GRAPH_SOURCES, PLAN_SOURCES};
use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::launch::{Region, StepRows};
use trefoil_runtime::model::{BoundModel, CompiledModel, CompiledPlan};

use crate::recorder::{Call, Recorder, run};
use crate::script;

const ROWS: StepRows = StepRows { tokens: 10, decode: 6, seqs: 7 };

fn llama() -> (CompiledModel<Recorder>, BoundModel) {
    let model = trefoil::graphs::llama::compiled::<Recorder>();
    let bound = (model.bind)(&Config::from_json(crate::bind::OLD_STYLE).unwrap()).unwrap();
    (model, bound)
}

fn plan<'a>(model: &'a CompiledModel<Recorder>, name: &str) -> &'a CompiledPlan<Recorder> {
    model.plans.iter().find(|plan| plan.name == name).unwrap()
}

#[test]
fn every_plan_does_what_its_schedule_says() {
    let (model, bound) = llama();
    let (name, graph) = GRAPH_SOURCES.iter().find(|(name, _)| *name == "llama").unwrap();
    for plan in model.plans {
        let source = PLAN_SOURCES.iter().find(|(name, _)| *name == plan.name).unwrap();
        let compiled = trefoil_codegen::compile(name, graph, &[*source]).unwrap();
        let planned = &compiled.plans[0];
        let heard = script::heard(&run(plan, &bound, ROWS, &[0..4]));
        assert_eq!(heard, script::of(&planned.graph, &[&[0; 4]]), "{}", plan.name);
    }
}

#[test]
fn layers_can_be_run_in_parts() {
    let (model, bound) = llama();
    for plan in model.plans {
        let whole = run(plan, &bound, ROWS, &[0..4]);
        assert_eq!(whole, run(plan, &bound, ROWS, &[0..2, 2..4]), "{}", plan.name);
        assert_eq!(whole, run(plan, &bound, ROWS, &[0..1, 1..1, 1..4]), "{}", plan.name);
    }
}

/// Where a node writes, nano-batch by nano-batch, in layer 1 or outside the layers.
fn outs(calls: &[Call], node: &str) -> Vec<Region> {
    let is_of_layer = |layer: Option<u16>| layer.is_none_or(|layer| layer == 1);
    let out = |call: &Call| match call {
        Call::Launch { site, out, .. } if site.node == node && is_of_layer(site.layer) => *out,
        Call::Launch { .. } | Call::Record(..) | Call::Wait(..) => None,
    };
    calls.iter().filter_map(out).collect()
}

fn rows(regions: &[Region]) -> Vec<(u32, u32)> {
    regions.iter().map(|region| (region.first_row, region.num_rows)).collect()
}

#[test]
fn nano_batches_share_the_rows() {
    let (model, bound) = llama();
    let calls = run(plan(&model, "overlap-2"), &bound, ROWS, &[0..4]);
    assert_eq!(rows(&outs(&calls, "qkv")), [(0, 5), (5, 5)]);
    assert_eq!(rows(&outs(&calls, "attn_decode")), [(0, 5), (5, 1)]);
    assert_eq!(rows(&outs(&calls, "attn_prefill")), [(6, 0), (6, 4)]);
    assert_eq!(rows(&outs(&calls, "emb")), [(0, 10)]);
    assert_eq!(rows(&outs(&calls, "logits")), [(0, 7)]);
}

#[test]
fn regions_have_the_widths_of_the_configuration() {
    let (model, bound) = llama();
    let calls = run(plan(&model, "sequential"), &bound, ROWS, &[0..4]);
    let columns = |node: &str| outs(&calls, node).iter().map(|out| (out.column, out.num_columns)).collect::<Vec<_>>();
    assert_eq!(columns("qkv"), [(0, 32 + 16 + 16)]);
    assert_eq!(columns("kr"), [(32, 16)]);
    assert_eq!(columns("gate_up"), [(0, 96)]);
    assert_eq!(columns("down"), [(0, 32)]);
    assert_eq!(columns("logits"), [(0, 100)]);
    let widths: Vec<_> = (plan(&model, "sequential").buffers)(&bound).iter().map(|buffer| buffer.columns).collect();
    for call in &calls {
        if let Call::Launch { out: Some(out), text, .. } = call {
            assert!((out.column + out.num_columns) as usize <= widths[usize::from(out.buffer.0)], "{text}");
        }
    }
}

#[test]
fn arguments_name_the_layers_weights_and_caches() {
    let (model, bound) = llama();
    let calls = run(plan(&model, "sequential"), &bound, ROWS, &[0..4]);
    let text = |node: &str| {
        let of_layer_2 = calls.iter().find_map(|call| match call {
            Call::Launch { site, text, .. } if site.node == node && site.layer == Some(2) => Some(text.clone()),
            Call::Launch { .. } | Call::Record(..) | Call::Wait(..) => None,
        });
        of_layer_2.unwrap()
    };
    assert!(text("attn_write").contains("cache: CacheRef { cache: 0, layer: 2 }"), "{}", text("attn_write"));
    assert!(text("attn_decode").contains("scale: 0.35355338"), "{}", text("attn_decode"));
    assert!(text("n1").contains("eps: 1e-5"), "{}", text("n1"));
    let down = trefoil::graphs::llama::weight::DOWN_PROJ;
    assert!(text("down").contains(&format!("weight: WeightRef {{ weight: {down}, layer: 2 }}")), "{}", text("down"));
}

#[test]
fn the_logits_are_where_the_plan_says() {
    let (model, bound) = llama();
    for plan in model.plans {
        let calls = run(plan, &bound, ROWS, &[0..4]);
        let Some(Call::Launch { site, out: Some(out), .. }) = calls.last() else { panic!("the last call launches") };
        assert_eq!((usize::from(out.buffer.0), usize::from(site.stream.0)), plan.logits, "{}", plan.name);
    }
}
