//! Which nano-operations wait for which.

use std::collections::BTreeSet;

use petgraph::visit::EdgeRef;
use trefoil_ir::depend::{Cause, dependencies};
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{BlockId, Id};
use trefoil_ir::text;

fn legal(file: &str) -> Graph {
    let path = format!("{}/../tests/files/verify/{file}.tf", env!("CARGO_MANIFEST_DIR"));
    text::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `a@0 -> b@1`, with the number of the cut where a range begins.
fn edges(graph: &Graph, block: Option<BlockId>) -> BTreeSet<String> {
    let dependencies = dependencies(graph, block);
    let name = |index: petgraph::graph::NodeIndex| {
        let node = dependencies[index];
        format!("{}@{}", node.name, node.range.map_or(0, |range| range.from.index()))
    };
    let edges = dependencies.edge_references().map(|edge| {
        let by_cache = matches!(edge.weight(), Cause::Cache(_));
        format!("{} {} {}", name(edge.source()), if by_cache { "~>" } else { "->" }, name(edge.target()))
    });
    edges.collect()
}

#[test]
fn nodes_wait_where_rows_meet() {
    let edges = edges(&legal("legal_scheduled"), Some(BlockId::new(0)));
    for there in ["x@0 -> attn_write@0", "attn_decode@1 -> o@1", "attn_prefill@1 -> o@1", "o@0 -> h1@0"] {
        assert!(edges.contains(there), "{there} is not in {edges:?}");
    }
    for absent in ["x@0 -> attn_write@1", "attn_decode@0 -> o@1", "o@1 -> h1@0"] {
        assert!(!edges.contains(absent), "{absent} is in {edges:?}");
    }
}

#[test]
fn attention_waits_for_the_cache_rows_it_reads() {
    let edges = edges(&legal("legal_scheduled"), Some(BlockId::new(0)));
    let by_cache: Vec<_> = edges.iter().filter(|edge| edge.contains("~>")).map(String::as_str).collect();
    // A prompt's chunk may begin in an earlier nano-batch, so prefill attention waits for all writes up to its own rows.
    let expected = [
        "attn_write@0 ~> attn_decode@0",
        "attn_write@0 ~> attn_prefill@0",
        "attn_write@0 ~> attn_prefill@1",
        "attn_write@1 ~> attn_decode@1",
        "attn_write@1 ~> attn_prefill@1",
    ];
    assert_eq!(by_cache, expected);
}

#[test]
fn who_reads_a_window_waits_for_the_rows_behind_it() {
    let edges = edges(&legal("legal_windows"), Some(BlockId::new(0)));
    assert!(edges.contains("gate_up@1 -> act@1"), "{edges:?}");
    assert!(!edges.contains("gate_up@0 -> act@1"), "{edges:?}");
    assert!(!edges.iter().any(|edge| edge.starts_with("gate@")), "a name for columns is waited for: {edges:?}");
}
