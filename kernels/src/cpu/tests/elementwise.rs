//! Row-wise kernels and the functions under them.
#![allow(unsafe_code, reason = "vectors are loaded from raw pointers")]

use super::{Random, UNTOUCHED, assert_close, assert_same_bits, on_every_path};
use crate::cpu::isa::{Kernel, dispatch};
use crate::cpu::vector::Vector;
use crate::cpu::{Activation, MatMut, MatRef, add, copy, gated_mul, gather_rows, math};

const SHAPES: [(usize, usize); 7] = [(0, 16), (1, 1), (2, 17), (5, 64), (7, 100), (1, 31), (33, 48)];

/// 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!: every term has the sign of x.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn reference(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
    }
}

fn gate(gates: &[f32], ups: &[f32], activation: Activation, rows: usize, columns: usize) -> Vec<f32> {
    let mut result = vec![UNTOUCHED; gates.len()];
    let (left, right) = (MatRef::new(gates, rows, columns), MatRef::new(ups, rows, columns));
    gated_mul(left, right, activation, MatMut::new(&mut result, rows, columns), 0..rows);
    result
}

#[test]
fn gated_mul_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        for (rows, columns) in SHAPES {
            let gates: Vec<f32> = random.values(rows * columns).iter().map(|value| value * 5.0).collect();
            let ups = random.values(rows * columns);
            let what = format!("{activation:?} {rows} x {columns}");
            let found = on_every_path(&what, || gate(&gates, &ups, activation, rows, columns));
            for ((gate, up), found) in gates.iter().zip(&ups).zip(found) {
                let expected = reference(activation, f64::from(*gate)) * f64::from(*up);
                let tolerance = 1e-6 * f64::from(gate.abs() * up.abs());
                assert_close(&format!("{activation:?} of {gate}"), found, expected, tolerance);
            }
        }
    }
}

#[test]
fn activations_hold_at_the_ends() {
    for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        let gates = [-1e30, -1e4, -200.0, -90.0, -20.0, -0.0, 0.0, 20.0, 90.0, 1e4, 1e30];
        let found = on_every_path("ends", || gate(&gates, &[1.0; 11], activation, 1, 11));
        for (gate, found) in gates.iter().zip(found) {
            assert_close(
                &format!("{activation:?} of {gate}"),
                found,
                f64::from(gate.max(0.0)),
                1e-6 * f64::from(gate.abs()),
            );
        }
    }
}

struct Exp<'a>(&'a mut [f32; 16]);

impl Kernel for Exp<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: the array is one vector.
        unsafe { math::exp(V::load(self.0.as_ptr())).store(self.0.as_mut_ptr()) };
    }
}

fn exp(x: f32) -> f32 {
    let mut lanes = [x; 16];
    dispatch(Exp(&mut lanes));
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
fn add_matches_on_every_path_and_cut() {
    let mut random = Random::new();
    for (rows, columns) in SHAPES {
        let (a, b) = (random.values(rows * columns), random.values(rows * columns));
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let cuts = random.cuts(rows);
        let found = on_every_path("add", || {
            let mut result = vec![UNTOUCHED; a.len()];
            let out = MatMut::new(&mut result, rows, columns);
            for items in &cuts {
                add(MatRef::new(&a, rows, columns), MatRef::new(&b, rows, columns), out, items.clone());
            }
            result
        });
        assert_same_bits(&format!("{rows} x {columns}"), &expected, &found);
    }
}

#[test]
fn gather_and_copy_move_rows() {
    let mut random = Random::new();
    let x = random.values(6 * 11);
    let view = MatRef::with_stride(&x, 6, 9, 11);
    let rows = [5, 0, 0, 3];
    let (mut gathered, mut copied) = (vec![0.0; 4 * 9], vec![UNTOUCHED; 6 * 9]);
    gather_rows(view, &rows, MatMut::new(&mut gathered, 4, 9), 0..4);
    for (row, found) in rows.iter().zip(gathered.chunks_exact(9)) {
        assert_same_bits("gathered", &x[*row as usize * 11..][..9], found);
    }
    copy(view, MatMut::new(&mut copied, 6, 9), 1..5);
    for (row, found) in copied.chunks_exact(9).enumerate() {
        if (1..5).contains(&row) {
            assert_same_bits("copied", &x[row * 11..][..9], found);
        } else {
            assert_eq!(found, [UNTOUCHED; 9]);
        }
    }
}
