//! The verifier against the passes: none of a plan's waits can be left out, and what should overlap can.

use super::{LLAMA, OVERLAP, PATTERN};
use trefoil_codegen::compile;
use trefoil_ir::schedule::{Section, Step};
use trefoil_ir::verify::schedule::{Order, hazards, needless_waits, remove_wait};

#[test]
fn every_wait_that_is_left_out_is_found() {
    for (name, text) in [("llama", LLAMA), ("pattern", PATTERN)] {
        let compiled = compile(name, text, &[OVERLAP]).unwrap();
        let graph = &compiled.plans[0].graph;
        assert_eq!(needless_waits(graph), [], "{name}");
        let mut found = 0;
        for number in 0.. {
            let mut broken = graph.clone();
            let Some(wait) = remove_wait(broken.schedule.as_mut().unwrap(), number) else { break };
            let races = hazards(&broken).into_iter().filter(|mistake| mistake.code < "T3004").count();
            assert!(races > 0, "{name} without {wait:?}");
            found += 1;
        }
        assert!(found > 0, "{name} has waits");
    }
}

#[test]
fn every_record_that_is_left_out_is_found() {
    let compiled = compile("llama", LLAMA, &[OVERLAP]).unwrap();
    let graph = &compiled.plans[0].graph;
    for event in 0..graph.schedule.as_ref().unwrap().num_events {
        let mut broken = graph.clone();
        let is_other = |step: &Step| match step {
            Step::Record { event: own, .. } => own.to_string() != format!("e{event}"),
            Step::Wait { .. } | Step::Launch(_) => true,
        };
        for section in &mut broken.schedule.as_mut().unwrap().sections {
            match section {
                Section::Once(text) => text.retain(is_other),
                Section::Repeat { blocks, .. } => blocks.iter_mut().for_each(|(_, text)| text.retain(is_other)),
            }
        }
        assert!(hazards(&broken).iter().any(|mistake| mistake.code == "T3010"), "e{event}");
    }
}

#[test]
fn attention_runs_beside_the_products_of_the_other_nano_batch() {
    let compiled = compile("llama", LLAMA, &[OVERLAP]).unwrap();
    let order = Order::of(&compiled.plans[0].graph);
    let at = |node, nano| order.find(0, Some(1), node, nano).unwrap();
    assert!(
        order.side_by_side(at("attn_decode", 0), at("qkv", 1))
            || order.side_by_side(at("attn_decode", 1), at("gate_up", 0))
    );
    assert!(order.before(at("attn_decode", 0), at("o", 0)));
    assert!(order.before(at("o", 1), order.find(0, Some(2), "qkv", 1).unwrap()));
}
