//! Functions of single elements, and what is under them.
#![allow(unsafe_code, reason = "vectors are loaded from raw pointers, and operands alias")]

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::isa::{Kernel, dispatch};
use crate::cpu::vector::Vector;
use crate::cpu::{Function, Gate, MatMut, MatRef, apply, gated_mul, math};

const SHAPES: [(usize, usize); 7] = [(0, 16), (1, 1), (2, 17), (5, 64), (7, 100), (1, 31), (33, 48)];

/// Every function, with parameters that matter for inputs of a few units.
const FUNCTIONS: [Function; 17] = [
    Function::Identity,
    Function::Silu,
    Function::Gelu,
    Function::GeluTanh,
    Function::Relu,
    Function::ReluSquared,
    Function::Sigmoid,
    Function::Tanh,
    Function::Swish(1.702),
    Function::Swish(-0.3),
    Function::Scale(-0.37),
    Function::SoftCap(0.0),
    Function::SoftCap(2.5),
    Function::SoftCap(30.0),
    Function::Clamp(0.0),
    Function::Clamp(1.25),
    Function::Clamp(7.0),
];

/// 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: every term has the sign of x.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn swish(x: f64, slope: f64) -> f64 {
    x / (1.0 + (-slope * x).exp())
}

fn reference(by: Function, x: f64) -> f64 {
    match by {
        Function::Identity => x,
        Function::Silu => swish(x, 1.0),
        Function::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Function::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Function::Relu => x.max(0.0),
        Function::ReluSquared => x.max(0.0).powi(2),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Tanh => x.tanh(),
        Function::Swish(slope) => swish(x, f64::from(slope)),
        Function::Scale(factor) => x * f64::from(factor),
        Function::SoftCap(0.0) | Function::Clamp(0.0) => x,
        Function::SoftCap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        Function::Clamp(limit) => x.clamp(-f64::from(limit), f64::from(limit)),
    }
}

/// Error of a function's result for `x`: relative for most, relative to the input where small tails are differences.
fn tolerance(by: Function, x: f64) -> f64 {
    let result = reference(by, x).abs();
    match by {
        Function::Identity | Function::Relu | Function::Clamp(_) | Function::SoftCap(0.0) => 0.0,
        Function::Scale(_) | Function::ReluSquared => 1e-7 * result,
        Function::Sigmoid | Function::Tanh | Function::SoftCap(_) => 4e-7 * result,
        // The rounded product in the exponent weighs in where the function is small.
        Function::Silu | Function::Swish(_) => (4e-7 + 1e-7 * x.abs()) * result,
        Function::Gelu | Function::GeluTanh => 4e-7 * x.abs(),
    }
}

fn applied(x: &[f32], by: Function, (rows, columns): (usize, usize), items: &[std::ops::Range<usize>]) -> Vec<f32> {
    let mut result = vec![UNTOUCHED; x.len()];
    let out = MatMut::new(&mut result, rows, columns);
    for items in items {
        apply(MatRef::new(x, rows, columns), by, out, items.clone());
    }
    result
}

#[test]
fn apply_matches_the_reference_on_every_path_and_cut() {
    let mut random = Random::new();
    for (by, shape) in FUNCTIONS.iter().flat_map(|by| SHAPES.map(|shape| (*by, shape))) {
        let size = random.pick(&[0.01, 1.0, 5.0]);
        let x: Vec<f32> = random.values(shape.0 * shape.1).iter().map(|value| value * size).collect();
        let what = format!("{by:?} of {shape:?}");
        let found = on_every_path(&what, || applied(&x, by, shape, &all(shape.0)));
        assert_same_bits(&what, &found, &applied(&x, by, shape, &random.cuts(shape.0)));
        for (x, found) in x.iter().zip(found) {
            let x = f64::from(*x);
            assert_close(&format!("{by:?} of {x}"), found, reference(by, x), tolerance(by, x));
        }
    }
}

#[test]
fn apply_may_write_over_its_input() {
    let mut random = Random::new();
    for by in FUNCTIONS {
        let mut x = random.values(3 * 70);
        let apart = applied(&x, by, (3, 70), &all(3));
        let memory = x.as_mut_ptr();
        // SAFETY: one thread uses this memory, as the kernel's documentation allows.
        let (input, out) = unsafe { (MatRef::from_raw(memory, 3, 70, 70), MatMut::from_raw(memory, 3, 70, 70)) };
        apply(input, by, out, 0..3);
        assert_same_bits(&format!("{by:?}"), &apart, &x);
    }
}

#[test]
fn functions_hold_at_the_ends() {
    let x = [-1e30, -1e4, -200.0, -90.0, -20.0, -0.0, 0.0, 20.0, 90.0, 1e4, 1e19, f32::NAN];
    for by in FUNCTIONS {
        let found = on_every_path("ends", || applied(&x, by, (1, x.len()), &all(1)));
        let (numbers, nan) = found.split_at(x.len() - 1);
        for (x, found) in x.iter().zip(numbers) {
            let x = f64::from(*x);
            let expected = match by {
                // The series of the reference ends too early here.
                Function::Gelu if x.abs() >= 20.0 => x.max(0.0),
                _ => reference(by, x),
            };
            // Where exponentials leave the range of f32, zeros are of the order of the least of its numbers.
            let tolerance = 4e-7 * expected.abs() + 1e-7 * x.abs().min(1.0) + 1e-37 * x.abs();
            assert_close(&format!("{by:?} of {x}"), *found, expected, tolerance);
        }
        assert!(nan[0].is_nan(), "{by:?} of NaN is {}", nan[0]);
    }
}

