//! Root mean square normalization.
#![allow(unsafe_code, reason = "aliased operands can only be built from raw pointers")]

use super::{Random, assert_close, assert_same_bits, on_every_path};
use super::{UNTOUCHED, all};
use crate::cpu::{MatMut, MatRef, add_rms_norm, layer_norm, rms_norm};

const SHAPES: [(usize, usize); 9] =
    [(0, 16), (1, 1), (2, 15), (5, 16), (3, 63), (7, 64), (2, 130), (33, 256), (4, 1000)];
/// Rows, columns and the stretches that are normalized each by itself.
const GROUPS: [(usize, usize, usize); 6] =
    [(2, 6, 3), (5, 32, 16), (3, 60, 20), (2, 384, 128), (4, 240, 80), (2, 5, 1)];
const EPS: f32 = 1e-5;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Rms,
    Layer,
}

type Shape = (usize, usize, usize);
/// Weight and bias.
type Vectors<'a> = (Option<&'a [f32]>, Option<&'a [f32]>);

fn shapes() -> impl Iterator<Item = Shape> {
    SHAPES.into_iter().map(|(rows, columns)| (rows, columns, columns)).chain(GROUPS)
}

fn check(kind: Kind, x: &[f32], (_, columns, group): Shape, (weight, bias): Vectors<'_>, found: &[f32]) {
    let at = |vector: Option<&[f32]>, index: usize, without: f64| {
        vector.map_or(without, |vector| f64::from(vector[index % columns % vector.len()]))
    };
    for (number, (x, found)) in x.chunks_exact(group).zip(found.chunks_exact(group)).enumerate() {
        let mean_of = |values: &dyn Fn(f64) -> f64| x.iter().map(|x| values(f64::from(*x))).sum::<f64>() / group as f64;
        let mean = match kind {
            Kind::Rms => 0.0,
            Kind::Layer => mean_of(&|x| x),
        };
        let largest = x.iter().fold(0.0, |largest, x| f64::from(x.abs()).max(largest));
        let factor = 1.0 / (mean_of(&|x| (x - mean).powi(2)) + f64::from(EPS)).sqrt();
        for (index, (x, found)) in x.iter().zip(found).enumerate() {
            let index = number * group + index;
            let weighted = (f64::from(*x) - mean) * factor * at(weight, index, 1.0);
            let bias = at(bias, index, 0.0);
            // Rounding of the mean and of the difference is relative to the elements, not to their difference.
            let size = match kind {
                Kind::Rms => weighted.abs(),
                Kind::Layer => largest * factor * at(weight, index, 1.0).abs() + bias.abs(),
            };
            assert_close(&format!("{kind:?}, element {index} of {columns}"), *found, weighted + bias, 1e-6 * size);
        }
    }
}

fn norm(
    kind: Kind,
    x: &[f32],
    (rows, columns, group): Shape,
    (weight, bias): Vectors<'_>,
    items: &[std::ops::Range<usize>],
) -> Vec<f32> {
    let mut result = vec![UNTOUCHED; x.len()];
    let out = MatMut::new(&mut result, rows, columns);
    let x = MatRef::new(x, rows, columns);
    for items in items {
        match kind {
            Kind::Rms => rms_norm(x, weight, EPS, group, out, items.clone()),
            Kind::Layer => layer_norm(x, weight, bias, EPS, group, out, items.clone()),
        }
    }
    result
}

/// No vector, one of a stretch, one of a row.
fn vectors(random: &mut Random, (_, columns, group): Shape) -> [Option<Vec<f32>>; 3] {
    [None, Some(random.values(group)), Some(random.values(columns))]
}

#[test]
fn norms_match_the_reference_on_every_path_and_cut() {
    let mut random = Random::new();
    for (shape, kind) in shapes().flat_map(|shape| [(shape, Kind::Rms), (shape, Kind::Layer)]) {
        let offset = random.pick(&[0.0, 0.0, 3.0]);
        let x: Vec<f32> = random.values(shape.0 * shape.1).iter().map(|x| x + offset).collect();
        let (weights, biases) = (vectors(&mut random, shape), vectors(&mut random, shape));
        for (weight, bias) in weights.iter().flat_map(|weight| biases.iter().map(move |bias| (weight, bias))) {
            let vectors = (weight.as_deref(), if let Kind::Rms = kind { None } else { bias.as_deref() });
            let what = format!("{kind:?} of {shape:?}");
            let found = on_every_path(&what, || norm(kind, &x, shape, vectors, &all(shape.0)));
            check(kind, &x, shape, vectors, &found);
            assert_same_bits(&what, &found, &norm(kind, &x, shape, vectors, &random.cuts(shape.0)));
        }
    }
}

#[test]
fn a_stretch_is_normalized_as_a_row_of_its_own() {
    let mut random = Random::new();
    for (shape, kind) in shapes().flat_map(|shape| [(shape, Kind::Rms), (shape, Kind::Layer)]) {
        let (rows, columns, group) = shape;
        let (x, weight, bias) = (random.values(rows * columns), random.values(group), random.values(group));
        let vectors = (Some(&weight[..]), if let Kind::Rms = kind { None } else { Some(&bias[..]) });
        let num_stretches = rows * columns / group;
        let alone = norm(kind, &x, (num_stretches, group, group), vectors, &all(num_stretches));
        assert_same_bits(&format!("{kind:?} of {shape:?}"), &alone, &norm(kind, &x, shape, vectors, &all(rows)));
    }
}

#[test]
fn layer_norm_keeps_small_differences_of_large_elements() {
    let x: Vec<f32> = (0..512).map(|index| 4096.0 + if index % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let found = norm(Kind::Layer, &x, (1, 512, 512), (None, None), &all(1));
    for (index, found) in found.into_iter().enumerate() {
        assert_close("element", found, if index % 2 == 0 { 1.0 } else { -1.0 }, 1e-5);
    }
}

#[test]
fn norms_may_write_over_their_input() {
    let mut random = Random::new();
    for kind in [Kind::Rms, Kind::Layer] {
        let (mut x, weight) = (random.values(3 * 70), random.values(35));
        let apart = norm(kind, &x, (3, 70, 35), (Some(&weight), None), &all(3));
        let memory = x.as_mut_ptr();
        // SAFETY: one thread uses this memory, as the kernel's documentation allows.
        let (input, out) = unsafe { (MatRef::from_raw(memory, 3, 70, 70), MatMut::from_raw(memory, 3, 70, 70)) };
        match kind {
            Kind::Rms => rms_norm(input, Some(&weight), EPS, 35, out, 0..3),
            Kind::Layer => layer_norm(input, Some(&weight), None, EPS, 35, out, 0..3),
        }
        assert_same_bits("in place", &apart, &x);
    }
}

#[test]
fn add_rms_norm_is_add_then_norm() {
    let mut random = Random::new();
    for (rows, columns) in SHAPES {
        let (a, b, weight) = (random.values(rows * columns), random.values(rows * columns), random.values(columns));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let expected = norm(Kind::Rms, &sum, (rows, columns, columns), (Some(&weight), None), &all(rows));
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
