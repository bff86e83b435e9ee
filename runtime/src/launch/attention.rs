//! Arguments of attention: rotation by position, the cache, and attention itself.

use super::{CacheRef, Region, RopeRef, StepTable, WeightRef};

/// Rotates pairs of elements of each head by the row's position (Su et al. 2021): as many as the table has angles for,
/// the rest of a head as it is. `out` may be the region of `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// `[rows, heads * head]`.
    pub x: Region,
    /// Where the positions stand.
    pub positions: StepTable,
    /// Angles by position, and which elements turn together.
    pub table: RopeRef,
    /// Width of a head.
    pub head: u32,
    /// `[rows, heads * head]`.
    pub out: Region,
}

/// Writes keys and values of the rows to their places in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvWrite {
    /// `[rows, kv_heads * head]`.
    pub k: Region,
    /// `[rows, kv_heads * head]`.
    pub v: Region,
    /// The layer's cache.
    pub cache: CacheRef,
}

/// How scores are made of queries and keys, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Multiplies each product of a query with a key.
    pub scale: f32,
    /// Then `cap * tanh(score / cap)`; 0 for no cap.
    pub softcap: f32,
    /// How many positions a row sees, its own included; 0 for all before it.
    pub window: u32,
    /// `[heads]`: one more logit in each head's softmax, for which no value stands.
    pub sinks: Option<WeightRef>,
    /// Whether `slope(head) * (key's position - row's)` is added (Press et al. 2022).
    pub alibi: bool,
}

impl Scores {
    /// Scaled products with all before a row.
    pub fn plain(scale: f32) -> Self {
        Self { scale, softcap: 0.0, window: 0, sinks: None, alibi: false }
    }
}

/// Causal attention of the rows over their sequences' cache: decode rows or prefill rows, by the method called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// `[rows, heads * head]`.
    pub q: Region,
    /// The layer's cache.
    pub cache: CacheRef,
    /// How scores are made.
    pub scores: Scores,
    /// `[rows, heads * head]`.
    pub out: Region,
}
