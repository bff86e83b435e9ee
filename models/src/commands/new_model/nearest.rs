//! Which of the graphs is nearest to a model.

use std::cmp::Reverse;

use anyhow::Context;
use trefoil::config::lookup;
use trefoil::registry::GRAPH_SOURCES;
use trefoil_ir::graph::Graph;

use super::Subject;
use super::differences::{self, Difference, Kind};
use super::tensors;
use crate::source;

/// The graph that is taken where nothing tells several apart: the one that the guide calls the example.
const EXAMPLE: &str = "llama";
/// From so many equal letters on, names are alike.
const ALIKE: usize = 4;

/// A graph, held against a model.
pub(super) struct Candidate {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) graph: Graph,
    /// All that would have to be decided.
    pub(super) differences: Vec<Difference>,
    /// Keys that nothing reads and no table knows.
    pub(super) unknown: Vec<String>,
    /// Keys that it reads and the configuration has.
    shared: usize,
    /// Tensors that it names, those of all layers as one; how many of them are there as it needs them.
    tensors: Option<(usize, usize)>,
    likeness: usize,
}

/// All graphs, the one with the least to decide first; then by how alike the names are, and by what is shared.
pub(super) fn ranking(subject: &Subject) -> anyhow::Result<Vec<Candidate>> {
    let candidate = |(name, text): &(&'static str, &'static str)| Candidate::new(name, text, subject);
    let mut all = GRAPH_SOURCES.iter().map(candidate).collect::<anyhow::Result<Vec<_>>>()?;
    all.sort_by_key(|candidate| {
        let found = candidate.tensors.map_or(0, |(found, _)| found);
        (
            candidate.differences.len(),
            Reverse(candidate.likeness),
            Reverse(candidate.shared + found),
            candidate.name != EXAMPLE,
        )
    });
    Ok(all)
}

impl Candidate {
    fn new(name: &'static str, text: &'static str, subject: &Subject) -> anyhow::Result<Self> {
        let graph = source::graph(name)?.load_graph().context("a graph that is compiled in")?;
        let keys = graph.config_keys();
        let mut found = differences::of_config(&graph, &subject.config);
        let tied = subject.config["tie_word_embeddings"].as_bool().unwrap_or(false);
        let compared = subject.tensors.as_ref().map(|held| tensors::compare(&graph, &found.bound, held, tied));
        let tensors = compared.as_ref().map(|compared| (compared.num_found, compared.num_named));
        found.differences.extend(compared.into_iter().flat_map(|compared| compared.differences));
        let shared = keys.iter().filter(|key| lookup(&subject.config, key).is_some()).count();
        let own_names = graph.serves.iter().map(|served| stem(served)).chain([name]);
        let likeness = own_names.map(|own| likeness(own, subject.family())).max().unwrap_or(0);
        Ok(Self {
            name,
            text,
            shared,
            tensors,
            likeness,
            differences: found.differences,
            unknown: found.unknown,
            graph,
        })
    }

    /// Whether it serves one of these architectures.
    pub(super) fn serves(&self, architectures: &[String]) -> bool {
        self.graph.serves.iter().any(|served| architectures.contains(served))
    }

    /// What speaks for and against it, in a line.
    pub(super) fn reasons(&self) -> String {
        let mut text = format!("{}: reads {} keys of the config", self.name, self.shared);
        if let Some((found, named)) = self.tensors {
            text += &format!("; {found} of its {named} tensors are there");
        }
        let count = |kind: Kind| self.differences.iter().filter(|difference| difference.kind == kind).count();
        let counts = Kind::ALL.iter().map(|kind| (count(*kind), kind)).filter(|(count, _)| *count > 0);
        let against: Vec<_> = counts.map(|(count, kind)| format!("{count} {}", kind.in_words())).collect();
        text + "; to decide: " + &if against.is_empty() { "nothing".to_owned() } else { against.join(", ") }
    }
}

/// An architecture's name without what all have.
pub(super) fn stem(architecture: &str) -> &str {
    let ends = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Model"];
    ends.iter().find_map(|end| architecture.strip_suffix(end)).unwrap_or(architecture)
}

/// How many letters two names begin with alike, few being none; more than any where they are equal.
fn likeness(a: &str, b: &str) -> usize {
    let letters = |name: &str| -> Vec<char> {
        name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let (a, b) = (letters(a), letters(b));
    let alike = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    match alike {
        _ if a == b => usize::MAX,
        0..ALIKE => 0,
        alike => alike,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_by_their_letters() {
        assert_eq!(likeness(stem("GPTBigCodeForCausalLM"), "gpt_bigcode"), usize::MAX);
        assert_eq!(likeness("gemma3", "gemma3_text"), 6);
        assert_eq!(likeness("gpt_oss", "gptj"), 0);
        assert!(likeness("qwen3_moe", "qwen3_next") > likeness("qwen2", "qwen3_next"));
    }
}
