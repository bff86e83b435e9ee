//! Found plans are sound, no slower than sequential, and the same every time.

use std::sync::atomic::{AtomicBool, Ordering};

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Literal};
use trefoil_passes::cost::{Mix, Workload};
use trefoil_passes::pipeline::compile;
use trefoil_passes::plan::Plan;
use trefoil_passes::profile::Profile;
use trefoil_passes::search::{Found, Goal, Options, search};

use crate::cases;

/// LLaMA-2-70B with eight layers.
fn config(key: &str) -> Option<Literal> {
    let number = match key {
        "hidden_size" => 8192.0,
        "intermediate_size" => 28672.0,
        "num_hidden_layers" => 8.0,
        "num_attention_heads" => 64.0,
        "num_key_value_heads" => 8.0,
        "vocab_size" => 32000.0,
        "rms_norm_eps" => 1e-5,
        "hidden_act" => return Some(Literal::Text("silu".into())),
        _ => return None,
    };
    Some(Literal::Number(number))
}

fn llama() -> Graph {
    trefoil_ir::load::load("llama", &cases::shipped("graphs", "llama")).unwrap()
}

fn a100() -> Profile {
    Profile::load("a100-80g-x8", &cases::shipped("devices", "a100-80g-x8"), &|_| None, &[]).unwrap()
}

fn find(
    mix: Mix,
    judgements: u64,
    threads: usize,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Found, Vec<Diagnostic>> {
    let (graph, profile) = (llama(), a100());
    let goal = Goal { graph: &graph, config: &config, profile: &profile, ranks: 8, mix, name: "found" };
    search(&goal, &Options { seed: 7, judgements, threads, go_on, progress: &|_| () })
}

fn mix() -> Mix {
    Workload::constant(512.0, 1024.0).mix(1024)
}

#[test]
fn a_found_plan_compiles_and_is_faster_than_the_sequential_one_and_slower_than_the_bound() {
    let found = find(mix(), 4000, 2, &|| true).unwrap();
    assert!(found.seconds < found.sequential_seconds, "{found:?}");
    assert!(found.bound_seconds < found.layer_seconds && found.gap() > 0.0, "{found:?}");
    assert!(found.sequential_seconds < found.without_overlap_seconds, "{found:?}");
    let schedule = compile(llama(), &found.plan).unwrap().schedule.unwrap();
    assert!(schedule.num_events > 0);

    // Its file reads back as the same plan, but for the places of its parts.
    let text = found.plan.to_ron("Found.");
    let read = Plan::load("found", &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"));
    assert_eq!(read.to_ron("Found."), text);
    assert_eq!(compile(llama(), &read).unwrap().schedule.unwrap(), schedule);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let plans = [1, 3].map(|threads| find(mix(), 1000, threads, &|| true).map(|found| found.plan));
    assert_eq!(plans[0], plans[1]);
}

#[test]
fn a_search_that_is_stopped_gives_the_best_so_far_or_says_that_there_is_none() {
    let asked = AtomicBool::new(false);
    let once = || !asked.swap(true, Ordering::Relaxed);
    match find(mix(), 1_000_000, 2, &once) {
        Ok(found) => assert!(found.seconds < found.sequential_seconds && found.judged < 10_000, "{}", found.judged),
        Err(mistakes) => assert_eq!(mistakes[0].code, "T1601"),
    }
}

#[test]
fn where_nothing_can_be_won_nothing_is_returned() {
    let lonely = Mix { decode: 1, decode_context: 100.0, seqs: 1, ..Mix::default() };
    let mistakes = find(lonely, 100, 1, &|| true).unwrap_err();
    assert_eq!(mistakes[0].code, "T1601");
    assert!(mistakes[0].message.contains("1 decode and 0 prefill rows"), "{mistakes:?}");
}

#[test]
fn shipped_plans_read_back_from_what_is_written() {
    for name in ["sequential", "overlap-2"] {
        let plan = Plan::load(name, &cases::shipped("plans", name)).unwrap();
        let read = Plan::load(name, &plan.to_ron("")).unwrap();
        assert_eq!(read.to_ron(""), plan.to_ron(""));
        assert_eq!(compile(llama(), &read), compile(llama(), &plan));
    }
}
