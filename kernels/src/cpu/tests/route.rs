//! Routing to experts, and what they give brought together.

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{Choice, Groups, MatMut, MatRef, Scoring, combine, route};

/// (rows, experts, top_k).
const SHAPES: [(usize, usize, usize); 6] = [(0, 4, 2), (1, 1, 1), (5, 8, 2), (9, 5, 5), (3, 17, 4), (20, 128, 20)];

/// Numbers and shares of all rows, rows cut into `items`.
fn routed(
    (logits, bias): (&[f32], Option<&[f32]>),
    shape: (usize, usize, usize),
    (scoring, renormalize): (Scoring, bool),
    items: &[std::ops::Range<usize>],
) -> (Vec<u32>, Vec<f32>) {
    routed_by(logits, shape, &Choice { scoring, renormalize, bias, groups: None }, items)
}

fn routed_by(
    logits: &[f32],
    (rows, num_experts, top_k): (usize, usize, usize),
    by: &Choice<'_>,
    items: &[std::ops::Range<usize>],
) -> (Vec<u32>, Vec<f32>) {
    let (mut experts, mut shares) = (vec![UNTOUCHED; rows * top_k], vec![UNTOUCHED; rows * top_k]);
    let (chosen, given) = (MatMut::new(&mut experts, rows, top_k), MatMut::new(&mut shares, rows, top_k));
    for items in items {
        route(MatRef::new(logits, rows, num_experts), by, chosen, given, items.clone());
    }
    (experts.into_iter().map(f32::to_bits).collect(), shares)
}

/// Every expert's score, as the formulas have it.
fn scores(logits: &[f32], scoring: Scoring) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: f32| (f64::from(logit) - f64::from(highest)).exp();
    let sum: f64 = logits.iter().copied().map(exponential).sum();
    let score = |logit: f32| match scoring {
        Scoring::Softmax => exponential(logit) / sum,
        Scoring::Sigmoid => 1.0 / (1.0 + (-f64::from(logit)).exp()),
    };
    logits.iter().copied().map(score).collect()
}

/// The shares of the experts `chosen`.
fn given(scores: &[f64], chosen: &[u32], renormalize: bool) -> Vec<f64> {
    let score = |expert: &u32| scores[*expert as usize];
    let sum: f64 = if renormalize { chosen.iter().map(score).sum() } else { 1.0 };
    chosen.iter().map(|expert| score(expert) / sum).collect()
}

/// All experts by falling key, the lower number first among equals.
fn by_key(keys: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_by(|a, b| keys[*b as usize].total_cmp(&keys[*a as usize]).then(a.cmp(b)));
    order
}

fn ways() -> [(Scoring, bool); 4] {
    let (softmax, sigmoid) = (Scoring::Softmax, Scoring::Sigmoid);
    [(softmax, false), (softmax, true), (sigmoid, false), (sigmoid, true)]
}

#[test]
fn route_matches_the_reference_on_every_path_and_cut() {
    let mut random = Random::new();
    for shape in SHAPES {
        let (rows, num_experts, top_k) = shape;
        // Few different values, so that many are equal.
        let logits: Vec<f32> = (0..rows * num_experts).map(|_| random.below(12) as f32 - 5.5).collect();
        for (scoring, renormalize) in ways() {
            let what = format!("{shape:?} by {scoring:?}, renormalized {renormalize}");
            let cuts = random.cuts(rows);
            let (experts, shares) = routed((&logits, None), shape, (scoring, renormalize), &all(rows));
            let on_paths = on_every_path(&what, || routed((&logits, None), shape, (scoring, renormalize), &cuts).1);
            assert_same_bits(&what, &shares, &on_paths);
            for (row, logits) in logits.chunks(num_experts).enumerate() {
                let keys: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
                let (row, order) = (row * top_k..(row + 1) * top_k, by_key(&keys));
                assert_eq!(experts[row.clone()], order[..top_k], "{what}, pairs {row:?}");
                let expected = given(&scores(logits, scoring), &order[..top_k], renormalize);
                for (found, expected) in shares[row].iter().zip(expected) {
                    assert_close(&what, *found, expected, 1e-6 * expected);
                }
            }
        }
    }
}

#[test]
fn a_bias_moves_the_choice_and_not_the_shares() {
    let mut random = Random::new();
    for (shape, (scoring, renormalize)) in SHAPES.iter().flat_map(|shape| ways().map(|way| (*shape, way))) {
        let (rows, num_experts, top_k) = shape;
        let logits: Vec<f32> = random.values(rows * num_experts).iter().map(|logit| 4.0 * logit).collect();
        let bias = random.values(num_experts);
        let what = format!("{shape:?} by {scoring:?}, renormalized {renormalize}");
        let operands = (&logits[..], Some(&bias[..]));
        let cuts = random.cuts(rows);
        let (experts, shares) = routed(operands, shape, (scoring, renormalize), &all(rows));
        let on_paths = on_every_path(&what, || routed(operands, shape, (scoring, renormalize), &cuts).1);
        assert_same_bits(&what, &shares, &on_paths);
        for (row, logits) in logits.chunks(num_experts).enumerate() {
            let (scores, row) = (scores(logits, scoring), row * top_k..(row + 1) * top_k);
            let keys: Vec<f64> = scores.iter().zip(&bias).map(|(score, bias)| score + f64::from(*bias)).collect();
            let chosen = &experts[row.clone()];
            assert!((1..top_k).all(|slot| !chosen[..slot].contains(&chosen[slot])), "{what}: {chosen:?}");
            for (found, expected) in chosen.iter().zip(by_key(&keys)) {
                // Two experts may change places that only rounding tells apart.
                assert_close(&what, keys[*found as usize] as f32, keys[expected as usize], 1e-6);
            }
            for (found, expected) in shares[row].iter().zip(given(&scores, chosen, renormalize)) {
                // The exponent is a rounded difference of logits.
                assert_close(&what, *found, expected, 5e-6 * expected);
            }
        }
    }
}

