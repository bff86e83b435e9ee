//! Mixtures of experts as their formulas have them (Shazeer et al. 2017, section 2.1; Jiang et al. 2024, section 2.1).

use trefoil_ir::op::Scoring;

use super::arithmetic::softmax;
use super::matrix::{Matrix, dot};

/// The numbers of the `top_k` experts of each row with the highest scores, and their shares.
pub(super) fn route(logits: &Matrix, top_k: usize, scoring: Scoring, renormalize: bool) -> [Matrix; 2] {
    let chosen = |row: &[f64]| -> Vec<(usize, f64)> {
        let scores = match scoring {
            Scoring::Softmax => softmax(row.to_vec()),
            Scoring::Sigmoid => row.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect(),
        };
        let mut order: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
        // A stable sort: the lower number stays first among equals.
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.truncate(top_k);
        let sum: f64 = if renormalize { order.iter().map(|(_, score)| score).sum() } else { 1.0 };
        order.into_iter().map(|(expert, score)| (expert, score / sum)).collect()
    };
    [
        logits.map_rows(|_, row| chosen(row).into_iter().map(|(expert, _)| expert as f64).collect()),
        logits.map_rows(|_, row| chosen(row).into_iter().map(|(_, share)| share).collect()),
    ]
}

/// Each row times the matrices of its experts, one product behind the other; a row as wide as all its experts' inputs
/// has a part for each.
pub(super) fn product(x: &Matrix, experts: &Matrix, weights: &[Matrix]) -> Matrix {
    x.map_rows(|number, row| {
        let products = experts.row(number).iter().enumerate().flat_map(|(slot, expert)| {
            let weight = &weights[*expert as usize];
            let inputs = weight.num_columns();
            let own = if row.len() == inputs { row } else { &row[slot * inputs..(slot + 1) * inputs] };
            weight.rows().map(|weights| dot(own, weights)).collect::<Vec<_>>()
        });
        products.collect()
    })
}

/// The sum of the parts of each row, each by its share.
pub(super) fn combine(x: &Matrix, shares: &Matrix) -> Matrix {
    x.map_rows(|number, row| {
        let shares = shares.row(number);
        let width = row.len() / shares.len();
        let sum =
            |column: usize| shares.iter().enumerate().map(|(slot, share)| share * row[slot * width + column]).sum();
        (0..width).map(sum).collect()
    })
}
