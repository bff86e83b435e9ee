//! Pictures of graphs.

use trefoil_ir::{dot, text};

fn picture(file: &str) -> String {
    let path = format!("{}/../tests/files/verify/{file}.tf", env!("CARGO_MANIFEST_DIR"));
    dot::dot(&text::parse(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn assert_has(picture: &str, facts: &[&str]) {
    for fact in facts {
        assert!(picture.contains(fact), "{fact} is not in\n{picture}");
    }
}

#[test]
fn a_graph_is_drawn_by_block() {
    let picture = picture("legal_loaded");
    let facts = [
        "subgraph cluster_b0 {",
        "label=\"decoder\"",
        "b0_1 [label=\"attn\\nAttention\", fillcolor=lightblue]",
        "b0_0 -> b0_1 [label=\"x\"]",
        "main_0 -> main_1 [label=\"emb\"]",
    ];
    assert_has(&picture, &facts);
}

#[test]
fn caches_are_dashed() {
    assert_has(&picture("legal_grouped"), &["b0_2 -> b0_4 [label=\"kv\", style=dashed]"]);
}

#[test]
fn a_schedule_is_drawn_by_stream() {
    let picture = picture("legal_scheduled");
    let facts = [
        "label=\"compute\"",
        "label=\"memory\"",
        "label=\"attn_decode 0\\nDecodeAttention\", fillcolor=lightsalmon",
        "[label=\"e0\", color=red, constraint=false]",
        "style=bold",
    ];
    assert_has(&picture, &facts);
}
