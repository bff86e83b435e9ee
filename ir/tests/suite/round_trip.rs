//! Graphs survive being written down: as text at every stage, and as RON before the first pass.

use trefoil_ir::diag::{Diagnostic, render_all};
use trefoil_ir::graph::Graph;
use trefoil_ir::{load, print_ron, text};

use crate::guilty;

fn parse(name: &str, source: &str) -> Graph {
    text::parse(source).unwrap_or_else(|mistakes| panic!("{}", render_all(&mistakes, name, source)))
}

fn load(name: &str, source: &str) -> Graph {
    load::load(name, source).unwrap_or_else(|mistakes| panic!("{}", render_all(&mistakes, name, source)))
}

fn check_text(name: &str, graph: &Graph) {
    let printed = text::print(graph);
    let read = parse(name, &printed);
    assert_eq!(text::print(&read), printed, "{name}");
    assert!(read.without_places() == graph.clone().without_places(), "{name} reads back as another graph:\n{printed}");
}

#[test]
fn legal_graphs_survive_as_text() {
    for (name, source) in guilty::legal_graphs() {
        check_text(&name, &load(&name, &source));
    }
}

#[test]
fn graphs_of_every_stage_survive_as_text() {
    for file in guilty::files("verify", "tf") {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        check_text(&name, &parse(&name, &std::fs::read_to_string(&file).unwrap()));
    }
}

#[test]
fn legal_graphs_survive_as_ron() {
    for (name, source) in guilty::legal_graphs() {
        let graph = load(&name, &source);
        let printed = print_ron(&graph);
        let read = load(&name, &printed);
        assert_eq!(print_ron(&read), printed);
        assert!(read.without_places() == graph.without_places(), "{name} loads as another graph:\n{printed}");
    }
}

#[test]
fn mistakes_of_the_text_are_found_on_their_lines() {
    let mistakes = |source: &str| -> Vec<Diagnostic> { text::parse(source).err().unwrap_or_default() };
    guilty::check_all("text", "tf", mistakes);
}
