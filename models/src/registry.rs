//! The models compiled into this binary, and which of them serves a checkpoint.

use trefoil_ir::diag::meant;
use trefoil_runtime::checkpoint::{CheckpointError, Config};
use trefoil_runtime::launch::Device;
use trefoil_runtime::model::CompiledModel;

pub use crate::graphs::{DEVICE_SOURCES, GRAPH_SOURCES, OWN_PLANS, PAPER_PLANS, PLAN_SOURCES, all};

/// Why no compiled model serves a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The configuration does not name its architectures.
    #[error(transparent)]
    Config(#[from] CheckpointError),
    /// No graph serves any of the checkpoint's architectures.
    #[error(
        "no graph serves {}; served are {}{}",
        architectures.join(", "),
        served.join(", "),
        did_you_mean(nearest.as_deref())
    )]
    UnknownArchitecture {
        /// The checkpoint's.
        architectures: Vec<String>,
        /// All that graphs serve.
        served: Vec<&'static str>,
        /// The one among them that is spelled most alike.
        nearest: Option<String>,
    },
    /// There is no graph of the name that was asked for.
    #[error("no graph is named {name}; there are {}{}", known.join(", "), did_you_mean(nearest.as_deref()))]
    UnknownGraph {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<&'static str>,
        /// The one among them that is spelled most alike.
        nearest: Option<String>,
    },
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!(" (did you mean {nearest}?)")).unwrap_or_default()
}

/// Names and texts of the plans that a graph is compiled with, in order; of those for all graphs where it is not
/// compiled in.
pub fn plans_of(graph: &str) -> Vec<(&'static str, &'static str)> {
    let is_of_another = |plan: &str| OWN_PLANS.iter().any(|(own, of)| *own == plan && *of != graph);
    PLAN_SOURCES.iter().copied().filter(|(name, _)| !is_of_another(name)).collect()
}

/// The compiled model for a checkpoint: that of the name, or else the one for one rank that serves the first of the
/// configuration's `architectures` that any graph serves. No two graphs serve the same architecture.
///
/// # Errors
/// There is no such graph, or none serves the checkpoint.
pub fn find<D: Device>(config: &Config, graph: Option<&str>) -> Result<CompiledModel<D>, RegistryError> {
    match graph {
        Some(name) => by_name(name),
        None => by_architecture(&config.architectures()?),
    }
}

fn by_name<D: Device>(name: &str) -> Result<CompiledModel<D>, RegistryError> {
    let models = all::<D>();
    let known: Vec<_> = models.iter().map(|model| model.name).collect();
    let found = models.into_iter().find(|model| model.name == name);
    found.ok_or_else(|| RegistryError::UnknownGraph {
        name: name.to_owned(),
        nearest: meant(name, &known).map(str::to_owned),
        known,
    })
}

fn by_architecture<D: Device>(architectures: &[&str]) -> Result<CompiledModel<D>, RegistryError> {
    let mut models = all::<D>();
    let is_alone = |model: &CompiledModel<D>| model.ranks == 1;
    let serves =
        |architecture: &&str| models.iter().position(|model| is_alone(model) && model.serves.contains(architecture));
    if let Some(found) = architectures.iter().find_map(serves) {
        return Ok(models.swap_remove(found));
    }
    let served: Vec<_> =
        models.iter().filter(|model| is_alone(model)).flat_map(|model| model.serves).copied().collect();
    let nearest = architectures.iter().find_map(|architecture| meant(architecture, &served)).map(str::to_owned);
    let architectures = architectures.iter().map(|&name| name.to_owned()).collect();
    Err(RegistryError::UnknownArchitecture { architectures, served, nearest })
}
