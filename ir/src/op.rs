//! The operators.
//!
//! One variant per operator, its operands by name. Every question the compiler asks of an operator is a method with an
//! exhaustive match, so that a new variant is walked through all of them by the compiler's own complaints:
//! operands ([`Op::operands`], [`Op::operands_mut`]), rows ([`crate::graph::Graph::rows_of`]), side effects ([`Op::effect`]), the resource
//! that bounds it ([`Op::resource`]), whether it may write over an operand ([`Op::in_place`]); its output types are in
//! [`crate::infer`], its launch in the code generator, its meaning in the oracle interpreter.

use crate::dim::Dim;
use crate::ids::{BlockId, CacheId, ParamId, ValueId, WeightId};

/// An operator with its operands.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Row lookup: `out[r] = weight[ids[r]]`.
    Embed {
        /// `[tokens]` of i32.
        ids: ValueId,
        /// `[rows, out]`.
        weight: WeightId,
    },
    /// `x / sqrt(mean(x²) + eps) * weight` over the last axis (Zhang & Sennrich 2019).
    RmsNorm {
        /// `[rows, n]`.
        x: ValueId,
        /// `[n]`.
        weight: WeightId,
        /// Added under the root.
        eps: ParamId,
    },
    /// `x · weightᵀ + bias`.
    Linear {
        /// `[rows, in]`.
        x: ValueId,
        /// `[out, in]`.
        weight: WeightId,
        /// `[out]`.
        bias: Option<WeightId>,
    },
    /// Rotary position embedding of each head (Su et al. 2021), halves rotated against each other.
    Rope {
        /// `[rows, heads * head]`.
        x: ValueId,
        /// `[rows]` of i32.
        pos: ValueId,
        /// Width of a head.
        head: Dim,
        /// Base of the frequencies.
        theta: ParamId,
        /// Scaling of the frequencies for long contexts.
        scaling: Option<RopeScaling>,
    },
    /// Attention over the sequence so far. `lower` splits it into [`Op::KvWrite`], [`Op::DecodeAttention`] and
    /// [`Op::PrefillAttention`].
    Attention {
        /// `[tokens, heads * head]`.
        q: ValueId,
        /// `[tokens, kv_heads * head]`.
        k: ValueId,
        /// `[tokens, kv_heads * head]`.
        v: ValueId,
        /// Where keys and values are kept.
        cache: CacheId,
        /// Which positions a row sees.
        mask: Mask,
    },
    /// `a + b`.
    Add {
        /// `[rows, n]`.
        a: ValueId,
        /// `[rows, n]`.
        b: ValueId,
    },
    /// `by(gate) * up` (Shazeer 2020, "GLU Variants Improve Transformer").
    GatedMul {
        /// `[rows, n]`.
        gate: ValueId,
        /// `[rows, n]`.
        up: ValueId,
        /// Applied to `gate`.
        by: Activation,
    },
    /// Chooses for each row the `top_k` experts with the highest logits (Shazeer et al. 2017). Gives their numbers,
    /// `[rows, top_k]` of i32, by falling logit and the lower number first among equals, and their shares,
    /// `[rows, top_k]`.
    Route {
        /// Logits, `[rows, experts]`.
        x: ValueId,
        /// How many experts a row goes to.
        top_k: Dim,
        /// From logits to scores.
        scoring: Scoring,
        /// Whether shares are scores divided by the sum of the chosen ones, not the scores themselves.
        renormalize: bool,
    },
    /// A product with the matrix of each expert that a row goes to: `out[r, k] = x[r, k] · weight[experts[r, k]]ᵀ`,
    /// `[rows, top_k * out]`.
    ExpertLinear {
        /// `[rows, in]`, the same for all experts of a row, or `[rows, top_k * in]`, columns of its own for each.
        x: ValueId,
        /// Which experts, `[rows, top_k]` of i32.
        experts: ValueId,
        /// `[out, in]` of each expert.
        weight: WeightId,
    },
    /// What the experts of a row give, each by its share: `out[r] = Σ_k shares[r, k] * x[r, k]`.
    Combine {
        /// `[rows, top_k * n]`.
        x: ValueId,
        /// `[rows, top_k]`.
        shares: ValueId,
    },
    /// Picks rows by number: `out[i] = x[at[i]]`.
    Rows {
        /// `[tokens, n]`.
        x: ValueId,
        /// `[seqs]` of i32.
        at: ValueId,
    },
    /// Runs blocks one after another, `times` of them, cycling through `blocks`; each takes what the one before gave.
    Repeat {
        /// One period of the pattern.
        blocks: Vec<BlockId>,
        /// How many layers in all.
        times: Dim,
        /// What the first layer takes.
        with: ValueId,
    },

    // From `lower`.
    /// Writes keys and values of the rows to their places in the cache.
    KvWrite {
        /// `[tokens, kv_heads * head]`.
        k: ValueId,
        /// `[tokens, kv_heads * head]`.
        v: ValueId,
        /// The cache.
        cache: CacheId,
    },
    /// Attention of the decode rows: one row per sequence, bound by reading the cache.
    DecodeAttention {
        /// `[tokens, heads * head]`.
        q: ValueId,
        /// The cache.
        cache: CacheId,
        /// Which positions a row sees.
        mask: Mask,
    },
    /// Attention of the prefill rows: many rows per sequence, bound by arithmetic.
    PrefillAttention {
        /// `[tokens, heads * head]`.
        q: ValueId,
        /// The cache.
        cache: CacheId,
        /// Which positions a row sees.
        mask: Mask,
    },

    // From `fuse`.
    /// A window of the columns of `x`. Costs nothing: whoever reads it reads `x`.
    Columns {
        /// `[rows, n]`.
        x: ValueId,
        /// First column.
        from: Dim,
        /// Number of columns.
        width: Dim,
    },
    /// `sum = a + b` and `RmsNorm(sum)` in one pass; gives both, in this order.
    AddRmsNorm {
        /// `[rows, n]`.
        a: ValueId,
        /// `[rows, n]`.
        b: ValueId,
        /// `[n]`.
        weight: WeightId,
        /// Added under the root.
        eps: ParamId,
    },

    // From `shard`.
    /// The sum over all ranks of `x`, on every rank.
    AllReduce {
        /// `[rows, n]`; each rank has its own.
        x: ValueId,
        /// How many ranks.
        ranks: Dim,
    },
    /// The columns of all ranks side by side, in the order of the ranks, on every rank.
    AllGather {
        /// `[rows, n]`; each rank has its own.
        x: ValueId,
        /// How many ranks.
        ranks: Dim,
    },
}