fn gated(gates: &[f32], ups: &[f32], how: &Gate, (rows, columns): (usize, usize)) -> Vec<f32> {
    let mut result = vec![UNTOUCHED; gates.len()];
    let (left, right) = (MatRef::new(gates, rows, columns), MatRef::new(ups, rows, columns));
    gated_mul(left, right, how, MatMut::new(&mut result, rows, columns), 0..rows);
    result
}

#[test]
fn gated_mul_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for (by, shape) in FUNCTIONS.iter().flat_map(|by| SHAPES.map(|shape| (*by, shape))) {
        for (limit, shift) in [(0.0, 0.0), (7.0, 1.0), (2.0, 0.0), (0.0, -0.5)] {
            let how = Gate { by, limit, shift };
            let gates: Vec<f32> = random.values(shape.0 * shape.1).iter().map(|value| value * 5.0).collect();
            let ups: Vec<f32> = random.values(shape.0 * shape.1).iter().map(|value| value * 5.0).collect();
            let what = format!("{how:?} of {shape:?}");
            let found = on_every_path(&what, || gated(&gates, &ups, &how, shape));
            let limit = if limit == 0.0 { f64::INFINITY } else { f64::from(limit) };
            for ((gate, up), found) in gates.iter().zip(&ups).zip(found) {
                let gate = f64::from(*gate).min(limit);
                let up = f64::from(*up).clamp(-limit, limit) + f64::from(shift);
                let tolerance = (tolerance(by, gate) + 2e-7 * reference(by, gate).abs()) * up.abs();
                assert_close(&format!("{how:?} of {gate}, {up}"), found, reference(by, gate) * up, tolerance);
            }
        }
    }
}

#[test]
fn gated_mul_may_write_over_either_input() {
    let mut random = Random::new();
    let how = Gate { by: Function::Swish(1.702), limit: 1.5, shift: 1.0 };
    for over_gate in [true, false] {
        let (gates, ups) = (random.values(2 * 37), random.values(2 * 37));
        let apart = gated(&gates, &ups, &how, (2, 37));
        let mut memory = if over_gate { gates.clone() } else { ups.clone() };
        let start = memory.as_mut_ptr();
        // SAFETY: one thread uses this memory, as the kernel's documentation allows.
        let (input, out) = unsafe { (MatRef::from_raw(start, 2, 37, 37), MatMut::from_raw(start, 2, 37, 37)) };
        let (gate, up) = (MatRef::new(&gates, 2, 37), MatRef::new(&ups, 2, 37));
        let (gate, up) = if over_gate { (input, up) } else { (gate, input) };
        gated_mul(gate, up, &how, out, 0..2);
        assert_same_bits("in place", &apart, &memory);
    }
}

struct Exp<'a>(&'a mut [f32; 16]);
struct Tanh<'a>(&'a mut [f32; 16]);

impl Kernel for Exp<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the array is one vector.
        unsafe { math::exp(V::load(self.0.as_ptr())).store(self.0.as_mut_ptr()) };
    }
}

impl Kernel for Tanh<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the array is one vector.
        unsafe { math::tanh(V::load(self.0.as_ptr())).store(self.0.as_mut_ptr()) };
    }
}

fn exp(x: f32) -> f32 {
    let mut lanes = [x; 16];
    dispatch(Exp(&mut lanes));
    lanes[0]
}

fn tanh(x: f32) -> f32 {
    let mut lanes = [x; 16];
    dispatch(Tanh(&mut lanes));
    lanes[0]
}

#[test]
fn exp_is_within_its_documented_error() {
    let mut worst: f64 = 0.0;
    for step in 0..400_000 {
        let x = -87.0 + 175.0 * (step as f32 / 400_000.0);
        let expected = f64::from(x).exp();
        worst = worst.max((f64::from(exp(x)) / expected - 1.0).abs());
    }
    assert!(worst < 1.3e-7, "relative error {worst:e}");
    assert_eq!(exp(0.0), 1.0);
    assert_eq!(exp(-0.0), 1.0);
    assert_eq!([exp(-87.5), exp(-1e30), exp(f32::NEG_INFINITY)], [0.0; 3]);
    assert_eq!(exp(1e30), exp(88.0));
    assert!(exp(f32::NAN).is_nan());
}

#[test]
fn tanh_is_within_its_documented_error() {
    let mut worst: f64 = 0.0;
    for step in 1..400_000 {
        let x = 10.0 * (step as f32 / 400_000.0);
        assert_eq!(tanh(-x), -tanh(x), "{x}");
        worst = worst.max((f64::from(tanh(x)) / f64::from(x).tanh() - 1.0).abs());
    }
    assert!(worst < 2e-7, "relative error {worst:e}");
    assert_eq!([tanh(1e-30), tanh(30.0), tanh(f32::INFINITY)], [1e-30, 1.0, 1.0]);
    assert_eq!(tanh(-0.0), 0.0);
    assert!(tanh(f32::NAN).is_nan());
}
