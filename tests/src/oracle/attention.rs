//! Attention of one sequence, as its papers have it.

use super::functions::soft_cap;
use super::matrix::{Matrix, dot};

/// How scores are made of products, and which of them count.
pub(super) struct Scores {
    /// Multiplies each product.
    pub(super) scale: f64,
    /// Bounds the scaled product; 0 for no bound.
    pub(super) softcap: f64,
    /// How many positions a row sees, its own included; 0 for all before it.
    pub(super) window: usize,
    /// One more logit for each head.
    pub(super) sinks: Option<Vec<f64>>,
    /// Whether each head has its slope.
    pub(super) alibi: bool,
}

/// Causal attention: `softmax(scores(q · kᵀ)) · v` by head, query heads in equal groups over the heads of `k` and `v`
/// (Ainslie et al. 2023). The first query is at position `first`. `widths` are those of a head of `k` and of `v`.
pub(super) fn attention(
    q: &Matrix,
    first: usize,
    k: &Matrix,
    v: &Matrix,
    widths: (usize, usize),
    scores: &Scores,
) -> Matrix {
    let (head, width) = widths;
    let group = q.num_columns() / k.num_columns();
    let slopes = scores.alibi.then(|| alibi_slopes(q.num_columns() / head));
    q.map_rows(|number, row| {
        let own = first + number;
        let sees = if scores.window == 0 { 0 } else { (own + 1).saturating_sub(scores.window) }..own + 1;
        let of_head = |(h, query): (usize, &[f64])| {
            let of_group = |width: usize| (h / group) * width..(h / group + 1) * width;
            let score = |position: usize| {
                let product = dot(query, &k.row(position)[of_group(head)]);
                let distance = own as f64 - position as f64;
                let bias = slopes.as_ref().map_or(0.0, |slopes| -slopes[h] * distance);
                soft_cap(scores.scale * product, scores.softcap) + bias
            };
            let logits: Vec<f64> = sees.clone().map(score).collect();
            let weights = softmax_beside(&logits, scores.sinks.as_ref().map(|sinks| sinks[h]));
            let values = sees.clone().map(|position| &v.row(position)[of_group(width)]);
            weighted_sum(&weights, values, width)
        };
        row.chunks(head).enumerate().flat_map(of_head).collect()
    })
}

/// `exp(x) / Σ exp(x)`.
pub(super) fn softmax(scores: &[f64]) -> Vec<f64> {
    softmax_beside(scores, None)
}

/// The shares of all but the sink, which has a logit like the others (Xiao et al. 2023, section 3.3, learnable).
fn softmax_beside(scores: &[f64], sink: Option<f64>) -> Vec<f64> {
    let most = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
    let exponential = |score: &f64| (score - most).exp();
    let sum: f64 = scores.iter().chain(&sink).map(exponential).sum();
    scores.iter().map(|score| exponential(score) / sum).collect()
}

/// Press et al. 2022, section 3: of `n` heads, a power of two, head `i` from 1 on has the slope `2^(-8i/n)`. Of another
/// number, the first have those of the next lower power, and the rest every other one of twice as many heads, as in
/// their published code and in BLOOM.
fn alibi_slopes(heads: usize) -> Vec<f64> {
    let power = 1 << heads.ilog2();
    let slope = |i: usize, of: usize| (-8.0 * i as f64 / of as f64).exp2();
    let regular = (1..=power).map(|i| slope(i, power));
    let between = (0..).map(|i| slope(2 * i + 1, 2 * power));
    regular.chain(between).take(heads).collect()
}

