//! What the shipped plans promise of every shipped graph.

use trefoil_ir::graph::Graph;
use trefoil_ir::op::Op;
use trefoil_ir::schedule::{Launch, Schedule, Section, Step};
use trefoil_ir::verify::schedule::{Order, hazards};
use trefoil_passes::memory::footprint;
use trefoil_passes::pipeline::{self, PassError};
use trefoil_passes::plan::Plan;

use crate::cases;

fn compiled(graph: &str, plan: &str) -> Graph {
    let loaded = trefoil_ir::load::load(graph, &cases::shipped("graphs", graph)).unwrap();
    let plan = Plan::load(plan, &cases::shipped("plans", plan)).unwrap();
    pipeline::compile(loaded, &plan).unwrap_or_else(|error| panic!("{error}"))
}

fn texts(schedule: &mut Schedule) -> impl Iterator<Item = &mut Vec<Step>> {
    schedule.sections.iter_mut().flat_map(|section| match section {
        Section::Once(steps) => vec![steps],
        Section::Repeat { blocks, .. } => blocks.iter_mut().map(|(_, steps)| steps).collect(),
    })
}

fn layer(schedule: &Schedule) -> &[Step] {
    let blocks = schedule.sections.iter().find_map(|section| match section {
        Section::Repeat { blocks, .. } => Some(blocks),
        Section::Once(_) => None,
    });
    &blocks.unwrap()[0].1
}

fn launches(steps: &[Step]) -> Vec<&Launch> {
    let launches = steps.iter().filter_map(|step| match step {
        Step::Launch(launch) => Some(launch),
        Step::Record { .. } | Step::Wait { .. } => None,
    });
    launches.collect()
}

/// Every schedule that lacks one record or wait of the given one, with what it lacks.
fn mutants(graph: &Graph) -> Vec<(Step, Graph)> {
    let schedule = graph.schedule.clone().unwrap();
    let places: Vec<_> = texts(&mut schedule.clone())
        .enumerate()
        .flat_map(|(text, steps)| (0..steps.len()).map(move |step| (text, step)))
        .collect();
    let mutant = |(text, step)| {
        let mut mutant = graph.clone();
        let removed = texts(mutant.schedule.as_mut()?).nth(text)?.remove(step);
        (!matches!(removed, Step::Launch(_))).then_some((removed, mutant))
    };
    places.into_iter().filter_map(mutant).collect()
}

#[test]
fn the_sequential_plan_needs_one_stream_and_no_event() {
    let graph = compiled("llama", "sequential");
    let schedule = graph.schedule.as_ref().unwrap();
    assert_eq!(graph.streams.as_ref().unwrap().len(), 1);
    assert_eq!(schedule.num_events, 0);
    assert!(mutants(&graph).is_empty(), "there is no record or wait to take out");
}

#[test]
fn attention_of_one_nano_batch_stands_beside_products_of_the_other() {
    let graph = compiled("llama", "overlap-2");
    let order = Order::of(&graph);
    let find = |node: &str, nano| order.find(0, Some(1), node, nano).unwrap_or_else(|| panic!("no {node}#{nano}"));
    let layer = layer(graph.schedule.as_ref().unwrap());
    let position = |node: &str, nano| {
        let launches = launches(layer);
        launches.iter().position(|launch| launch.node == node && launch.nano == nano).unwrap()
    };

    for (attention, product) in [
        (("attn_decode", 0), ("qkv", 1)),
        (("attn_decode", 1), ("o", 0)),
        (("attn_decode", 1), ("gate_up", 0)),
        (("attn_decode", 1), ("down", 0)),
    ] {
        let beside = order.side_by_side(find(attention.0, attention.1), find(product.0, product.1));
        assert!(beside, "{attention:?} and {product:?} are ordered");
        assert!(position(attention.0, attention.1) < position(product.0, product.1), "{attention:?} comes too late");
    }
    assert!(order.before(find("attn_decode", 0), find("o", 0)), "the product that reads the attention waits for it");
    assert!(position("down", 0) < position("o", 1), "products wait for the second attention before the first is used");
}

#[test]
fn every_record_and_wait_is_needed() {
    let graph = compiled("llama", "overlap-2");
    assert_eq!(hazards(&graph), vec![]);
    let mutants = mutants(&graph);
    assert_eq!(mutants.len(), 8, "four records and four waits");
    for (removed, mutant) in mutants {
        assert!(!hazards(&mutant).is_empty(), "nobody misses {removed:?}");
    }
}

