//! The models and devices that the paper speaks of.

use std::path::Path;

use serde_json::Value;
use trefoil_ir::bind::Bound;
use trefoil_ir::graph::Graph;
use trefoil_passes::analyze::Subject;
use trefoil_passes::profile::Profile;

use crate::{source, study};

/// A model of the paper: its name there, its configuration, and the graph that serves it.
struct Model {
    name: &'static str,
    config: &'static str,
    graph: &'static str,
}

macro_rules! config {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/configs/", $name, "/config.json"))
    };
}

/// Those that a graph is compiled in for. A new one is a folder of `bench/configs/` and a line here.
const MODELS: &[Model] = &[
    Model { name: "llama-2-70b", config: config!("llama-2-70b"), graph: "llama" },
    Model { name: "llama-3-70b", config: config!("llama-3-70b"), graph: "llama" },
    Model { name: "deepseek-67b", config: config!("deepseek-67b"), graph: "llama" },
    Model { name: "llama-3-8b", config: config!("llama-3-8b"), graph: "llama" },
    Model { name: "llama-3.1-405b", config: config!("llama-3.1-405b"), graph: "llama" },
    Model { name: "mixtral-8x7b", config: config!("mixtral-8x7b"), graph: "mixtral" },
    Model { name: "qwen2-72b", config: config!("qwen2-72b"), graph: "qwen2" },
];

/// A model, lowered and fused, at its configuration.
pub(super) struct Loaded {
    graph: Graph,
    loaded: Graph,
    bound: Bound,
    config: Value,
}

impl Loaded {
    /// The model on devices.
    pub(super) fn on<'a>(&'a self, profile: &'a Profile, ranks: u32) -> Subject<'a> {
        Subject { graph: &self.graph, bound: &self.bound, profile, ranks, ties: study::ties_weights(&self.config) }
    }

    /// The graph as it was loaded.
    pub(super) fn as_loaded(&self) -> &Graph {
        &self.loaded
    }

    /// The configuration.
    pub(super) fn config(&self) -> &Value {
        &self.config
    }

    /// What one of `ranks` devices does, and its sizes.
    pub(super) fn sharded(&self, ranks: u32) -> anyhow::Result<(Graph, Bound)> {
        study::sharded(self.loaded.clone(), &self.config, ranks)
    }
}

/// The model of this name; `None` if no graph is compiled in for it.
pub(super) fn model(name: &str) -> anyhow::Result<Option<Loaded>> {
    MODELS.iter().find(|model| model.name == name).map(load).transpose()
}

fn load(model: &Model) -> anyhow::Result<Loaded> {
    let source = source::graph(model.graph)?;
    let loaded = source.load_graph()?;
    let config = serde_json::from_str(model.config)?;
    let bound = study::bind_config(&source, &loaded, &config, Path::new(model.name))?;
    Ok(Loaded { graph: study::fused(loaded.clone())?, loaded, bound, config })
}

/// The device profile of this name.
pub(super) fn device(name: &str) -> anyhow::Result<Profile> {
    source::device(name)?.load_device()
}
