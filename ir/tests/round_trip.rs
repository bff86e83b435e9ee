//! Graphs survive being written down.

use trefoil_ir::{diag, load, text};

#[test]
fn every_shipped_graph_survives_as_text() {
    let source = std::fs::read_to_string("../models/graphs/llama.ron").unwrap();
    let graph = load::load("llama", &source).unwrap();
    let printed = text::print(&graph);
    println!("{printed}");
    let parsed = text::parse(&printed).unwrap_or_else(|m| panic!("{}", diag::render_all(&m, "text", &printed)));
    assert_eq!(text::print(&parsed), printed);
    assert_eq!(parsed.without_places(), graph.without_places());
}
