//! The configurations of `bench/configs`: each binds to its graph, with as many parameters as its model card says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trefoil_ir::bind::bind;
use trefoil_runtime::checkpoint::keys::{self, Unread};
use trefoil_tests::{goldens, oracle};

/// Parameters in all.
const PARAMETERS: &[(&str, f64)] = &[
    ("deepseek-67b", 67.4e9),
    ("llama-2-70b", 68.98e9),
    ("llama-3-70b", 70.55e9),
    ("llama-3-8b", 8.03e9),
    ("llama-3.1-405b", 405.85e9),
    ("mixtral-8x7b", 46.7e9),
    ("qwen2-72b", 72.7e9),
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
        let bound = bind(&graph, &|key: &str| oracle::literal(&config, key));
        let bound = bound.unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        let found = bound.num_parameters(&graph) as f64;
        assert!((found / expected - 1.0).abs() < 0.005, "{name} has {found:e} parameters, not {expected:e}");
    }
}

#[test]
fn graphs_read_all_that_matters_in_configurations() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed =
        ["llama2", "llama3", "llama3_1", "llama3_2", "qwen2", "mixtral"].map(|name| tests.join("parity").join(name));
    let benched = PARAMETERS.iter().map(|(name, _)| configs().join(name));
    for folder in benched.chain(committed).chain([tests.join("../models/tiny")]) {
        let (graph, config) = (goldens::graph_for(&folder), goldens::config(&folder));
        let unread = keys::unread(&config, &graph.config_keys());
        assert_eq!(unread, Unread::default(), "{}", folder.display());
        assert_eq!(keys::contradictions(&config), [], "{}", folder.display());
    }
}

#[test]
fn every_configuration_is_looked_at() {
    let folders = std::fs::read_dir(configs()).expect("configurations").flatten();
    let found: BTreeSet<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let known: BTreeSet<_> = PARAMETERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(found, known);
}
