//! Rotary position embedding and the scalings of its frequencies.

use std::f64::consts::PI;

use trefoil_ir::op::Pairs;

use super::matrix::Matrix;

/// How the elements of a head turn.
pub(super) struct Rotation {
    /// Width of a head.
    pub(super) head: usize,
    /// Which elements turn together.
    pub(super) pairs: Pairs,
    /// Of each pair of the elements that turn, by how much it turns from one position to the next.
    pub(super) frequencies: Vec<f64>,
    /// Multiplies what has turned.
    pub(super) attention: f64,
}

/// Scalings of frequencies, with their settings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scaling {
    None,
    Linear { factor: f64 },
    Llama3 { factor: f64, low: f64, high: f64, context: f64 },
    Yarn { factor: f64, fast: f64, slow: f64, context: f64, attention: f64, truncate: bool },
}

impl Scaling {
    /// What multiplies the elements that have turned.
    pub(super) fn attention(self) -> f64 {
        match self {
            Scaling::None | Scaling::Linear { .. } | Scaling::Llama3 { .. } => 1.0,
            Scaling::Yarn { attention, .. } => attention,
        }
    }
}

/// The frequencies of the `rotary` elements that turn: `theta^(-2i/rotary)` (Su et al. 2021, section 3.2.2), scaled.
pub(super) fn frequencies(rotary: usize, theta: f64, scaling: Scaling) -> Vec<f64> {
    let base = (0..rotary / 2).map(|i| theta.powf(-2.0 * i as f64 / rotary as f64));
    match scaling {
        Scaling::None => base.collect(),
        // Chen et al. 2023, section 2.3: positions, and so angles, are divided.
        Scaling::Linear { factor } => base.map(|frequency| frequency / factor).collect(),
        Scaling::Llama3 { factor, low, high, context } => {
            base.map(|frequency| blended(frequency, factor, llama3_kept(frequency, low, high, context))).collect()
        }
        Scaling::Yarn { factor, fast, slow, context, truncate, .. } => {
            let dimension = |turns: f64| dimension_of(turns, rotary, theta, context);
            let (first, last) = yarn_ends(dimension(fast), dimension(slow), rotary, truncate);
            let kept = |i: usize| 1.0 - ((i as f64 - first) / (last - first)).clamp(0.0, 1.0);
            base.enumerate().map(|(i, frequency)| blended(frequency, factor, kept(i))).collect()
        }
    }
}

/// The part `kept` of a frequency as it is, the rest divided.
fn blended(frequency: f64, factor: f64, kept: f64) -> f64 {
    kept * frequency + (1.0 - kept) * frequency / factor
}

/// `rope_type: llama3` as Hugging Face transformers documents it: by how often a frequency turns within the original
/// context, it is kept (at least `high` turns), divided (at most `low`), or a linear blend of both.
fn llama3_kept(frequency: f64, low: f64, high: f64, context: f64) -> f64 {
    let turns = context * frequency / (2.0 * PI);
    ((turns - low) / (high - low)).clamp(0.0, 1.0)
}

/// The number, whole or not, of the frequency that turns so often within the context: solves
/// `context * theta^(-2i/rotary) = 2π * turns` for `i` (Peng et al. 2023, section 3.2).
fn dimension_of(turns: f64, rotary: usize, theta: f64, context: f64) -> f64 {
    rotary as f64 * (context / (2.0 * PI * turns)).ln() / (2.0 * theta.ln())
}

/// Between which frequencies YaRN blends. As Hugging Face transformers does, the ends are rounded outwards on demand, kept
/// within the elements that turn, and kept apart.
fn yarn_ends(first: f64, last: f64, rotary: usize, truncate: bool) -> (f64, f64) {
    let (first, last) = if truncate { (first.floor(), last.ceil()) } else { (first, last) };
    let (first, last) = (first.max(0.0), last.min(rotary as f64 - 1.0));
    if first == last { (first, last + 0.001) } else { (first, last) }
}

