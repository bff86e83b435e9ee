//! A compiled model as the generated code describes itself, and its binding to one checkpoint's sizes.
//!
//! `compile_model!` produces one [`CompiledModel`] per graph: plain functions and tables, no state. [`CompiledModel::bind`]
//! reads the sizes from `config.json` and gives back everything that depends on them as a [`BoundModel`].

mod binding;
mod suits;

use std::ops::Range;

use crate::checkpoint::Config;
use crate::launch::{Device, Launcher, Point, StreamSpec};

pub use binding::{Binding, BoundSizes, Definition, LayerPattern, Literal, MAX_SIZE, Number, Quantity, Setting, Size};
pub use suits::{Suits, choose};

/// What `compile_model!` makes of a graph and its plans, for devices of type `D`.
pub struct CompiledModel<D: Device> {
    /// The graph's file name without its ending.
    pub name: &'static str,
    /// How many ranks run it together; each holds its part of the weights and caches.
    pub ranks: u32,
    /// The `architectures` of `config.json` that this graph serves.
    pub serves: &'static [&'static str],
    /// The paths of `config.json` that the graph reads, in order ([`crate::checkpoint::keys::unread`]).
    pub config_keys: &'static [&'static str],
    /// Reads sizes and settings from a checkpoint's configuration; all faults at once.
    pub bind: fn(&Config) -> Result<BoundModel, Vec<ConfigFault>>,
    /// The plans, the sequential one first.
    pub plans: &'static [CompiledPlan<D>],
}

/// One plan's generated launch functions. `dims` and `params` are the bound model's.
pub struct CompiledPlan<D: Device> {
    /// The plan's file name without its ending.
    pub name: &'static str,
    /// When the plan is meant to be taken.
    pub suits: Suits,
    /// The profile of the device it is made for; `None` for any.
    pub device: Option<&'static str>,
    /// Its streams, in the numbering of the generated code.
    pub streams: &'static [StreamSpec],
    /// How many events it uses.
    pub num_events: usize,
    /// Its cuts of the dense batch.
    pub points: &'static [Point],
    /// Inner cuts are rounded down to a multiple of this many rows.
    pub multiple_of: u32,
    /// Its buffers at these sizes.
    pub buffers: fn(&BoundModel) -> Vec<BufferSpec>,
    /// The buffer that holds the logits, `[seqs, vocab]`, when the head has run, and the stream it is written on.
    pub logits: (usize, usize),
    /// From token ids to the first layer's input.
    pub embed: fn(&Launcher<'_, D>, &BoundModel),
    /// A range of layers.
    pub layers: fn(&Launcher<'_, D>, &BoundModel, Range<usize>),
    /// From the last layer's output to the logits.
    pub head: fn(&Launcher<'_, D>, &BoundModel),
}

/// A model's sizes and tables at one checkpoint's configuration.
#[derive(Debug, Clone)]
pub struct BoundModel {
    /// Sizes by the graph's dim number (step dims are 0).
    pub dims: Vec<usize>,
    /// Settings by the graph's param number.
    pub params: Vec<f64>,
    /// Number of layers, all repeats together.
    pub num_layers: usize,
    /// The block of the graph that each layer has, by number.
    pub blocks: Vec<u16>,
    /// Rows of the logits' last axis.
    pub vocab: usize,
    /// Weight table.
    pub weights: Vec<WeightSpec>,
    /// KV caches.
    pub caches: Vec<CacheSpec>,
    /// Rotary tables.
    pub ropes: Vec<RopeSpec>,
    /// The longest sequence that the model was made for, in tokens, where the graph says which key gives it; `None`:
    /// `max_position_embeddings`.
    pub context: Option<usize>,
    /// How the checkpoint may name its tensors.
    pub names: Names<'static>,
}

/// How checkpoints of a graph may name their tensors, beyond the weight table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// What may stand before the name of every tensor. A checkpoint is read with the one under which it has most of the
    /// model's tensors, the first of several.
    pub prefixes: &'a [&'a str],
    /// Tensors that the mathematics does not read, below the prefix: `{layer}` and `{expert}` are any number, `{beyond}`
    /// that of a layer behind the last, `*` is any
    /// text.
    pub ignores: &'a [&'a str],
}

impl Names<'_> {
    /// No prefix, nothing ignored.
    pub const PLAIN: Self = Self { prefixes: &[""], ignores: &[] };
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// The layers that have a block of the graph, given the block of each.
pub fn layers_of(blocks: &[u16], block: u16) -> Vec<usize> {
    blocks.iter().enumerate().filter(|(_, own)| **own == block).map(|(layer, _)| layer).collect()
}

/// One entry of the weight table.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSpec {
    /// What it is used as.
    pub role: WeightRole,
    /// The tensors of the checkpoint it is made of: matrices one below the other, vectors end to end.
    pub pieces: Vec<Piece>,
    /// Columns (the input width of a matrix or the width of a table; the length of a vector, of one expert's vector).
    pub columns: usize,
    /// How many experts have one, for [`WeightRole::Experts`] and [`WeightRole::ExpertVectors`]. Where the name of a tensor
    /// has no `{expert}`, the tensor holds those of all experts, one after the other along its first axis.
    pub experts: Option<usize>,
    /// The layers that have one, `None` for a weight of the whole model.
    pub layers: Option<Vec<usize>>,
    /// What a rank holds of the tensors; rows and columns are those it holds.
    pub part: Part,
}

/// What one of several ranks holds of a tensor. Rank `r` of `n` has the `r`-th of `n` equal stretches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// A stretch of its rows.
    Rows,
    /// A stretch of its columns; of a vector, of its elements.
    Columns,
}

