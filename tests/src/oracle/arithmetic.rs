//! The operators' formulas, written down as their papers have them.

use std::f64::consts::{PI, SQRT_2};

use trefoil_ir::op::Activation;

use super::matrix::{Matrix, dot};

/// `x / sqrt(mean(x²) + eps) * weight` (Zhang & Sennrich 2019, eq. 4).
pub(super) fn rms_norm(x: &Matrix, weight: &Matrix, eps: f64) -> Matrix {
    x.map_rows(|_, row| {
        let mean = dot(row, row) / row.len() as f64;
        let scale = 1.0 / (mean + eps).sqrt();
        row.iter().zip(weight.row(0)).map(|(x, weight)| x * scale * weight).collect()
    })
}

/// The settings of Llama 3.1's frequency scaling.
pub(super) struct Scaling {
    pub(super) factor: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) context: f64,
}

/// Rotary frequencies of a head: `theta^(-2i/head)` (Su et al. 2021, §3.2.2), scaled.
pub(super) fn frequencies(head: usize, theta: f64, scaling: Option<Scaling>) -> Vec<f64> {
    let base = (0..head / 2).map(|i| theta.powf(-2.0 * i as f64 / head as f64));
    match scaling {
        None => base.collect(),
        Some(scaling) => base.map(|frequency| scaled(frequency, &scaling)).collect(),
    }
}

/// `rope_type: llama3` as Hugging Face transformers documents it: by how often a frequency turns within the original
/// context, it is kept (at least `high` turns), divided (at most `low`), or a linear blend of both.
fn scaled(frequency: f64, scaling: &Scaling) -> f64 {
    let turns = scaling.context * frequency / (2.0 * PI);
    let kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0.0, 1.0);
    kept * frequency + (1.0 - kept) * frequency / scaling.factor
}

/// Rotates element `i` of each head against element `i + head / 2`.
pub(super) fn rope(x: &Matrix, positions: &[usize], frequencies: &[f64]) -> Matrix {
    let half = frequencies.len();
    x.map_rows(|number, row| {
        let mut out = row.to_vec();
        for (out, head) in out.chunks_mut(2 * half).zip(row.chunks(2 * half)) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (sin, cos) = (positions[number] as f64 * frequency).sin_cos();
                out[i] = head[i] * cos - head[i + half] * sin;
                out[i + half] = head[i + half] * cos + head[i] * sin;
            }
        }
        out
    })
}

/// Causal attention of one sequence: `softmax(q · kᵀ / sqrt(head)) · v` by head, query heads in equal groups over the
/// heads of `k` and `v` (Ainslie et al. 2023). The first query is at position `first`.
pub(super) fn attention(q: &Matrix, first: usize, k: &Matrix, v: &Matrix, head: usize) -> Matrix {
    let group = q.num_columns() / k.num_columns();
    q.map_rows(|number, row| {
        row.chunks(head)
            .enumerate()
            .flat_map(|(h, query)| {
                let window = (h / group) * head..(h / group + 1) * head;
                let scores = k
                    .rows()
                    .take(first + number + 1)
                    .map(|key| dot(query, &key[window.clone()]) / (head as f64).sqrt());
                let weights = softmax(scores.collect());
                let values = v.rows().map(|value| &value[window.clone()]);
                weighted_sum(&weights, values, head)
            })
            .collect()
    })
}

pub(super) fn softmax(scores: Vec<f64>) -> Vec<f64> {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter().map(|share| share / sum).collect()
}

fn weighted_sum<'a>(weights: &[f64], rows: impl Iterator<Item = &'a [f64]>, width: usize) -> Vec<f64> {
    let mut sum = vec![0.0; width];
    for (weight, row) in weights.iter().zip(rows) {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
    }
    sum
}

/// The gate's activation.
pub(super) fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => 0.5 * x * (1.0 + error_function(x / SQRT_2)),
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
    }
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
    use super::*;

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
    fn scaling_is_neutral_at_factor_one_and_bites_low_frequencies_only() {
        let scaling = |factor| Scaling { factor, low: 1.0, high: 4.0, context: 8192.0 };
        assert_eq!(frequencies(8, 1e4, None), frequencies(8, 1e4, Some(scaling(1.0))));
        assert_eq!(scaled(1.0, &scaling(8.0)), 1.0);
        assert_eq!(scaled(1e-5, &scaling(8.0)), 1e-5 / 8.0);
    }
}