/// Turns the first elements of each head, each pair by its frequency times the row's position (Su et al. 2021, eq. 15 for
/// adjacent elements).
pub(super) fn rope(x: &Matrix, positions: &[usize], rotation: &Rotation) -> Matrix {
    let Rotation { head, pairs, frequencies, attention } = rotation;
    x.map_rows(|number, row| {
        let mut out = row.to_vec();
        for (out, head) in out.chunks_mut(*head).zip(row.chunks(*head)) {
            for (i, frequency) in frequencies.iter().enumerate() {
                let (a, b) = match pairs {
                    Pairs::Halves => (i, i + frequencies.len()),
                    Pairs::Adjacent => (2 * i, 2 * i + 1),
                };
                let (sin, cos) = (positions[number] as f64 * frequency).sin_cos();
                out[a] = (head[a] * cos - head[b] * sin) * attention;
                out[b] = (head[b] * cos + head[a] * sin) * attention;
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalings_are_neutral_at_factor_one() {
        let plain = frequencies(8, 1e4, Scaling::None);
        assert_eq!(plain[0], 1.0);
        assert!((plain[2] - 0.01).abs() < 1e-15);
        for scaling in [
            Scaling::Linear { factor: 1.0 },
            Scaling::Llama3 { factor: 1.0, low: 1.0, high: 4.0, context: 8192.0 },
            Scaling::Yarn { factor: 1.0, fast: 32.0, slow: 1.0, context: 4096.0, attention: 1.0, truncate: true },
        ] {
            let found = frequencies(8, 1e4, scaling);
            assert!(found.iter().zip(&plain).all(|(a, b)| (a / b - 1.0).abs() < 1e-15), "{scaling:?}: {found:?}");
        }
    }

    #[test]
    fn scalings_bite_where_they_should() {
        let linear = frequencies(4, 1e4, Scaling::Linear { factor: 4.0 });
        assert!((linear[0] - 0.25).abs() < 1e-15 && (linear[1] - 0.0025).abs() < 1e-15, "{linear:?}");
        assert_eq!(llama3_kept(1.0, 1.0, 4.0, 8192.0), 1.0);
        assert_eq!(llama3_kept(1e-5, 1.0, 4.0, 8192.0), 0.0);
        let turns = 2.5 * 2.0 * PI / 8192.0;
        assert!((llama3_kept(turns, 1.0, 4.0, 8192.0) - 0.5).abs() < 1e-12);
    }

    /// `ROPE_INIT_FUNCTIONS["yarn"]` of transformers 5.23 for head_dim 16, in f32.
    #[test]
    fn yarn_is_that_of_transformers() {
        let yarn = |truncate| Scaling::Yarn {
            factor: 32.0,
            fast: 32.0,
            slow: 1.0,
            context: 4096.0,
            attention: 1.25,
            truncate,
        };
        for (truncate, expected) in [(true, YARN_TRUNCATED), (false, YARN_EXACT)] {
            let found = frequencies(16, 150_000.0, yarn(truncate));
            assert!(
                found.iter().zip(expected).all(|(a, b)| (a / b - 1.0).abs() < 1e-6),
                "{truncate}: {found:?}, not {expected:?}"
            );
        }
        assert_eq!(yarn(true).attention(), 1.25);
    }

    const YARN_TRUNCATED: [f64; 8] = [
        1.0,
        0.225418001413345,
        0.0508132725954056,
        0.00775546533986926,
        0.000914454343728721,
        1.81883369805291e-5,
        4.09997846873011e-6,
        9.24208961805562e-7,
    ];
    const YARN_EXACT: [f64; 8] = [
        1.0,
        0.225418001413345,
        0.0508132725954056,
        0.00679495930671692,
        0.000456483918242157,
        1.81883369805291e-5,
        4.09997846873011e-6,
        9.24208961805562e-7,
    ];

    #[test]
    fn ends_are_kept_within_and_apart() {
        assert_eq!(yarn_ends(2.5, 4.5, 16, true), (2.0, 5.0));
        assert_eq!(yarn_ends(2.5, 4.5, 16, false), (2.5, 4.5));
        assert_eq!(yarn_ends(-1.0, 99.0, 16, false), (0.0, 15.0));
        assert_eq!(yarn_ends(3.0, 3.0, 16, true), (3.0, 3.001));
    }

    #[test]
    fn pairs_turn_and_the_rest_of_a_head_stays() {
        let x = Matrix::new(1, 6, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // A quarter turn at position 1 for the one pair, half a turn for the other.
        let frequencies = vec![PI / 2.0, PI];
        let turned = |pairs, attention| {
            let rotation = Rotation { head: 6, pairs, frequencies: frequencies.clone(), attention };
            rope(&x, &[1], &rotation)
        };
        let close = |found: &Matrix, expected: [f64; 6]| {
            assert!(found.largest_difference(&Matrix::new(1, 6, expected.to_vec())) < 1e-12, "{found:?}");
        };
        close(&turned(Pairs::Halves, 1.0), [-3.0, -2.0, 1.0, -4.0, 5.0, 6.0]);
        close(&turned(Pairs::Adjacent, 1.0), [-2.0, 1.0, -3.0, -4.0, 5.0, 6.0]);
        close(&turned(Pairs::Adjacent, 2.0), [-4.0, 2.0, -6.0, -8.0, 5.0, 6.0]);
    }

    #[test]
    fn each_head_turns_alike() {
        let x = Matrix::new(1, 4, vec![1.0, 0.0, 0.0, 1.0]);
        let rotation = Rotation { head: 2, pairs: Pairs::Halves, frequencies: vec![PI / 2.0], attention: 1.0 };
        let expected = Matrix::new(1, 4, vec![0.0, 1.0, -1.0, 0.0]);
        assert!(rope(&x, &[1], &rotation).largest_difference(&expected) < 1e-12);
        assert!(rope(&x, &[4], &rotation).largest_difference(&x) < 1e-12, "four quarter turns");
    }
}
