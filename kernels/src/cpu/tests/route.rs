//! Routing to experts, and what they give brought together.

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{MatMut, MatRef, Scoring, combine, route};

/// (rows, experts, top_k).
const SHAPES: [(usize, usize, usize); 6] = [(0, 4, 2), (1, 1, 1), (5, 8, 2), (9, 5, 5), (3, 17, 4), (20, 128, 20)];

/// Numbers and shares of all rows, rows cut into `items`.
fn routed(
    logits: &[f32],
    (rows, num_experts, top_k): (usize, usize, usize),
    (scoring, renormalize): (Scoring, bool),
    items: &[std::ops::Range<usize>],
) -> (Vec<u32>, Vec<f32>) {
    let (mut experts, mut shares) = (vec![UNTOUCHED; rows * top_k], vec![UNTOUCHED; rows * top_k]);
    let (chosen, given) = (MatMut::new(&mut experts, rows, top_k), MatMut::new(&mut shares, rows, top_k));
    for items in items {
        route(MatRef::new(logits, rows, num_experts), scoring, renormalize, chosen, given, items.clone());
    }
    (experts.into_iter().map(f32::to_bits).collect(), shares)
}

/// As the formulas have it.
fn reference(logits: &[f32], top_k: usize, scoring: Scoring, renormalize: bool) -> Vec<(u32, f64)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: f32| (f64::from(logit) - f64::from(highest)).exp();
    let score = |logit: f32| match scoring {
        Scoring::Softmax => exponential(logit) / logits.iter().copied().map(exponential).sum::<f64>(),
        Scoring::Sigmoid => 1.0 / (1.0 + (-f64::from(logit)).exp()),
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    let chosen: Vec<_> = order[..top_k].iter().map(|&expert| (expert, score(logits[expert as usize]))).collect();
    let sum: f64 = if renormalize { chosen.iter().map(|(_, score)| score).sum() } else { 1.0 };
    chosen.into_iter().map(|(expert, score)| (expert, score / sum)).collect()
}

#[test]
fn route_matches_the_reference_on_every_path_and_cut() {
    let mut random = Random::new();
    for shape in SHAPES {
        let (rows, num_experts, top_k) = shape;
        // Few different values, so that many are equal.
        let logits: Vec<f32> = (0..rows * num_experts).map(|_| random.below(12) as f32 - 5.5).collect();
        for (scoring, renormalize) in [Scoring::Softmax, Scoring::Sigmoid].map(|s| [(s, false), (s, true)]).concat() {
            let what = format!("{shape:?} by {scoring:?}, renormalized {renormalize}");
            let cuts = random.cuts(rows);
            let (experts, shares) = routed(&logits, shape, (scoring, renormalize), &all(rows));
            let on_paths = on_every_path(&what, || routed(&logits, shape, (scoring, renormalize), &cuts).1);
            assert_same_bits(&what, &shares, &on_paths);
            for (row, logits) in logits.chunks(num_experts).enumerate() {
                for (slot, (expert, share)) in reference(logits, top_k, scoring, renormalize).into_iter().enumerate() {
                    assert_eq!(experts[row * top_k + slot], expert, "{what}, row {row}, slot {slot}");
                    assert_close(&what, shares[row * top_k + slot], share, 1e-6 * share);
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_is_chosen_last_and_shows() {
    let logits = [f32::NAN, -3.0, f32::NAN, 2.0];
    let (experts, shares) = routed(&logits, (1, 4, 3), (Scoring::Softmax, true), &all(1));
    assert_eq!(experts, [3, 1, 0]);
    assert!(shares.iter().all(|share| share.is_nan()));
}

#[test]
fn combine_matches_the_reference_on_every_path_and_cut() {
    let mut random = Random::new();
    for (rows, columns, top_k) in [(0, 3, 2), (1, 1, 1), (4, 33, 2), (7, 64, 8), (13, 100, 3)] {
        let (x, shares) = (random.values(rows * top_k * columns), random.values(rows * top_k));
        let cuts = random.cuts(rows);
        let found = on_every_path("combine", || {
            let mut out = vec![UNTOUCHED; rows * columns];
            let view = MatMut::new(&mut out, rows, columns);
            for items in &cuts {
                let (x, shares) = (MatRef::new(&x, rows, top_k * columns), MatRef::new(&shares, rows, top_k));
                combine(x, shares, view, items.clone());
            }
            out
        });
        for (index, found) in found.into_iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let term = |slot: usize| {
                f64::from(shares[row * top_k + slot]) * f64::from(x[(row * top_k + slot) * columns + column])
            };
            let size: f64 = (0..top_k).map(|slot| term(slot).abs()).sum();
            assert_close("combine", found, (0..top_k).map(term).sum(), 1e-6 * size);
        }
    }
}
