//! The guide in `models/README.md` shows graphs that load and names files that are there.

use std::path::Path;

const GUIDE: &str = include_str!("../README.md");

#[test]
fn the_graphs_of_the_guide_load() {
    let fences: Vec<_> = GUIDE.split("```ron\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!fences.is_empty(), "the guide shows no graph");
    for fence in fences {
        let mistakes = trefoil_ir::load::load("guide", fence).err().unwrap_or_default();
        assert!(mistakes.is_empty(), "{}", trefoil_ir::diag::render_all(&mistakes, "models/README.md", fence));
    }
}

#[test]
fn the_files_that_the_guide_names_are_there() {
    let links: Vec<_> = GUIDE.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 10, "the guide links to graphs");
    for link in links {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
        assert!(path.exists(), "the guide names {link}, which is not there");
    }
}
