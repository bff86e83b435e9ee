//! Graphs as porters write them: what loads, and what every mistake is told as.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::{load, verify};

fn mistakes(source: &str) -> Vec<Diagnostic> {
    load::load("graph", source).err().unwrap_or_default()
}

#[test]
fn mistakes_are_found_on_their_lines() {
    crate::guilty::check_all("load", "ron", mistakes);
}

#[test]
fn legal_graphs_load_and_keep_the_rules() {
    for (name, source) in crate::guilty::legal_graphs() {
        let graph = load::load(&name, &source).unwrap_or_else(|mistakes| {
            panic!("{}", trefoil_ir::diag::render_all(&mistakes, &name, &source));
        });
        assert_eq!(verify::graph(&graph), vec![], "{name}");
    }
}

#[test]
fn mistakes_are_drawn_in_full() {
    crate::guilty::check_rendered("render", "ron", mistakes);
}

#[test]
fn every_code_has_a_file() {
    crate::guilty::check_codes("load", "ron", include_str!("../../src/load/mod.rs"));
}
