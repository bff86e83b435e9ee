//! The operators.
//!
//! One variant per operator, its operands by name. Every question the compiler asks of an operator is a method with an
//! exhaustive match, so that a new variant is walked through all of them by the compiler's own complaints:
//! operands ([`Op::operands`], [`Op::operands_mut`]), rows ([`crate::graph::Graph::rows_of`]), side effects ([`Op::effect`]), the resource
//! that bounds it ([`Op::resource`]), whether it may write over an operand ([`Op::in_place`]); its output types are in
//! [`crate::infer`], its launch in the code generator, its meaning in the oracle interpreter.

mod settings;

pub use settings::{Function, Groups, Mask, Pairs, Pattern, RopeScaling, Score, Scoring, Switch, layer_orders};

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
        /// `[group]`; `None` for ones.
        weight: Option<WeightId>,
        /// Added under the root.
        eps: ParamId,
        /// Width of the stretches that are normalised each by itself; `None` for whole rows.
        group: Option<Dim>,
    },
    /// `(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias` over the last axis (Ba et al. 2016).
    LayerNorm {
        /// `[rows, n]`.
        x: ValueId,
        /// `[group]`; `None` for ones.
        weight: Option<WeightId>,
        /// `[group]`; `None` for zeros.
        bias: Option<WeightId>,
        /// Added under the root.
        eps: ParamId,
        /// Width of the stretches that are normalised each by itself; `None` for whole rows.
        group: Option<Dim>,
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
    /// Rotary position embedding of each head (Su et al. 2021).
    Rope {
        /// `[rows, heads * head]`.
        x: ValueId,
        /// `[rows]` of i32.
        pos: ValueId,
        /// Width of a head.
        head: Dim,
        /// Base of the frequencies.
        theta: ParamId,
        /// How many elements of a head turn, from the first on; `None` for all.
        rotary: Option<Dim>,
        /// Which elements turn together.
        pairs: Pairs,
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
        /// How scores are made.
        score: Score,
    },
    /// Heads put together of two parts: of each head the columns that `a` has of it, then those that `b` has.
    Join {
        /// `[rows, heads * n]`.
        a: ValueId,
        /// `[rows, heads * m]`, or `[rows, m]`: one part that all heads have.
        b: ValueId,
        /// How many heads.
        heads: Dim,
    },
    /// `a + b`.
    Add {
        /// `[rows, n]`.
        a: ValueId,
        /// `[rows, n]`.
        b: ValueId,
    },
    /// `by(gate) * up` (Shazeer 2020, "GLU Variants Improve Transformer"); in full,
    /// `by(min(gate, limit)) * (clamp(up, -limit, limit) + shift)`.
    GatedMul {
        /// `[rows, n]`.
        gate: ValueId,
        /// `[rows, n]`.
        up: ValueId,
        /// Applied to `gate`.
        by: Function,
        /// Bounds both operands; `None` or 0 for no bound.
        limit: Option<ParamId>,
        /// Added to `up`.
        shift: Option<ParamId>,
    },
    /// `by(x)`, element by element.
    Apply {
        /// `[rows, n]`.
        x: ValueId,
        /// The function.
        by: Function,
    },
    /// Chooses for each row the `top_k` experts with the highest logits (Shazeer et al. 2017), or with a bias those with
    /// the highest score + bias. Gives their numbers, `[rows, top_k]` of i32, the best first and the lower number first
    /// among equals, and their shares, `[rows, top_k]`.
    Route {
        /// Logits, `[rows, experts]`.
        x: ValueId,
        /// How many experts a row goes to.
        top_k: Dim,
        /// From logits to scores.
        scoring: Scoring,
        /// Whether shares are scores divided by the sum of the chosen ones, not the scores themselves.
        renormalize: Switch,
        /// `[experts]`: added to scores for the choice, not for the shares (DeepSeek-V3).
        bias: Option<WeightId>,
        /// Only experts of the best groups are chosen from.
        groups: Option<Groups>,
    },
    /// A product with the matrix of each expert that a row goes to: `out[r, k] = x[r, k] · weight[experts[r, k]]ᵀ +
    /// bias[experts[r, k]]`, `[rows, top_k * out]`.
    ExpertLinear {
        /// `[rows, in]`, the same for all experts of a row, or `[rows, top_k * in]`, columns of its own for each.
        x: ValueId,
        /// Which experts, `[rows, top_k]` of i32.
        experts: ValueId,
        /// `[out, in]` of each expert.
        weight: WeightId,
        /// `[out]` of each expert.
        bias: Option<WeightId>,
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
    /// Runs blocks one after another, `times` of them in all; each takes what the one before gave.
    Repeat {
        /// The texts of layers, each once.
        blocks: Vec<BlockId>,
        /// Which of them each layer has.
        pattern: Pattern,
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
        /// How scores are made.
        score: Score,
    },
    /// Attention of the prefill rows: many rows per sequence, bound by arithmetic.
    PrefillAttention {
        /// `[tokens, heads * head]`.
        q: ValueId,
        /// The cache.
        cache: CacheId,
        /// Which positions a row sees.
        mask: Mask,
        /// How scores are made.
        score: Score,
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
            Op::LayerNorm { .. } => "LayerNorm",
            Op::Linear { .. } => "Linear",
            Op::Rope { .. } => "Rope",
            Op::Attention { .. } => "Attention",
            Op::Join { .. } => "Join",
            Op::Add { .. } => "Add",
            Op::GatedMul { .. } => "GatedMul",
            Op::Apply { .. } => "Apply",
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
            | Op::LayerNorm { x, .. }
            | Op::Linear { x, .. }
            | Op::Apply { x, .. }
            | Op::Route { x, .. }
            | Op::Columns { x, .. }
            | Op::AllReduce { x, .. }
            | Op::AllGather { x, .. } => vec![("x", x)],
            Op::ExpertLinear { x, experts, .. } => vec![("x", x), ("experts", experts)],
            Op::Combine { x, shares } => vec![("x", x), ("shares", shares)],
            Op::Rope { x, pos, .. } => vec![("x", x), ("pos", pos)],
            Op::Attention { q, k, v, .. } => vec![("q", q), ("k", k), ("v", v)],
            Op::Join { a, b, .. } | Op::Add { a, b } | Op::AddRmsNorm { a, b, .. } => vec![("a", a), ("b", b)],
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
            | Op::LayerNorm { x, .. }
            | Op::Linear { x, .. }
            | Op::Apply { x, .. }
            | Op::Route { x, .. }
            | Op::Columns { x, .. }
            | Op::AllReduce { x, .. }
            | Op::AllGather { x, .. } => vec![x],
            Op::ExpertLinear { x, experts, .. } => vec![x, experts],
            Op::Combine { x, shares } => vec![x, shares],
            Op::Rope { x, pos, .. } => vec![x, pos],
            Op::Attention { q, k, v, .. } => vec![q, k, v],
            Op::Join { a, b, .. } | Op::Add { a, b } | Op::AddRmsNorm { a, b, .. } => vec![a, b],
            Op::GatedMul { gate, up, .. } => vec![gate, up],
            Op::Rows { x, at } => vec![x, at],
            Op::Repeat { with, .. } => vec![with],
            Op::KvWrite { k, v, .. } => vec![k, v],
            Op::DecodeAttention { q, .. } | Op::PrefillAttention { q, .. } => vec![q],
        }
    }

    /// The weights it reads.
    pub fn weights(&self) -> Vec<WeightId> {
        self.clone().weights_mut().into_iter().map(|weight| *weight).collect()
    }

    /// The weights it reads, to be replaced.
    pub fn weights_mut(&mut self) -> Vec<&mut WeightId> {
        match self {
            Op::Embed { weight, .. } | Op::AddRmsNorm { weight, .. } => vec![weight],
            Op::RmsNorm { weight, .. } => weight.iter_mut().collect(),
            Op::LayerNorm { weight, bias, .. } => weight.iter_mut().chain(bias).collect(),
            Op::Linear { weight, bias, .. } | Op::ExpertLinear { weight, bias, .. } => {
                std::iter::once(weight).chain(bias).collect()
            }
            Op::Route { bias, .. } => bias.iter_mut().collect(),
            Op::Attention { score, .. } | Op::DecodeAttention { score, .. } | Op::PrefillAttention { score, .. } => {
                score.sinks.iter_mut().collect()
            }
            Op::Rope { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::Columns { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => vec![],
        }
    }

    /// The settings it reads.
    pub fn params(&self) -> Vec<ParamId> {
        match *self {
            Op::RmsNorm { eps, .. } | Op::LayerNorm { eps, .. } | Op::AddRmsNorm { eps, .. } => vec![eps],
            Op::Rope { theta, scaling, .. } => {
                let scaling = scaling.map(|scaling| scaling.parts().1).unwrap_or_default();
                std::iter::once(theta).chain(scaling.into_iter().map(|(_, param)| param)).collect()
            }
            Op::Attention { score, .. } | Op::DecodeAttention { score, .. } | Op::PrefillAttention { score, .. } => {
                [score.scale, score.softcap, score.window].into_iter().flatten().collect()
            }
            Op::GatedMul { by, limit, shift, .. } => [by.parts().1, limit, shift].into_iter().flatten().collect(),
            Op::Apply { by, .. } => by.parts().1.into_iter().collect(),
            Op::Route { renormalize: Switch::Setting(param), .. } => vec![param],
            Op::Route { renormalize: Switch::On | Switch::Off, .. }
            | Op::Embed { .. }
            | Op::Linear { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
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
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
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
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
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
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
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

    /// Operands that may share memory with output number `output`, because row `i` of the output depends on row `i` of
    /// the operand alone and each element is read before it is written.
    pub fn in_place(&self, output: usize) -> Vec<ValueId> {
        match *self {
            Op::Add { a, b } => vec![a, b],
            Op::AddRmsNorm { a, b, .. } if output == 0 => vec![a, b],
            Op::Rope { x, .. } | Op::Apply { x, .. } | Op::AllReduce { x, .. } => vec![x],
            Op::AddRmsNorm { .. }
            | Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Attention { .. }
            | Op::Join { .. }
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
            | Op::AllGather { .. } => vec![],
        }
    }

    /// Whether it is launched at all; the others only give another name to what is there.
    pub fn launches(&self) -> bool {
        match self {
            Op::Columns { .. } | Op::Repeat { .. } => false,
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
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
