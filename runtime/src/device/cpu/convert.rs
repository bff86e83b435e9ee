//! Arguments of launches as the kernels name them.

use trefoil_kernels::cpu as kernels;

use crate::launch::{Function, Groups, Scoring};
use crate::model::{Pairs, RopeScaling};

pub(super) fn function(function: Function) -> kernels::Function {
    match function {
        Function::Identity => kernels::Function::Identity,
        Function::Silu => kernels::Function::Silu,
        Function::Gelu => kernels::Function::Gelu,
        Function::GeluTanh => kernels::Function::GeluTanh,
        Function::Relu => kernels::Function::Relu,
        Function::ReluSquared => kernels::Function::ReluSquared,
        Function::Sigmoid => kernels::Function::Sigmoid,
        Function::Tanh => kernels::Function::Tanh,
        Function::Swish(slope) => kernels::Function::Swish(slope),
        Function::Scale(by) => kernels::Function::Scale(by),
        Function::SoftCap(cap) => kernels::Function::SoftCap(cap),
        Function::Clamp(limit) => kernels::Function::Clamp(limit),
    }
}

pub(super) fn scoring(scoring: Scoring) -> kernels::Scoring {
    match scoring {
        Scoring::Softmax => kernels::Scoring::Softmax,
        Scoring::Sigmoid => kernels::Scoring::Sigmoid,
    }
}

pub(super) fn groups(groups: Groups) -> kernels::Groups {
    let Groups { count, top, best } = groups;
    kernels::Groups { count: count as usize, top: top as usize, best: best as usize }
}

pub(super) fn pairs(pairs: Pairs) -> kernels::Pairs {
    match pairs {
        Pairs::Halves => kernels::Pairs::Halves,
        Pairs::Adjacent => kernels::Pairs::Adjacent,
    }
}

/// The scaling of frequencies, and what multiplies the elements that turn.
pub(super) fn scaling(scaling: RopeScaling) -> (kernels::RopeScaling, f64) {
    match scaling {
        RopeScaling::None => (kernels::RopeScaling::None, 1.0),
        RopeScaling::Linear { factor } => (kernels::RopeScaling::Linear { factor: factor as f32 }, 1.0),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let scaling = kernels::RopeScaling::Llama3 {
                factor: factor as f32,
                low_freq_factor: low_freq_factor as f32,
                high_freq_factor: high_freq_factor as f32,
                original_context: original_context as f32,
            };
            (scaling, 1.0)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention, truncate } => {
            let scaling = kernels::RopeScaling::Yarn {
                factor: factor as f32,
                beta_fast: beta_fast as f32,
                beta_slow: beta_slow as f32,
                original_context: original_context as f32,
                truncate: truncate != 0.0,
            };
            (scaling, attention)
        }
    }
}