#[test]
fn sharing_buffers_saves_memory() {
    let graph = compiled("llama", "overlap-2");
    let sizes = [("hidden", 2048), ("ffn", 8192), ("heads", 32), ("kv_heads", 8), ("head", 64), ("vocab", 128_256)];
    let size = |name: &str| match name {
        "tokens" => Some(512),
        "seqs" => Some(64),
        name => sizes.iter().find(|(own, _)| *own == name).map(|(_, size)| *size),
    };
    let footprint = footprint(&graph, 4, &size).unwrap();
    let of_tokens = |columns: u64| 512 * columns * 4;
    let of_seqs = |columns: u64| 64 * columns * 4;
    // Carried on; norms and act; the widest of qkv and gate_up. Then the picked rows, and the logits.
    let shared = of_tokens(2048) + of_tokens(8192) + of_tokens(2 * 8192) + of_seqs(2048) + of_seqs(128_256);
    assert_eq!(footprint.shared_bytes, shared);
    assert!(footprint.separate_bytes > footprint.shared_bytes, "{footprint:?}");
    assert_eq!(trefoil_passes::memory::footprint(&graph, 4, &|_| None), None);
}

#[test]
fn the_same_input_gives_the_same_schedule() {
    assert_eq!(compiled("llama", "overlap-2"), compiled("llama", "overlap-2"));
}

#[test]
fn an_unknown_pass_is_answered_with_the_list() {
    let graph = trefoil_ir::load::load("llama", &cases::shipped("graphs", "llama")).unwrap();
    let plan = Plan::load("sequential", &cases::shipped("plans", "sequential")).unwrap();
    let error = pipeline::run_until(graph, &plan, "fuze").unwrap_err();
    assert!(matches!(&error, PassError::UnknownPass { known, .. } if known[0] == "lower"));
    assert_eq!(
        error.to_string(),
        "there is no pass `fuze`; the passes are lower, hand_on, fuse, nano_batch, shard, stream_groups, order, sync, \
         memory (did you mean `fuse`?)"
    );
}

#[test]
fn a_pass_that_breaks_a_rule_is_named() {
    struct Vandal;
    impl pipeline::Pass for Vandal {
        fn name(&self) -> &'static str {
            "vandal"
        }
        fn needs(&self) -> trefoil_ir::graph::Stage {
            trefoil_ir::graph::Stage::Scheduled
        }
        fn gives(&self) -> trefoil_ir::graph::Stage {
            trefoil_ir::graph::Stage::Scheduled
        }
        fn run(&self, graph: &mut Graph, _: &pipeline::Ctx) -> Result<(), Vec<trefoil_ir::diag::Diagnostic>> {
            for steps in texts(graph.schedule.as_mut().unwrap()) {
                steps.retain(|step| !matches!(step, Step::Wait { .. }));
            }
            Ok(())
        }
    }
    let graph = compiled("llama", "overlap-2");
    let plan = Plan::load("overlap-2", &cases::shipped("plans", "overlap-2")).unwrap();
    let error = pipeline::run(graph.clone(), &plan, &[Box::new(Vandal)]).unwrap_err();
    assert!(error.to_string().contains("pass `vandal` gave a graph that breaks a rule"), "{error}");
    let error = pipeline::compile(graph, &plan).unwrap_err();
    assert_eq!(error.to_string(), "pass `lower` takes graphs of stage Loaded, and this one is Scheduled");
}

#[test]
fn no_attention_is_left_and_both_kinds_give_one_value() {
    let graph = compiled("llama", "overlap-2");
    let launched: Vec<_> = launches(layer(graph.schedule.as_ref().unwrap()));
    let outputs = |is: fn(&Op) -> bool| launched.iter().filter(move |launch| is(&launch.op)).map(|own| &own.outputs);
    let decode: Vec<_> = outputs(|op| matches!(op, Op::DecodeAttention { .. })).collect();
    let prefill: Vec<_> = outputs(|op| matches!(op, Op::PrefillAttention { .. })).collect();
    assert_eq!(decode.len(), 2);
    assert_eq!(decode, prefill);
    assert_eq!(outputs(|op| matches!(op, Op::Attention { .. })).count(), 0);
}
