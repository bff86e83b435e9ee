//! The configurations of `bench/configs`: each binds to its graph, with as many parameters as its model card says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trefoil::config::lookup;
use trefoil_ir::bind::bind;
use trefoil_runtime::checkpoint::keys::{self, Unread};
use trefoil_tests::goldens;

/// Parameters in all; where the output layer is the table of embeddings, this one a second time, as it is loaded.
const PARAMETERS: &[(&str, f64)] = &[
    ("bloom-176b", 176.25e9 + 250_880.0 * 14_336.0),
    ("command-r-35b", 34.98e9 + 256_000.0 * 8192.0),
    ("deepseek-67b", 67.4e9),
    ("falcon-40b", 41.3e9 + 65_024.0 * 8192.0),
    ("gemma-2-9b", 9.24e9 + 256_000.0 * 3584.0),
    ("gemma-3-4b", 3.88e9 + 262_208.0 * 2560.0),
    ("gpt-j-6b", 6.05e9),
    ("gpt-oss-120b", 116.83e9),
    ("gpt-oss-20b", 20.91e9),
    ("gpt2", 124.44e6 + 50_257.0 * 768.0),
    ("llama-2-70b", 68.98e9),
    ("llama-3-70b", 70.55e9),
    ("llama-3-8b", 8.03e9),
    ("llama-3.1-405b", 405.85e9),
    ("mistral-7b", 7.24e9),
    ("mixtral-8x7b", 46.7e9),
    ("olmo-2-7b", 7.30e9),
    ("opt-30b", 29.97e9 + 50_272.0 * 7168.0),
    ("phi-2", 2.78e9),
    ("phi-3-mini-4k", 3.82e9),
    ("pythia-12b", 11.85e9),
    ("qwen2-72b", 72.7e9),
    ("qwen3-235b-a22b", 235.1e9),
    ("qwen3-30b-a3b", 30.53e9),
    ("qwen3-8b", 8.19e9),
    ("smollm3-3b", 3.075e9 + 128_256.0 * 2048.0),
    ("tinyllama-1.1b", 1.1e9),
];

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/configs")
}

#[test]
fn every_configuration_has_its_number_of_parameters() {
    for (name, expected) in PARAMETERS {
        let folder = configs().join(name);
        let (graph, config) = (goldens::graph_for(&folder), goldens::config(&folder));
        let bound = bind(&graph, &|key: &str| lookup(&config, key));
        let bound = bound.unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        let found = bound.num_parameters(&graph) as f64;
        assert!((found / expected - 1.0).abs() < 0.005, "{name} has {found:e} parameters, not {expected:e}");
    }
}

#[test]
fn graphs_read_all_that_matters_in_configurations() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = goldens::MODELS.iter().map(|name| goldens::folder(name));
    let benched = PARAMETERS.iter().map(|(name, _)| configs().join(name));
    let mut wrong = vec![];
    for folder in benched.chain(committed).chain([tests.join("../models/tiny")]) {
        let (graph, config) = (goldens::graph_for(&folder), goldens::config(&folder));
        let unread = keys::unread(&config, &graph.config_keys());
        if unread != Unread::default() {
            wrong.push(format!("{}: {unread:?}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_configuration_is_looked_at() {
    let folders = std::fs::read_dir(configs()).expect("configurations").flatten();
    let found: BTreeSet<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let known: BTreeSet<_> = PARAMETERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
