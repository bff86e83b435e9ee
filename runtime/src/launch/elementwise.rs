//! Arguments of the operators that work row by row: norms, sums, functions.

use super::{Region, WeightRef};

/// `out = x / sqrt(mean(x²) + eps) * weight`, over each stretch of `group` columns (Zhang & Sennrich 2019).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    /// `[rows, columns]`.
    pub x: Region,
    /// `[group]`; `None` for ones.
    pub weight: Option<WeightRef>,
    /// Added under the root.
    pub eps: f32,
    /// Width of the stretches that are normalised each by itself.
    pub group: u32,
    /// `[rows, columns]`.
    pub out: Region,
}

/// `out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, over each stretch of `group` columns (Ba et al.
/// 2016).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerNorm {
    /// `[rows, columns]`.
    pub x: Region,
    /// `[group]`; `None` for ones.
    pub weight: Option<WeightRef>,
    /// `[group]`; `None` for zeros.
    pub bias: Option<WeightRef>,
    /// Added under the root.
    pub eps: f32,
    /// Width of the stretches that are normalised each by itself.
    pub group: u32,
    /// `[rows, columns]`.
    pub out: Region,
}

/// `sum = a + b; out = rms_norm(sum)`. `sum` may be the region of `a` or of `b`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddRmsNorm {
    /// `[rows, columns]`.
    pub a: Region,
    /// `[rows, columns]`.
    pub b: Region,
    /// `[columns]`.
    pub weight: WeightRef,
    /// Added under the root.
    pub eps: f32,
    /// `[rows, columns]`.
    pub sum: Region,
    /// `[rows, columns]`.
    pub out: Region,
}

/// Of each of `heads` heads the columns of `a`, then those of `b`, which may also be one head that goes to all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Join {
    /// `[rows, heads * first]`.
    pub a: Region,
    /// `[rows, heads * second]` or `[rows, second]`.
    pub b: Region,
    /// How many heads.
    pub heads: u32,
    /// `[rows, heads * (first + second)]`.
    pub out: Region,
}

/// `out = a + b`. `out` may be the region of one of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Add {
    /// `[rows, columns]`.
    pub a: Region,
    /// `[rows, columns]`.
    pub b: Region,
    /// `[rows, columns]`.
    pub out: Region,
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// `x`.
    Identity,
    /// `x * sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit, exact form.
    Gelu,
    /// Gaussian error linear unit, tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x * sigmoid(slope * x)`.
    Swish(f32),
    /// `by * x`.
    Scale(f32),
    /// `cap * tanh(x / cap)`; `x` for a cap of 0.
    SoftCap(f32),
    /// `x`, but at least `-limit` and at most `limit`; `x` for a limit of 0.
    Clamp(f32),
}

/// `out = by(min(gate, limit)) * (clamp(up, -limit, limit) + shift)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GatedMul {
    /// `[rows, columns]`.
    pub gate: Region,
    /// `[rows, columns]`.
    pub up: Region,
    /// Applied to `gate`.
    pub by: Function,
    /// Bounds both operands; 0 for no bound.
    pub limit: f32,
    /// Added to `up`.
    pub shift: f32,
    /// `[rows, columns]`.
    pub out: Region,
}

/// `out = by(x)`. `out` may be the region of `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apply {
    /// `[rows, columns]`.
    pub x: Region,
    /// The function.
    pub by: Function,
    /// `[rows, columns]`.
    pub out: Region,
}
