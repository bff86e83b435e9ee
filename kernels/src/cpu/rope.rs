//! Rotary position embedding.
#![allow(unsafe_code, reason = "rows may alias, so they are read and written through raw pointers")]

use std::f32::consts::PI;
use std::ops::Range;

use super::isa::{Kernel, dispatch};
use super::vector::{LANES, Vector, load_at, store_at};
use super::view::{MatMut, MatRef, check_items, check_shape};

/// How a model stretches the rotary frequencies to longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as trained.
    None,
    /// Every frequency divided by `factor` (`rope_type: "linear"`).
    Linear {
        /// Context stretch.
        factor: f32,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between interpolated (`rope_type: "llama3"`).
    Llama3 {
        /// Context stretch.
        factor: f32,
        /// `original_context / low_freq_factor` is the wavelength above which frequencies are divided.
        low_freq_factor: f32,
        /// `original_context / high_freq_factor` is the wavelength below which frequencies are kept.
        high_freq_factor: f32,
        /// `original_max_position_embeddings`, in tokens.
        original_context: f32,
    },
    /// Frequencies that turn fewer than `beta_slow` times within the original context divided by `factor`, those that
    /// turn more than `beta_fast` times kept, those between interpolated by their number (Peng et al., arXiv
    /// 2309.00071; `rope_type: "yarn"`).
    Yarn {
        /// Context stretch.
        factor: f32,
        /// Turns within the original context above which frequencies are kept.
        beta_fast: f32,
        /// Turns within the original context below which frequencies are divided.
        beta_slow: f32,
        /// `original_max_position_embeddings`, in tokens.
        original_context: f32,
        /// Whether the numbers of the frequencies between which is interpolated are whole.
        truncate: bool,
    },
}

impl RopeScaling {
    /// Scales the inverse frequencies of base `theta`, as Hugging Face transformers does in `modeling_rope_utils.py`
    /// (`_compute_linear_scaling_rope_parameters`, `_compute_llama3_parameters`, `_compute_yarn_parameters`).
    pub fn apply(self, theta: f64, inverse_frequencies: &mut [f32]) {
        let rotary = 2 * inverse_frequencies.len();
        for (number, frequency) in inverse_frequencies.iter_mut().enumerate() {
            *frequency = match self {
                RopeScaling::None => *frequency,
                RopeScaling::Linear { factor } => *frequency / factor,
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                    llama3(*frequency, factor, (low_freq_factor, high_freq_factor), original_context)
                }
                RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate } => {
                    let number_of = |turns: f32| number_with_turns(turns, rotary, theta, original_context);
                    let kept = yarn_kept(number, rotary, (number_of(beta_fast), number_of(beta_slow)), truncate);
                    let frequency = f64::from(*frequency);
                    (frequency * kept + frequency / f64::from(factor) * (1.0 - kept)) as f32
                }
            };
        }
    }
}

/// The number of the frequency, as a fraction, that turns `turns` times within the original context.
fn number_with_turns(turns: f32, rotary: usize, theta: f64, original_context: f32) -> f64 {
    let wavelength = f64::from(original_context) / (f64::from(turns) * 2.0 * std::f64::consts::PI);
    rotary as f64 * wavelength.ln() / (2.0 * theta.ln())
}

/// How much of a frequency YaRN keeps: all up to the number `fast`, nothing from `slow` on.
fn yarn_kept(number: usize, rotary: usize, (fast, slow): (f64, f64), truncate: bool) -> f64 {
    let (fast, slow) = if truncate { (fast.floor(), slow.ceil()) } else { (fast, slow) };
    let (fast, slow) = (fast.max(0.0), slow.min(rotary as f64 - 1.0));
    // A step, not a division by zero, where both are the same.
    let width = if fast == slow { 0.001 } else { slow - fast };
    1.0 - ((number as f64 - fast) / width).clamp(0.0, 1.0)
}

