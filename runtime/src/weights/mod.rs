//! A checkpoint's weights: found, checked against what the model needs, and packed for the kernels.
//!
//! Nothing is loaded before everything has been checked: `shards` reads the headers of all files, `layout` resolves
//! the model's weight table to tensors, `check` compares the two and reports every difference at once, and only then
//! `pack` maps the files and packs them with all threads; of tensors that ranks share, `part` takes the rank's own. `random` makes weights of the right shapes out of nothing.

mod check;
mod fault;
mod layout;
mod mapped;
mod pack;
mod part;
mod random;
mod shards;

use std::path::Path;
use std::sync::Arc;

use trefoil_kernels::cpu::{ElementType, PackedMatrix, SourceType};

pub use fault::{WeightFault, WeightsError};
pub use random::random;

use crate::launch::WeightRef;
use crate::model::WeightSpec;
use layout::Layout;
use shards::Shards;

/// The bound model's weights, packed.
#[derive(Debug)]
pub struct Weights {
    /// By weight, then by layer of the model (one entry for a weight of the whole model), then by expert.
    table: Vec<Vec<Vec<Arc<Weight>>>>,
    num_bytes: usize,
    element: ElementType,
}

/// A packed weight. Matrices and lookup tables have one form, so that tied ones can be one.
#[derive(Debug)]
enum Weight {
    Matrix(PackedMatrix),
    Vector(Vec<f32>),
}

/// How matrices are stored in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightDtype {
    /// As the checkpoint stores them; float16, which the kernels do not read, as float32.
    #[default]
    Auto,
    /// bfloat16, rounded to nearest even where the checkpoint is wider.
    Bfloat16,
    /// float32.
    Float32,
}

/// One of the ranks that share a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub num_ranks: usize,
}

impl Rank {
    /// The only rank.
    pub const ALONE: Self = Self { number: 0, num_ranks: 1 };

    /// How many stretches a tensor has along the axis that this part of it divides.
    fn num_stretches(self, is_divided: bool) -> usize {
        if is_divided { self.num_ranks } else { 1 }
    }
}

/// How weights are loaded.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// The rank whose parts are loaded.
    pub rank: Rank,
    /// `tie_word_embeddings` of the configuration.
    pub tied: bool,
    /// How matrices are stored in memory.
    pub dtype: WeightDtype,
    /// Threads to pack with.
    pub num_threads: usize,
    /// Told how many bytes of the packed weights are done and how many there will be, from any thread.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// What loading gives.
#[derive(Debug)]
pub struct Loaded {
    /// The weights.
    pub weights: Weights,
    /// Tensors of the checkpoint that the model does not use, for a warning.
    pub unused: Vec<String>,
}

/// Loads the weights of the checkpoint in `dir`: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Every fault of the files; if there is none, every tensor that is missing or unusable.
pub fn load(dir: &Path, specs: &[WeightSpec], options: LoadOptions<'_>) -> Result<Loaded, WeightsError> {
    let shards = Shards::open(dir)?;
    let layout = Layout::new(specs, |tensor, tied| if options.tied || !shards.has(tensor) { tied } else { tensor });
    let unused = check::check(&shards, &layout, specs, options.rank)?;
    let weights = pack::pack(&shards, &layout, options)?;
    Ok(Loaded { weights, unused })
}

impl Weights {
    /// Bytes of all packed weights; shared ones count once.
    pub fn num_bytes(&self) -> usize {
        self.num_bytes
    }

    /// How the widest matrix elements are stored.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// # Panics
    /// If it is not a matrix of the model; generated code names only those that are in the model's own table.
    pub(crate) fn matrix(&self, weight: WeightRef) -> &PackedMatrix {
        match self.get(weight) {
            Some(Weight::Matrix(matrix)) => matrix,
            found => panic!("{weight:?} is {}, not a matrix", found.map_or("absent", |_| "a vector")),
        }
    }

    /// The matrices of all experts, by number.
    ///
    /// # Panics
    /// If one of them is not a matrix of the model.
    pub(crate) fn experts(&self, weight: WeightRef) -> Vec<&PackedMatrix> {
        let matrices = self.of_experts(weight).iter().map(|own| match own.as_ref() {
            Weight::Matrix(matrix) => matrix,
            Weight::Vector(_) => panic!("{weight:?} is a vector, not a matrix"),
        });
        matrices.collect()
    }

    /// # Panics
    /// If it is not a vector of the model.
    pub(crate) fn vector(&self, weight: WeightRef) -> &[f32] {
        match self.get(weight) {
            Some(Weight::Vector(vector)) => vector,
            found => panic!("{weight:?} is {}, not a vector", found.map_or("absent", |_| "a matrix")),
        }
    }

    fn get(&self, weight: WeightRef) -> Option<&Weight> {
        self.of_experts(weight).first().map(Arc::as_ref)
    }

    fn of_experts(&self, weight: WeightRef) -> &[Arc<Weight>] {
        let by_layer = self.table.get(usize::from(weight.weight)).map_or(&[][..], Vec::as_slice);
        by_layer.get(usize::from(weight.layer)).map_or(&[], Vec::as_slice)
    }

    /// Puts packed weights to the places that the layout gives them.
    fn place(layout: &Layout, weights: Vec<Weight>) -> Self {
        let num_bytes = weights.iter().map(Weight::num_bytes).sum();
        let is_wide =
            |weight: &Weight| matches!(weight, Weight::Matrix(matrix) if matrix.element() == ElementType::F32);
        let element = if weights.iter().any(is_wide) { ElementType::F32 } else { ElementType::Bf16 };
        let weights: Vec<Arc<Weight>> = weights.into_iter().map(Arc::new).collect();
        let experts = |entries: &Vec<usize>| entries.iter().filter_map(|entry| weights.get(*entry).cloned()).collect();
        let table = layout.table.iter().map(|layers| layers.iter().map(experts).collect()).collect();
        Self { table, num_bytes, element }
    }
}

impl Weight {
    fn num_bytes(&self) -> usize {
        match self {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Vector(vector) => size_of_val(vector.as_slice()),
        }
    }
}

impl WeightDtype {
    /// The packed type of a matrix that the checkpoint stores as `source`.
    fn element(self, source: SourceType) -> ElementType {
        match self {
            WeightDtype::Auto => source.lossless(),
            WeightDtype::Bfloat16 => ElementType::Bf16,
            WeightDtype::Float32 => ElementType::F32,
        }
    }
}

#[cfg(test)]
mod tests;
