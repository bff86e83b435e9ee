//! Arguments of the operators of models with experts.
//!
//! The numbers of experts stand in a buffer like activations, bit for bit as u32.

use super::{Region, WeightRef};

/// How a router turns logits into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scoring {
    /// `exp(x) / Σ exp(x)` over all experts.
    Softmax,
    /// `1 / (1 + exp(-x))` of each expert alone.
    Sigmoid,
}

/// Experts in `count` equal groups, of which a row goes to the `top` best: those with the highest sums of their `best`
/// highest scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// How many groups.
    pub count: u32,
    /// How many of them are chosen from.
    pub top: u32,
    /// How many experts of a group say how good it is.
    pub best: u32,
}

/// Chooses the experts with the highest logits, or with a bias those with the highest score + bias: the best first, and
/// the lower number first among equals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Route {
    /// Logits, `[rows, experts]`.
    pub x: Region,
    /// From logits to scores.
    pub scoring: Scoring,
    /// Whether shares are scores divided by the sum of the chosen ones.
    pub renormalize: bool,
    /// `[experts]`: added to scores for the choice, not for the shares.
    pub bias: Option<WeightRef>,
    /// Only experts of the best groups are chosen, by the scores with the bias.
    pub groups: Option<Groups>,
    /// The numbers of the chosen experts, `[rows, top_k]` of u32.
    pub experts: Region,
    /// Their shares, `[rows, top_k]`.
    pub shares: Region,
}

/// `out[r, k] = x[r, k] · weight[experts[r, k]]ᵀ + bias[experts[r, k]]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExpertLinear {
    /// `[rows, inputs]`, the same for all experts of a row, or `[rows, top_k * inputs]`, columns of its own for each.
    pub x: Region,
    /// The numbers of the chosen experts, `[rows, top_k]` of u32.
    pub experts: Region,
    /// `[outputs, inputs]` of each expert.
    pub weight: WeightRef,
    /// `[outputs]` of each expert.
    pub bias: Option<WeightRef>,
    /// `[rows, top_k * outputs]`.
    pub out: Region,
}

/// `out[r] = Σ_k shares[r, k] * x[r, k]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combine {
    /// `[rows, top_k * columns]`.
    pub x: Region,
    /// `[rows, top_k]`.
    pub shares: Region,
    /// `[rows, columns]`.
    pub out: Region,
}