fn llama3(frequency: f32, factor: f32, (low, high): (f32, f32), original_context: f32) -> f32 {
    let wavelength = 2.0 * PI / frequency;
    if wavelength > original_context / low {
        frequency / factor
    } else if wavelength < original_context / high {
        frequency
    } else {
        let smooth = (original_context / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// `theta^(-2i / head)` for `i` in `0..head / 2` (Su et al., arXiv 2104.09864, section 3.2.2), rounded once.
pub fn inverse_frequencies(head: usize, theta: f64) -> Vec<f32> {
    (0..head / 2).map(|i| theta.powf(-2.0 * i as f64 / head as f64) as f32).collect()
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairs {
    /// Element `i` of the first half of the rotary elements and element `i` of the second (Hugging Face's
    /// `rotate_half`).
    Halves,
    /// Elements `2i` and `2i + 1`, as GPT-J has them.
    Adjacent,
}

/// Cosines and sines of every position's rotation, a row for each position.
///
/// For halves a row has one of each per frequency; for adjacent pairs two: of the cosine twice the same, of the sine
/// the negative first, as the pair's elements are multiplied by them.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    pairs: Pairs,
    frequencies: usize,
    positions: usize,
}

impl RopeTable {
    /// Rotations of positions `0..max_positions`.
    ///
    /// The angle is the f32 product `position * inverse_frequency`, as in Hugging Face's rotary embedding; its cosine
    /// and sine, times the factor `attention` (1 but for YaRN), are computed in f64 and rounded once.
    pub fn new(inverse_frequencies: &[f32], pairs: Pairs, attention: f64, max_positions: usize) -> Self {
        let frequencies = inverse_frequencies.len();
        let angles = (0..max_positions).flat_map(|position| {
            inverse_frequencies.iter().map(move |frequency| f64::from(position as f32 * frequency))
        });
        let turns = angles.map(|angle| ((angle.cos() * attention) as f32, (angle.sin() * attention) as f32));
        let (cos, sin) = match pairs {
            Pairs::Halves => turns.unzip(),
            Pairs::Adjacent => turns.flat_map(|(cos, sin)| [(cos, -sin), (cos, sin)]).unzip(),
        };
        RopeTable { cos, sin, pairs, frequencies, positions: max_positions }
    }

    /// Number of positions in the table.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Elements of a head that rotate: twice the number of frequencies.
    pub fn rotary(&self) -> usize {
        2 * self.frequencies
    }

    /// Which elements turn together.
    pub fn pairs(&self) -> Pairs {
        self.pairs
    }

    #[inline(always)]
    fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let length = match self.pairs {
            Pairs::Halves => self.frequencies,
            Pairs::Adjacent => 2 * self.frequencies,
        };
        let row = position * length..(position + 1) * length;
        (&self.cos[row.clone()], &self.sin[row])
    }
}

/// Rotates every head of the rows `items` by its row's position.
///
/// `x` and `out` are `[rows, n * head]`; within a head, the table says which elements `a` and `b` are a pair, which
/// becomes `a cos - b sin` and `b cos + a sin`. Where the table rotates fewer elements than a head has, the rest is copied. `out` may be exactly `x`.
///
/// # Panics
/// If the shapes do not agree, `items` leaves the rows or a position leaves the table.
pub fn rope(x: MatRef<'_>, positions: &[u32], table: &RopeTable, head: usize, out: MatMut<'_>, items: Range<usize>) {
    check_shape("out", (out.rows(), out.columns()), (x.rows(), x.columns()));
    check_shape("positions", (positions.len(), 1), (x.rows(), 1));
    check_items(&items, x.rows());
    assert!(head > 0 && x.columns().is_multiple_of(head), "{} columns of heads of {head}", x.columns());
    assert!(table.rotary() <= head, "{} rotary elements of a head of {head}", table.rotary());
    dispatch(Rope { x, positions, table, head, out, items });
}

struct Rope<'a> {
    x: MatRef<'a>,
    positions: &'a [u32],
    table: &'a RopeTable,
    head: usize,
    out: MatMut<'a>,
    items: Range<usize>,
}

impl Kernel for Rope<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        for row in self.items.clone() {
            let position = self.positions[row] as usize;
            assert!(position < self.table.positions, "position {position} of {}", self.table.positions);
            let angles = self.table.row(position);
            for first in (0..self.x.columns()).step_by(self.head) {
                let (x, out) = (self.x.row(row).wrapping_add(first), self.out.row(row).wrapping_add(first));
                // SAFETY: the row has a whole head from `first`, which `rope` checked to hold the rotary elements.
                unsafe {
                    match self.table.pairs {
                        Pairs::Halves => rotate_halves::<V>(x, angles, out),
                        Pairs::Adjacent => rotate_adjacent::<V>(x, angles, out),
                    }
                    let rotary = self.table.rotary();
                    std::ptr::copy(x.add(rotary), out.add(rotary), self.head - rotary);
                }
            }
        }
    }
}

/// # Safety
/// `x` is readable and `out` writable for twice the length of the angles; they are equal or disjoint.
#[inline(always)]
unsafe fn rotate_halves<V: Vector>(x: *const f32, (cos, sin): (&[f32], &[f32]), out: *mut f32) {
    let half = cos.len();
    for at in (0..half).step_by(LANES) {
        // SAFETY: the caller's promise; `at < half`. Both halves are read before either is written.
        unsafe {
            let (first, second) = (load_at::<V>(x, at, half), load_at::<V>(x.add(half), at, half));
            let (cos, sin) = (load_at::<V>(cos.as_ptr(), at, half), load_at::<V>(sin.as_ptr(), at, half));
            let minus_sin = V::splat(0.0).sub(sin);
            store_at(first.mul_add(cos, second.mul(minus_sin)), out, at, half);
            store_at(second.mul_add(cos, first.mul(sin)), out.add(half), at, half);
        }
    }
}

/// # Safety
/// `x` is readable and `out` writable for the length of the angles, which is even; they are equal or disjoint.
#[inline(always)]
unsafe fn rotate_adjacent<V: Vector>(x: *const f32, (cos, sin): (&[f32], &[f32]), out: *mut f32) {
    let length = cos.len();
    for at in (0..length).step_by(LANES) {
        // SAFETY: the caller's promise; `at < length`. No pair lies in two vectors.
        unsafe {
            let x = load_at::<V>(x, at, length);
            let (cos, sin) = (load_at::<V>(cos.as_ptr(), at, length), load_at::<V>(sin.as_ptr(), at, length));
            store_at(x.mul_add(cos, x.swap_pairs().mul(sin)), out, at, length);
        }
    }
}