/// Which positions of its sequence a row attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Its own and all before it.
    Causal,
}

/// How a router turns logits into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// `exp(x) / Σ exp(x)` over all experts.
    Softmax,
    /// `1 / (1 + exp(-x))` of each expert alone.
    Sigmoid,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit (Hendrycks & Gimpel 2016), exact form.
    Gelu,
    /// Gaussian error linear unit, tanh form.
    GeluTanh,
}

/// Scaling of rotary frequencies; the settings are params, so that a config without scaling gives neutral values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScaling {
    /// `rope_type: llama3`: low frequencies divided by `factor`, high ones kept, a linear blend between
    /// (Llama 3.1; `_compute_llama3_parameters` of Hugging Face transformers). Neutral at `factor` 1.
    Llama3 {
        /// Divides low frequencies.
        factor: ParamId,
        /// Wavelengths above `original_context / low_freq_factor` are scaled fully.
        low_freq_factor: ParamId,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: ParamId,
        /// Context the model was first trained for, in tokens.
        original_context: ParamId,
    },
}

/// What the rows of an operator's outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowDomain {
    /// All rows of the dense batch: may be cut into nano-batches.
    Tokens,
    /// Its decode rows: may be cut into nano-batches.
    DecodeTokens,
    /// Its prefill rows: may be cut into nano-batches.
    PrefillTokens,
    /// One row per sampled sequence: never cut.
    Seqs,
}

