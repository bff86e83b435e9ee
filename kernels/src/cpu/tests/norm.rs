//! Root mean square normalization.
#![allow(unsafe_code, reason = "aliased operands can only be built from raw pointers")]

use super::{Random, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{MatMut, MatRef, add_rms_norm, rms_norm};

const SHAPES: [(usize, usize); 9] =
    [(0, 16), (1, 1), (2, 15), (5, 16), (3, 63), (7, 64), (2, 130), (33, 256), (4, 1000)];
const EPS: f32 = 1e-5;

fn check(x: &[f32], weight: &[f32], found: &[f32]) {
    let columns = weight.len();
    for (row, (x, found)) in x.chunks_exact(columns).zip(found.chunks_exact(columns)).enumerate() {
        let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / columns as f64;
        let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
        for ((x, weight), found) in x.iter().zip(weight).zip(found) {
            let expected = f64::from(*x) * factor * f64::from(*weight);
            assert_close(&format!("row {row} of {columns}"), *found, expected, expected.abs() * 1e-6);
        }
    }
}

fn norm(x: &[f32], weight: &[f32], rows: usize, items: &[std::ops::Range<usize>]) -> Vec<f32> {
    let mut result = vec![0.0; x.len()];
    let out = MatMut::new(&mut result, rows, weight.len());
    for items in items {
        rms_norm(MatRef::new(x, rows, weight.len()), weight, EPS, out, items.clone());
    }
    result
}

#[test]
fn rms_norm_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for (rows, columns) in SHAPES {
        let (x, weight) = (random.values(rows * columns), random.values(columns));
        let what = format!("{rows} x {columns}");
        let all = on_every_path(&what, || norm(&x, &weight, rows, &all(rows)));
        check(&x, &weight, &all);
        assert_same_bits(&what, &all, &norm(&x, &weight, rows, &random.cuts(rows)));
    }
}

#[test]
fn rms_norm_may_write_over_its_input() {
    let mut random = Random::new();
    let (mut x, weight) = (random.values(3 * 70), random.values(70));
    let apart = norm(&x, &weight, 3, &all(3));
    let memory = x.as_mut_ptr();
    // SAFETY: one thread uses this memory, as the kernel's documentation allows.
    let (input, out) = unsafe { (MatRef::from_raw(memory, 3, 70, 70), MatMut::from_raw(memory, 3, 70, 70)) };
    rms_norm(input, &weight, EPS, out, 0..3);
    assert_same_bits("in place", &apart, &x);
}

#[test]
fn add_rms_norm_is_add_then_norm() {
    let mut random = Random::new();
    for (rows, columns) in SHAPES {
        let (a, b, weight) = (random.values(rows * columns), random.values(rows * columns), random.values(columns));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let expected = norm(&sum, &weight, rows, &all(rows));
        let found = on_every_path("add_rms_norm", || {
            let (mut total, mut normal) = (a.clone(), vec![0.0; a.len()]);
            let memory = total.as_mut_ptr();
            // SAFETY: one thread uses this memory, and `sum_out` may be `a`.
            let (left, sum_out) = unsafe {
                (MatRef::from_raw(memory, rows, columns, columns), MatMut::from_raw(memory, rows, columns, columns))
            };
            let right = MatRef::new(&b, rows, columns);
            add_rms_norm(left, right, &weight, EPS, sum_out, MatMut::new(&mut normal, rows, columns), 0..rows);
            assert_same_bits("sum", &sum, &total);
            normal
        });
        assert_same_bits(&format!("{rows} x {columns}"), &expected, &found);
    }
}
