//! Damaged files are refused, never a reason to fall over.

use trefoil_ir::{load, text, verify};

use crate::guilty;

/// The text with one line left out, one line twice, or one word replaced, for every line and some words.
fn damaged(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source.lines().collect();
    let without = (0..lines.len()).map(|i| [&lines[..i], &lines[i + 1..]].concat().join("\n"));
    let twice = (0..lines.len()).map(|i| [&lines[..=i], &lines[i..]].concat().join("\n"));
    let cuts: Vec<_> = source.match_indices(|c: char| !c.is_alphanumeric()).map(|(at, _)| at).collect();
    let step = (cuts.len() / 100).max(13);
    let cuts = cuts.into_iter().step_by(step);
    let words = cuts.map(|at| {
        let end = source[at + 1..].find(|c: char| !c.is_alphanumeric()).map_or(source.len(), |length| at + 1 + length);
        format!("{}é{}", &source[..at + 1], &source[end..])
    });
    without.chain(twice).chain(words).collect()
}

#[test]
fn a_damaged_graph_file_loads_or_is_refused_at_places_in_it() {
    for (_, source) in guilty::legal_graphs() {
        for damaged in damaged(&source) {
            let num_lines = damaged.lines().count() as u32;
            match load::load("damaged", &damaged) {
                Ok(graph) => assert_eq!(verify::graph(&graph), vec![], "{damaged}"),
                Err(mistakes) => {
                    assert!(!mistakes.is_empty(), "{damaged}");
                    let is_in_file = |line| (1..=num_lines.max(1)).contains(&line);
                    assert!(mistakes.iter().all(|mistake| is_in_file(mistake.place.line)), "{mistakes:?}\n{damaged}");
                    assert!(mistakes.iter().all(|mistake| mistake.help.is_some()), "{mistakes:?}");
                }
            }
        }
    }
}

#[test]
fn a_damaged_text_is_refused_or_gives_a_graph_that_can_be_verified() {
    let files = guilty::files("verify", "tf");
    let legal = files.iter().filter(|file| file.to_string_lossy().contains("legal_"));
    let texts = legal.map(|file| std::fs::read_to_string(file).unwrap());
    let loaded = guilty::legal_graphs().into_iter().filter(|(name, _)| name == "everything");
    let printed = loaded.map(|(name, source)| text::print(&load::load(&name, &source).unwrap()));
    for source in texts.chain(printed) {
        for damaged in damaged(&source) {
            match text::parse(&damaged) {
                Ok(graph) => drop(verify::graph(&graph)),
                Err(mistakes) => assert!(!mistakes.is_empty(), "{damaged}"),
            }
        }
    }
}