fn weighted_sum<'a>(weights: &[f64], rows: impl Iterator<Item = &'a [f64]>, width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for (weight, row) in weights.iter().zip(rows) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Scores = Scores { scale: 1.0, softcap: 0.0, window: 0, sinks: None, alibi: false };

    /// One head of one element over keys `keys` with values 1, 10, 100, …; what the last row gives.
    fn last(query: f64, keys: &[f64], scores: &Scores) -> f64 {
        let n = keys.len();
        let q = Matrix::new(n, 1, vec![query; n]);
        let k = Matrix::new(n, 1, keys.to_vec());
        let v = Matrix::new(n, 1, (0..n).map(|i| 10f64.powi(i as i32)).collect());
        attention(&q, 0, &k, &v, (1, 1), scores).row(n - 1)[0]
    }

    fn close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found}, not {expected}");
    }

    #[test]
    fn shares_are_by_scaled_products() {
        let ln = f64::ln;
        close(last(1.0, &[ln(1.0), ln(2.0), ln(5.0)], &PLAIN), (1.0 + 20.0 + 500.0) / 8.0);
        let halved = Scores { scale: 0.5, ..PLAIN };
        close(last(1.0, &[ln(1.0), ln(4.0)], &halved), (1.0 + 20.0) / 3.0);
    }

    #[test]
    fn a_window_counts_the_row_itself() {
        let windowed = |window| last(0.0, &[0.0; 4], &Scores { window, ..PLAIN });
        close(windowed(1), 1000.0);
        close(windowed(2), 550.0);
        close(windowed(4), 1111.0 / 4.0);
        close(windowed(9), 1111.0 / 4.0);
        close(windowed(0), 1111.0 / 4.0);
    }

    #[test]
    fn scores_are_capped_after_scaling() {
        let capped = Scores { scale: 2.0, softcap: 3.0, ..PLAIN };
        let score = 3.0 * (2.0f64 * 5.0 / 3.0).tanh();
        close(last(1.0, &[0.0, 5.0], &capped), (1.0 + 10.0 * score.exp()) / (1.0 + score.exp()));
    }

    #[test]
    fn a_sink_takes_its_share_and_gives_nothing() {
        let sinking = Scores { sinks: Some(vec![3f64.ln()]), ..PLAIN };
        close(last(0.0, &[0.0, 0.0], &sinking), 11.0 / 5.0);
    }

    #[test]
    fn slopes_pull_towards_the_row() {
        // One head: its slope is 2^-8.
        let near = (-1.0f64 / 256.0).exp();
        let sloping = Scores { alibi: true, softcap: 1.0, ..PLAIN };
        close(last(0.0, &[0.0, 0.0], &sloping), (near + 10.0) / (near + 1.0));
    }

    #[test]
    fn slopes_of_powers_of_two_and_others() {
        let powers = |exponents: &[f64]| exponents.iter().map(|x| (-x).exp2()).collect::<Vec<_>>();
        assert_eq!(alibi_slopes(1), powers(&[8.0]));
        assert_eq!(alibi_slopes(4), powers(&[2.0, 4.0, 6.0, 8.0]));
        assert_eq!(alibi_slopes(8), powers(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]));
        assert_eq!(alibi_slopes(3), powers(&[4.0, 8.0, 2.0]));
        assert_eq!(alibi_slopes(6), powers(&[2.0, 4.0, 6.0, 8.0, 1.0, 3.0]));
        assert_eq!(alibi_slopes(7), powers(&[2.0, 4.0, 6.0, 8.0, 1.0, 3.0, 5.0]));
    }

    #[test]
    fn heads_in_groups_have_their_own_keys_and_sinks() {
        // Four query heads over two key heads.
        let (q, k) = (Matrix::new(1, 4, vec![0.0; 4]), Matrix::new(1, 2, vec![0.0; 2]));
        let v = Matrix::new(1, 2, vec![4.0, 8.0]);
        let sinks = Some(vec![0.0, f64::NEG_INFINITY, 3f64.ln(), 0.0]);
        let found = attention(&q, 0, &k, &v, (1, 1), &Scores { sinks, ..PLAIN });
        assert!(found.largest_difference(&Matrix::new(1, 4, vec![2.0, 4.0, 2.0, 4.0])) < 1e-12, "{found:?}");
    }

    #[test]
    fn values_have_their_own_width() {
        // Two heads of keys of one element and of values of three.
        let (q, k) = (Matrix::new(1, 2, vec![0.0; 2]), Matrix::new(1, 2, vec![0.0; 2]));
        let v = Matrix::new(1, 6, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let found = attention(&q, 0, &k, &v, (1, 3), &PLAIN);
        assert!(found.largest_difference(&v) < 1e-12, "{found:?}");
    }

    #[test]
    fn later_chunks_see_what_came_before() {
        let (k, v) = (Matrix::new(3, 1, vec![0.0; 3]), Matrix::new(3, 1, vec![1.0, 10.0, 100.0]));
        let q = Matrix::new(2, 1, vec![0.0; 2]);
        let found = attention(&q, 1, &k, &v, (1, 1), &Scores { window: 2, ..PLAIN });
        assert!(found.largest_difference(&Matrix::new(2, 1, vec![5.5, 55.0])) < 1e-12, "{found:?}");
    }
}
