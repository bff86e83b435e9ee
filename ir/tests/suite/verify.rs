//! The verifier: graphs as text, each breaking one rule of one stage.

use trefoil_ir::diag::{Diagnostic, render_all};
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{BlockId, CacheId, Id, ParamId, StreamId, ValueId, WeightId};
use trefoil_ir::op::{Mask, Op, Pattern, Score};
use trefoil_ir::schedule::{Section, Step};
use trefoil_ir::{text, verify};

fn parse(source: &str) -> Graph {
    text::parse(source).unwrap_or_else(|mistakes| panic!("{}", render_all(&mistakes, "graph", source)))
}

fn mistakes(source: &str) -> Vec<Diagnostic> {
    verify::graph(&parse(source))
}

#[test]
fn broken_rules_are_found_on_their_lines() {
    crate::guilty::check_all("verify", "tf", mistakes);
}

#[test]
fn every_rule_has_a_file() {
    crate::guilty::check_codes("verify", "tf", include_str!("../../src/verify/mod.rs"));
}

/// Something a pass might do to a graph.
type Change = fn(&mut Graph);

/// A graph that keeps all rules, with its schedule.
fn legal() -> Graph {
    parse(include_str!("../../../tests/files/verify/legal_scheduled.tf"))
}

fn assert_breaks_t2001(graph: &Graph, what: &str) {
    let codes: Vec<_> = verify::graph(graph).iter().map(|mistake| mistake.code).collect();
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == "T2001"), "{what}: {codes:?}");
}

/// The text refuses ids that are not there, a pass may make some.
#[test]
fn ids_that_no_table_has_are_found_before_anything_looks_them_up() {
    let (value, weight, cache) = (ValueId::new(99), WeightId::new(99), CacheId::new(99));
    let ops = [
        Op::Add { a: value, b: value },
        Op::Embed { ids: ValueId::new(0), weight },
        Op::KvWrite { k: ValueId::new(3), v: ValueId::new(3), cache },
        Op::DecodeAttention { q: ValueId::new(3), cache, mask: Mask::Causal, score: Score::default() },
        Op::RmsNorm { x: ValueId::new(3), weight: Some(WeightId::new(0)), eps: ParamId::new(99), group: None },
        Op::Repeat {
            blocks: vec![BlockId::new(99)],
            pattern: Pattern::in_turn(1),
            times: Default::default(),
            with: ValueId::new(3),
        },
    ];
    for op in ops {
        let mut graph = legal();
        graph.blocks[BlockId::new(0)].nodes[0].op = op.clone();
        assert_breaks_t2001(&graph, op.name());
        let mut graph = legal();
        launch_of(&mut graph).op = op.clone();
        assert_breaks_t2001(&graph, op.name());
    }
    let breaks: [(&str, Change); 8] = [
        ("output", |graph| graph.nodes[0].outputs = vec![ValueId::new(99)]),
        ("launched output", |graph| launch_of(graph).outputs = vec![ValueId::new(99)]),
        ("input", |graph| graph.inputs.push(ValueId::new(99))),
        ("gives", |graph| graph.gives = ValueId::new(99)),
        ("takes", |graph| graph.blocks[BlockId::new(0)].takes = ValueId::new(99)),
        ("block of a value", |graph| graph.values[ValueId::new(3)].block = Some(BlockId::new(99))),
        ("block of a weight", |graph| graph.weights[WeightId::new(0)].block = Some(BlockId::new(99))),
        ("block of a cache", |graph| graph.caches[CacheId::new(0)].block = BlockId::new(99)),
    ];
    for (what, make) in breaks {
        let mut graph = legal();
        make(&mut graph);
        assert_breaks_t2001(&graph, what);
    }
}

fn launch_of(graph: &mut Graph) -> &mut trefoil_ir::schedule::Launch {
    let sections = &mut graph.schedule.as_mut().unwrap().sections;
    let steps = sections.iter_mut().filter_map(|section| match section {
        Section::Once(steps) => Some(steps),
        Section::Repeat { .. } => None,
    });
    let launches = steps.flatten().filter_map(|step| match step {
        Step::Launch(launch) => Some(launch),
        Step::Record { .. } | Step::Wait { .. } => None,
    });
    launches.into_iter().next().unwrap()
}

#[test]
fn streams_that_are_not_there_are_found() {
    let mut graph = legal();
    graph.blocks[BlockId::new(0)].nodes[0].stream = Some(StreamId::new(99));
    let codes: Vec<_> = verify::graph(&graph).iter().map(|mistake| mistake.code).collect();
    assert_eq!(codes, ["T2302", "T2402", "T2402"]);
}
