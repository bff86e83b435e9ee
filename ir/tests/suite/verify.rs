//! The verifier: graphs as text, each breaking one rule of one stage.

use trefoil_ir::diag::{Diagnostic, render_all};
use trefoil_ir::{text, verify};

fn mistakes(source: &str) -> Vec<Diagnostic> {
    let graph = text::parse(source).unwrap_or_else(|mistakes| panic!("{}", render_all(&mistakes, "graph", source)));
    verify::graph(&graph)
}

#[test]
fn broken_rules_are_found_on_their_lines() {
    crate::guilty::check_all("verify", "tf", mistakes);
}

#[test]
fn every_rule_has_a_file() {
    crate::guilty::check_codes("verify", "tf", include_str!("../../src/verify/mod.rs"));
}
