//! What a checkpoint holds, by the headers of its files alone.

use std::path::Path;

use super::check::Check;
use super::layout::Layout;
use super::shards::Shards;
use super::{LoadOptions, WeightFault, WeightsError, names};
use crate::model::WeightSpec;

/// The tensors of a checkpoint, none of them loaded.
#[derive(Debug)]
pub struct Inventory {
    shards: Shards,
}

impl Inventory {
    /// Reads the headers of the files in `dir`: `model.safetensors`, or the shards that `model.safetensors.index.json`
    /// names.
    ///
    /// # Errors
    /// Every fault of the files.
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        Ok(Self { shards: Shards::open(dir)? })
    }

    /// How many tensors there are.
    pub fn num_tensors(&self) -> usize {
        self.shards.names().count()
    }

    /// The shape of a tensor, `None` where there is none of this name.
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        self.shards.get(tensor).map(|tensor| tensor.shape.as_slice())
    }

    /// All in which the checkpoint differs from what a model needs, as loading would tell it.
    pub fn faults(&self, specs: &[WeightSpec], options: LoadOptions<'_>) -> Vec<WeightFault> {
        let shards = &self.shards;
        let prefix = names::prefix(shards, specs, options.names);
        let layout = Layout::new(specs, prefix, |tensor| options.tied || !shards.has(tensor));
        let found = Check { shards, layout: &layout, specs, prefix, options }.run();
        found.err().map(|error| error.faults).unwrap_or_default()
    }
}