/// The resource that bounds an operator, and so the stream group it goes to unless the plan says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Arithmetic.
    Compute,
    /// Reading the KV cache.
    Memory,
    /// Links between devices.
    Network,
}

/// What an operator does to a KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Writes the entries of its own rows.
    WriteOwnRows(CacheId),
    /// Reads entries of the same sequences that were written before this step, and those of its own rows.
    ReadOwnRows(CacheId),
    /// Reads entries written before this step and those of all rows of this step up to its own last one: a sequence's
    /// chunk may begin in an earlier nano-batch.
    ReadRowsUpTo(CacheId),
    /// Reads and writes as [`Op::Attention`] does before it is lowered.
    Both(CacheId),
}

impl Effect {
    /// The cache that it is about.
    pub fn cache(self) -> Option<CacheId> {
        match self {
            Effect::None => None,
            Effect::WriteOwnRows(cache)
            | Effect::ReadOwnRows(cache)
            | Effect::ReadRowsUpTo(cache)
            | Effect::Both(cache) => Some(cache),
        }
    }
}

impl Op {
    /// The operator's name as graphs spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "Embed",
            Op::RmsNorm { .. } => "RmsNorm",
            Op::Linear { .. } => "Linear",
            Op::Rope { .. } => "Rope",
            Op::Attention { .. } => "Attention",
            Op::Add { .. } => "Add",
            Op::GatedMul { .. } => "GatedMul",
            Op::Route { .. } => "Route",
            Op::ExpertLinear { .. } => "ExpertLinear",
            Op::Combine { .. } => "Combine",
            Op::Rows { .. } => "Rows",
            Op::Repeat { .. } => "Repeat",
            Op::KvWrite { .. } => "KvWrite",
            Op::DecodeAttention { .. } => "DecodeAttention",
            Op::PrefillAttention { .. } => "PrefillAttention",
            Op::Columns { .. } => "Columns",
            Op::AddRmsNorm { .. } => "AddRmsNorm",
            Op::AllReduce { .. } => "AllReduce",
            Op::AllGather { .. } => "AllGather",
        }
    }

    /// The values it reads, with the field each stands in.
    pub fn operands(&self) -> Vec<(&'static str, ValueId)> {
        match *self {
            Op::Embed { ids, .. } => vec![("ids", ids)],
            Op::RmsNorm { x, .. }
            | Op::Linear { x, .. }
            | Op::Route { x, .. }
            | Op::Columns { x, .. }
            | Op::AllReduce { x, .. }
            | Op::AllGather { x, .. } => vec![("x", x)],
            Op::ExpertLinear { x, experts, .. } => vec![("x", x), ("experts", experts)],
            Op::Combine { x, shares } => vec![("x", x), ("shares", shares)],
            Op::Rope { x, pos, .. } => vec![("x", x), ("pos", pos)],
            Op::Attention { q, k, v, .. } => vec![("q", q), ("k", k), ("v", v)],
            Op::Add { a, b } | Op::AddRmsNorm { a, b, .. } => vec![("a", a), ("b", b)],
            Op::GatedMul { gate, up, .. } => vec![("gate", gate), ("up", up)],
            Op::Rows { x, at } => vec![("x", x), ("at", at)],
            Op::Repeat { with, .. } => vec![("with", with)],
            Op::KvWrite { k, v, .. } => vec![("k", k), ("v", v)],
            Op::DecodeAttention { q, .. } | Op::PrefillAttention { q, .. } => vec![("q", q)],
        }
    }

    /// The values it reads, to be replaced.
    pub fn operands_mut(&mut self) -> Vec<&mut ValueId> {
        match self {
            Op::Embed { ids, .. } => vec![ids],
            Op::RmsNorm { x, .. }
            | Op::Linear { x, .. }
            | Op::Route { x, .. }
            | Op::Columns { x, .. }
            | Op::AllReduce { x, .. }
            | Op::AllGather { x, .. } => vec![x],
            Op::ExpertLinear { x, experts, .. } => vec![x, experts],
            Op::Combine { x, shares } => vec![x, shares],
            Op::Rope { x, pos, .. } => vec![x, pos],
            Op::Attention { q, k, v, .. } => vec![q, k, v],
            Op::Add { a, b } | Op::AddRmsNorm { a, b, .. } => vec![a, b],
            Op::GatedMul { gate, up, .. } => vec![gate, up],
            Op::Rows { x, at } => vec![x, at],
            Op::Repeat { with, .. } => vec![with],
            Op::KvWrite { k, v, .. } => vec![k, v],
            Op::DecodeAttention { q, .. } | Op::PrefillAttention { q, .. } => vec![q],
        }
    }

    /// The weights it reads.
    pub fn weights(&self) -> Vec<WeightId> {
        match *self {
            Op::Embed { weight, .. }
            | Op::RmsNorm { weight, .. }
            | Op::ExpertLinear { weight, .. }
            | Op::AddRmsNorm { weight, .. } => vec![weight],
            Op::Linear { weight, bias, .. } => [Some(weight), bias].into_iter().flatten().collect(),
            Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => vec![],
        }
    }

    /// The weights it reads, to be replaced.
    pub fn weights_mut(&mut self) -> Vec<&mut WeightId> {
        match self {
            Op::Embed { weight, .. }
            | Op::RmsNorm { weight, .. }
            | Op::ExpertLinear { weight, .. }
            | Op::AddRmsNorm { weight, .. } => vec![weight],
            Op::Linear { weight, bias, .. } => [Some(weight), bias.as_mut()].into_iter().flatten().collect(),
            Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => vec![],
        }
    }

    /// How many values it gives.
    pub fn num_outputs(&self) -> usize {
        match self {
            Op::KvWrite { .. } => 0,
            Op::AddRmsNorm { .. } | Op::Route { .. } => 2,
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => 1,
        }
    }

    /// What it does to a KV cache.
    pub fn effect(&self) -> Effect {
        match *self {
            Op::Attention { cache, .. } => Effect::Both(cache),
            Op::KvWrite { cache, .. } => Effect::WriteOwnRows(cache),
            Op::DecodeAttention { cache, .. } => Effect::ReadOwnRows(cache),
            Op::PrefillAttention { cache, .. } => Effect::ReadRowsUpTo(cache),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::Columns { .. }
            | Op::AddRmsNorm { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => Effect::None,
        }
    }

    /// The resource that bounds it.
    pub fn resource(&self) -> Resource {
        match self {
            Op::DecodeAttention { .. } => Resource::Memory,
            Op::AllReduce { .. } | Op::AllGather { .. } => Resource::Network,
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AddRmsNorm { .. } => Resource::Compute,
        }
    }

    /// Operand and output (by number) that may share memory because row `i` of the output depends on row `i` of the
    /// operand alone and each element is read before it is written.
    pub fn in_place(&self) -> Option<(ValueId, usize)> {
        match *self {
            Op::Add { a, .. } | Op::AddRmsNorm { a, .. } => Some((a, 0)),
            Op::Rope { x, .. } | Op::AllReduce { x, .. } => Some((x, 0)),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Linear { .. }
            | Op::Attention { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AllGather { .. } => None,
        }
    }

    /// Whether it is launched at all; the others only give another name to what is there.
    pub fn launches(&self) -> bool {
        match self {
            Op::Columns { .. } | Op::Repeat { .. } => false,
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Route { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::AddRmsNorm { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => true,
        }
    }
}