/// How the operators read a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightRole {
    /// The right side of a product, `[rows, columns]`, output-major as checkpoints hold it.
    Matrix,
    /// The right sides of products, one for each expert, each output-major as checkpoints hold it.
    Experts,
    /// A lookup table `[rows, columns]`.
    Table,
    /// `[columns]`.
    Vector,
    /// `[columns]` for each expert.
    ExpertVectors,
}

/// A tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its name, `{layer}` standing for the layer and `{expert}` for the expert.
    pub tensor: String,
    /// The tensor that is used instead where the configuration ties the two or this one is absent.
    pub tied: Option<String>,
    /// Its rows (1 for a vector).
    pub rows: usize,
    /// Its columns: those of the weight, but of a vector made of several only its own part.
    pub columns: usize,
    /// How the checkpoint holds it.
    pub stored: Stored,
}

/// How the checkpoint holds a piece, where it is not the tensor as it is read. By default it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stored {
    /// The tensor is `[columns, rows]`, as a product with its input on the left would have it.
    pub transposed: bool,
    /// The piece is some rows (of a vector: elements) of a larger tensor.
    pub slice: Option<Slice>,
    /// Added to every element.
    pub plus: f32,
}

/// Rows (of a vector: elements) of a larger tensor: from `from` on, `take` out of each `every`, as many as the piece has.
/// One stretch of them has `take` and `every` as large as the piece.
///
/// `of`, `from`, `take` and `every` are those of the whole tensor. Where the piece is divided by rows (of a vector:
/// elements) among ranks, rank `r` has the `r`-th of equal stretches of the rows that are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// How many the tensor has.
    pub of: usize,
    /// The first that is read.
    pub from: usize,
    /// How many of each group are read.
    pub take: usize,
    /// How many a group has.
    pub every: usize,
}

/// One KV cache: what each token of each layer keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSpec {
    /// As the graph names it.
    pub name: String,
    /// Heads of keys and of values.
    pub kv_heads: usize,
    /// Width of a head of the keys.
    pub head: usize,
    /// Width of a head of the values.
    pub value: usize,
    /// The layers that have it.
    pub layers: Vec<usize>,
}

/// A table of rotary angles.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// How many elements of a head turn.
    pub rotary: usize,
    /// Which of them turn together.
    pub pairs: Pairs,
    /// Base of the frequencies.
    pub theta: f64,
    /// Scaling of the frequencies.
    pub scaling: RopeScaling,
}

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// Element `i` of the first half with element `i` of the second.
    #[default]
    Halves,
    /// Elements `2i` and `2i + 1`.
    Adjacent,
}

/// Scaling of rotary frequencies, as `rope_type` names them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// As they are.
    None,
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a blend between.
    Llama3 {
        /// Divides low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context the model was first trained for, in tokens.
        original_context: f64,
    },
    /// All frequencies divided.
    Linear {
        /// Divides frequencies.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023): low frequencies divided by `factor`, high ones kept, a blend between.
    Yarn {
        /// Divides low frequencies.
        factor: f64,
        /// Frequencies that turn more often than this within the original context are kept.
        beta_fast: f64,
        /// Those that turn less often are divided.
        beta_slow: f64,
        /// Context the model was first trained for, in tokens.
        original_context: f64,
        /// Multiplies what is rotated.
        attention: f64,
        /// Whether the two ends of the blend are rounded to whole frequencies; 0 for no.
        truncate: f64,
    },
}

/// A buffer of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferSpec {
    /// What its rows are.
    pub rows: BufferRows,
    /// Its width, f32 elements.
    pub columns: usize,
}

/// What the rows of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferRows {
    /// The dense batch's.
    Tokens,
    /// One per sampled sequence.
    Seqs,
}

/// A configuration that the graph cannot serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigFault {
    /// A size or setting that no key gives.
    #[error("config.json lacks {keys} (needed for `{name}` of graph {graph})")]
    Missing {
        /// The graph.
        graph: &'static str,
        /// The dim or param.
        name: &'static str,
        /// The keys that would give it.
        keys: String,
    },
    /// A value of the wrong kind.
    #[error("config.json: {key} is {value}, graph {graph} needs {needs}")]
    Unusable {
        /// The graph.
        graph: &'static str,
        /// The key.
        key: String,
        /// What stands there.
        value: String,
        /// What would do.
        needs: String,
    },
    /// A list of the layers' kinds that does not fit.
    #[error("config.json: {key} {what} (graph {graph})")]
    Kinds {
        /// The graph.
        graph: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Sizes that do not go together.
    #[error("config.json: {what} ({values}; graph {graph})")]
    Condition {
        /// The graph.
        graph: &'static str,
        /// What must hold.
        what: &'static str,
        /// The sizes it is about, with their values.
        values: String,
    },
    /// A division that leaves a rest, or by zero.
    #[error("config.json: `{name}` = {expression} is {left} / {right}, not a whole number (graph {graph})")]
    Uneven {
        /// The graph.
        graph: &'static str,
        /// The dim.
        name: &'static str,
        /// Its expression.
        expression: &'static str,
        /// Dividend.
        left: usize,
        /// Divisor.
        right: usize,
    },
    /// A size that is zero, negative or too large, or a setting that is not finite.
    #[error("config.json: `{name}` = {expression} is out of range (graph {graph})")]
    OutOfRange {
        /// The graph.
        graph: &'static str,
        /// The dim or param.
        name: &'static str,
        /// Its expression.
        expression: &'static str,
    },
}
