//! Functions of one number, and the gates that use them.

use std::f64::consts::{PI, SQRT_2};

use trefoil_ir::ids::ParamId;
use trefoil_ir::op::Function;

/// The function's value at `x`; `setting` gives its settings.
pub(super) fn apply(function: Function, setting: impl Fn(ParamId) -> f64, x: f64) -> f64 {
    match function {
        Function::Identity => x,
        Function::Silu => x * sigmoid(x),
        Function::Gelu => 0.5 * x * (1.0 + error_function(x / SQRT_2)),
        Function::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Function::Relu => x.max(0.0),
        Function::ReluSquared => x.max(0.0).powi(2),
        Function::Sigmoid => sigmoid(x),
        Function::Tanh => x.tanh(),
        Function::Swish(slope) => x * sigmoid(setting(slope) * x),
        Function::Scale(by) => setting(by) * x,
        Function::SoftCap(cap) => soft_cap(x, setting(cap)),
        Function::Clamp(limit) => clamp(x, setting(limit)),
    }
}

/// `by(min(gate, limit)) * (clamp(up, -limit, limit) + shift)`; a limit of 0 is none.
pub(super) fn gated(gate: f64, up: f64, by: impl Fn(f64) -> f64, limit: f64, shift: f64) -> f64 {
    let gate = if limit == 0.0 { gate } else { gate.min(limit) };
    by(gate) * (clamp(up, limit) + shift)
}

/// `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `cap * tanh(x / cap)` (Gemma Team 2024, section 2); a cap of 0 is none.
pub(super) fn soft_cap(x: f64, cap: f64) -> f64 {
    if cap == 0.0 { x } else { cap * (x / cap).tanh() }
}

fn clamp(x: f64, limit: f64) -> f64 {
    if limit == 0.0 { x } else { x.clamp(-limit, limit) }
}

/// erf by its Maclaurin series (DLMF 7.6.1), which converges for every x and is exact enough below |x| = 5.
fn error_function(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    2.0 / PI.sqrt() * sum
}

#[cfg(test)]
mod tests {
    use trefoil_ir::ids::Id;

    use super::*;

    fn at(function: Function, setting: f64, x: f64) -> f64 {
        apply(function, |_| setting, x)
    }

    #[test]
    fn erf_at_known_points() {
        for (x, erf) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
        ] {
            assert!((error_function(x) - erf).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn functions_at_known_points() {
        let e = std::f64::consts::E;
        let setting = ParamId::new(0);
        for (function, own, x, expected) in [
            (Function::Identity, 0.0, -1.5, -1.5),
            (Function::Silu, 0.0, 1.0, e / (1.0 + e)),
            (Function::Gelu, 0.0, 1.0, 0.841_344_746_068_542_9),
            // `torch.nn.functional.gelu(1.0, approximate="tanh")` in f64.
            (Function::GeluTanh, 0.0, 1.0, 0.841_191_990_608_276_8),
            (Function::Relu, 0.0, -2.0, 0.0),
            (Function::Relu, 0.0, 2.0, 2.0),
            (Function::ReluSquared, 0.0, 3.0, 9.0),
            (Function::ReluSquared, 0.0, -3.0, 0.0),
            (Function::Sigmoid, 0.0, -1.0, 1.0 / (1.0 + e)),
            (Function::Tanh, 0.0, 0.5, (e - 1.0) / (e + 1.0)),
            (Function::Swish(setting), 2.0, 0.5, 0.5 * e / (1.0 + e)),
            (Function::Scale(setting), -3.0, 0.5, -1.5),
            (Function::SoftCap(setting), 2.0, 1.0, 2.0 * (e - 1.0) / (e + 1.0)),
            (Function::SoftCap(setting), 0.0, 70.0, 70.0),
            (Function::Clamp(setting), 7.0, 8.0, 7.0),
            (Function::Clamp(setting), 7.0, -8.0, -7.0),
            (Function::Clamp(setting), 7.0, 6.0, 6.0),
            (Function::Clamp(setting), 0.0, 800.0, 800.0),
        ] {
            let found = at(function, own, x);
            assert!((found - expected).abs() < 1e-12, "{function:?} of {x} is {found}, not {expected}");
        }
    }

    #[test]
    fn gates_are_bounded_above_and_what_they_gate_on_both_sides() {
        let double = |x: f64| 2.0 * x;
        assert_eq!(gated(3.0, -5.0, double, 0.0, 0.0), -30.0);
        assert_eq!(gated(3.0, -5.0, double, 2.0, 0.0), -8.0);
        assert_eq!(gated(-3.0, 5.0, double, 2.0, 1.0), -18.0);
        assert_eq!(gated(3.0, 5.0, double, 0.0, 1.0), 36.0);
    }
}