/// (rows, experts, top_k), groups.
const GROUPED: [((usize, usize, usize), Groups); 7] = {
    const fn groups(count: usize, top: usize, best: usize) -> Groups {
        Groups { count, top, best }
    }
    [
        ((0, 4, 2), groups(2, 1, 2)),
        ((5, 8, 3), groups(4, 2, 2)),
        ((5, 8, 3), groups(4, 2, 1)),
        ((7, 34, 5), groups(2, 1, 1)),
        ((9, 15, 3), groups(5, 1, 2)),
        ((3, 256, 8), groups(8, 4, 2)),
        ((3, 12, 4), groups(1, 1, 1)),
    ]
};

/// The experts that are chosen by these keys, and the least lead of one of them, or of a group of theirs, over the next.
fn of_best_groups(mut keys: Vec<f64>, top_k: usize, groups: Groups) -> (Vec<u32>, f64) {
    let lead = |keys: &[f64], order: &[u32], count: usize| {
        let pairs = order.windows(2).take(count).map(|pair| keys[pair[0] as usize] - keys[pair[1] as usize]);
        pairs.fold(f64::INFINITY, f64::min)
    };
    let each = keys.len() / groups.count;
    let good = |keys: &[f64]| by_key(keys)[..groups.best].iter().map(|at| keys[*at as usize]).sum::<f64>();
    let good: Vec<f64> = keys.chunks(each).map(good).collect();
    let order = by_key(&good);
    let lead_of_groups = lead(&good, &order, groups.top);
    for group in &order[groups.top..] {
        keys[*group as usize * each..(*group as usize + 1) * each].fill(f64::NEG_INFINITY);
    }
    let order = by_key(&keys);
    let lead = lead(&keys, &order, top_k).min(lead_of_groups);
    (order[..top_k].to_vec(), lead)
}

#[test]
fn only_experts_of_the_best_groups_are_chosen_on_every_path_and_cut() {
    let mut random = Random::new();
    for ((shape, groups), (scoring, renormalize)) in GROUPED.iter().flat_map(|case| ways().map(|way| (*case, way))) {
        let (rows, num_experts, top_k) = shape;
        let own = random.values(num_experts);
        for bias in [None, Some(&own[..])] {
            let by = Choice { scoring, renormalize, bias, groups: Some(groups) };
            let what = format!("{shape:?} {groups:?} by {scoring:?}, renormalized {renormalize}, {}", bias.is_some());
            let keys = |logits: &[f32]| -> Vec<f64> {
                let bias = |expert: usize| bias.map_or(0.0, |bias| f64::from(bias[expert]));
                scores(logits, scoring).iter().enumerate().map(|(at, score)| score + bias(at)).collect()
            };
            // Rows in which rounding cannot change a choice.
            let mut logits = vec![];
            while logits.len() < rows * num_experts {
                let row: Vec<f32> = random.values(num_experts).iter().map(|logit| 4.0 * logit).collect();
                if of_best_groups(keys(&row), top_k, groups).1 > 1e-6 {
                    logits.extend(row);
                }
            }
            let cuts = random.cuts(rows);
            let (experts, shares) = routed_by(&logits, shape, &by, &all(rows));
            let on_paths = on_every_path(&what, || routed_by(&logits, shape, &by, &cuts).1);
            assert_same_bits(&what, &shares, &on_paths);
            for (row, logits) in logits.chunks(num_experts).enumerate() {
                let row = row * top_k..(row + 1) * top_k;
                let chosen = &experts[row.clone()];
                assert_eq!(chosen, of_best_groups(keys(logits), top_k, groups).0, "{what}");
                for (found, expected) in shares[row].iter().zip(given(&scores(logits, scoring), chosen, renormalize)) {
                    assert_close(&what, *found, expected, 5e-6 * expected);
                }
            }
        }
    }
}

#[test]
fn of_equal_groups_the_first_are_chosen() {
    let (logits, bias) = ([0.5f32; 40], [0.25f32; 40]);
    for best in [1, 2] {
        let groups = Some(Groups { count: 8, top: 2, best });
        let by = Choice { scoring: Scoring::Sigmoid, renormalize: true, bias: Some(&bias), groups };
        assert_eq!(routed_by(&logits, (1, 40, 7), &by, &all(1)).0, [0, 1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn equal_sums_go_to_the_lower_number() {
    let (logits, bias) = ([0.5f32; 40], [0.25f32; 40]);
    for scoring in [Scoring::Softmax, Scoring::Sigmoid] {
        let (experts, _) = routed((&logits, Some(&bias)), (1, 40, 5), (scoring, true), &all(1));
        assert_eq!(experts, [0, 1, 2, 3, 4], "{scoring:?}");
    }
}

#[test]
fn renormalized_shares_of_far_lower_logits_are_numbers() {
    let (logits, bias) = ([200.0f32, 1.0, 0.0], [-9.0f32, 0.0, 0.0]);
    let (experts, shares) = routed((&logits, Some(&bias)), (1, 3, 2), (Scoring::Softmax, true), &all(1));
    assert_eq!(experts, [1, 2]);
    assert_close("first", shares[0], 1.0 / (1.0 + (-1f64).exp()), 1e-6);
}

#[test]
fn what_is_not_a_number_is_chosen_last_and_shows() {
    let logits = [f32::NAN, -3.0, f32::NAN, 2.0];
    let (experts, shares) = routed((&logits, None), (1, 4, 3), (Scoring::Softmax, true), &all(1));
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
