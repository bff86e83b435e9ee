//! A checkpoint's weights: found, checked against what the model needs, and packed for the kernels.
//!
//! Nothing is loaded before everything has been checked: `shards` reads the headers of all files, `layout` resolves
//! the model's weight table to tensors, under the prefix that `names` finds, `check` compares the two and reports every
//! difference at once, and only then `pack` maps the files and packs them with all threads. `form` says where in a tensor
//! a piece is: part of a larger tensor, transposed, one of many experts, and of what ranks share the rank's own.
//! `extra` lists tensors that the model does not read, `quantised` knows how quantised ones are called. `random` makes
//! weights of the right shapes out of nothing, `inventory` compares without loading.

mod check;
mod extra;
mod fault;
mod form;
mod inventory;
mod layout;
mod mapped;
mod names;
mod pack;
mod quantised;
mod random;
mod shards;

use std::path::Path;
use std::slice;
use std::sync::Arc;

use trefoil_kernels::cpu::{ElementType, PackedMatrix, SourceType};

pub use extra::grouped;
pub use fault::{WeightFault, WeightsError};
pub use inventory::Inventory;
pub use random::random;

use crate::launch::WeightRef;
use crate::model::{Names, WeightSpec};
use layout::Layout;
use shards::Shards;

/// The bound model's weights, packed.
#[derive(Debug)]
pub struct Weights {
    /// By weight, then by layer of the model (one entry for a weight of the whole model).
    table: Vec<Vec<Option<Arc<Weight>>>>,
    num_bytes: usize,
    element: ElementType,
}

/// A packed weight. Matrices and lookup tables have one form, so that tied ones can be one.
#[derive(Debug)]
enum Weight {
    Matrix(PackedMatrix),
    /// By number of the expert, all of one shape and type.
    Experts(Vec<PackedMatrix>),
    /// A vector, or those of all experts end to end.
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

    /// Who it is along an axis: alone where the axis is not divided.
    fn along(self, is_divided: bool) -> Self {
        if is_divided { self } else { Self::ALONE }
    }
}

/// How weights are loaded.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// The rank whose parts are loaded.
    pub rank: Rank,
    /// `tie_word_embeddings` of the configuration.
    pub tied: bool,
    /// How the checkpoint may name its tensors, as the bound model says.
    pub names: Names<'a>,
    /// Tensors that the model neither reads nor ignores are no fault; they are reported in [`Loaded::unused`].
    pub ignore_extra: bool,
    /// How matrices are stored in memory.
    pub dtype: WeightDtype,
    /// Threads to pack with.
    pub num_threads: usize,
    /// Told how many bytes of the packed weights are done and how many there will be, from any thread.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Default for LoadOptions<'_> {
    /// All ranks' parts, as the checkpoint stores them, with one thread, silently.
    fn default() -> Self {
        Self {
            rank: Rank::ALONE,
            tied: false,
            names: Names::PLAIN,
            ignore_extra: false,
            dtype: WeightDtype::Auto,
            num_threads: 1,
            progress: &|_, _| (),
        }
    }
}

/// What loading gives.
#[derive(Debug)]
pub struct Loaded {
    /// The weights.
    pub weights: Weights,
    /// Tensors of the checkpoint that the model neither reads nor ignores, for a warning; none unless
    /// [`LoadOptions::ignore_extra`] lets them be. [`grouped`] makes it short.
    pub unused: Vec<String>,
}

/// Loads the weights of the checkpoint in `dir`: `model.safetensors`, or the shards that
/// `model.safetensors.index.json` names.
///
/// # Errors
/// Every fault of the files; if there is none, every tensor that is missing, unusable or not read by the model.
pub fn load(dir: &Path, specs: &[WeightSpec], options: LoadOptions<'_>) -> Result<Loaded, WeightsError> {
    let shards = Shards::open(dir)?;
    let prefix = names::prefix(&shards, specs, options.names);
    let layout = Layout::new(specs, prefix, |tensor| options.tied || !shards.has(tensor));
    let unused = check::Check { shards: &shards, layout: &layout, specs, prefix, options }.run()?.into_iter().collect();
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
            found => panic!("{weight:?} is {}, not a matrix", Weight::describe(found)),
        }
    }

    /// The matrices of all experts, by number.
    ///
    /// # Panics
    /// If they are not the experts' matrices of the model.
    pub(crate) fn experts(&self, weight: WeightRef) -> &[PackedMatrix] {
        match self.get(weight) {
            Some(Weight::Experts(matrices)) => matrices,
            found => panic!("{weight:?} is {}, not the matrices of experts", Weight::describe(found)),
        }
    }

    /// A vector, `[columns]`; those of all experts one after the other, `[experts, columns]`.
    ///
    /// # Panics
    /// If it is not a vector of the model.
    pub(crate) fn vector(&self, weight: WeightRef) -> &[f32] {
        match self.get(weight) {
            Some(Weight::Vector(vector)) => vector,
            found => panic!("{weight:?} is {}, not a vector", Weight::describe(found)),
        }
    }

    fn get(&self, weight: WeightRef) -> Option<&Weight> {
        self.table.get(usize::from(weight.weight))?.get(usize::from(weight.layer))?.as_deref()
    }

    /// Puts packed weights to the places that the layout gives them.
    fn place(layout: &Layout, weights: Vec<Weight>) -> Self {
        let num_bytes = weights.iter().map(Weight::num_bytes).sum();
        let is_wide = |matrix: &PackedMatrix| matrix.element() == ElementType::F32;
        let any_wide = weights.iter().flat_map(Weight::matrices).any(is_wide);
        let element = if any_wide { ElementType::F32 } else { ElementType::Bf16 };
        let weights: Vec<Arc<Weight>> = weights.into_iter().map(Arc::new).collect();
        let weight = |entry: &Option<usize>| entry.and_then(|entry| weights.get(entry).cloned());
        let table = layout.table.iter().map(|layers| layers.iter().map(weight).collect()).collect();
        Self { table, num_bytes, element }
    }
}

impl Weight {
    fn num_bytes(&self) -> usize {
        match self {
            Weight::Matrix(matrix) => matrix.bytes(),
            Weight::Experts(matrices) => matrices.iter().map(PackedMatrix::bytes).sum(),
            Weight::Vector(vector) => size_of_val(vector.as_slice()),
        }
    }

    fn matrices(&self) -> &[PackedMatrix] {
        match self {
            Weight::Matrix(matrix) => slice::from_ref(matrix),
            Weight::Experts(matrices) => matrices,
            Weight::Vector(_) => &[],
        }
    }

    fn matrices_mut(&mut self) -> &mut [PackedMatrix] {
        match self {
            Weight::Matrix(matrix) => slice::from_mut(matrix),
            Weight::Experts(matrices) => matrices,
            Weight::Vector(_) => &mut [],
        }
    }

    fn describe(found: Option<&Weight>) -> &'static str {
        match found {
            None => "absent",
            Some(Weight::Matrix(_)) => "a matrix",
            Some(Weight::Experts(_)) => "the matrices of experts",
            Some(Weight::Vector(_)) => "a vector",
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
