//! Rotary position embedding.
#![allow(unsafe_code, reason = "aliased operands can only be built from raw pointers")]

use super::{Random, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{MatMut, MatRef, Pairs, RopeScaling, RopeTable, inverse_frequencies, rope};

fn rotate(x: &[f32], positions: &[u32], table: &RopeTable, head: usize, columns: usize) -> Vec<f32> {
    let mut result = vec![0.0; x.len()];
    let rows = positions.len();
    rope(MatRef::new(x, rows, columns), positions, table, head, MatMut::new(&mut result, rows, columns), 0..rows);
    result
}

/// `x * cos + (its pair's other element, signed) * sin`, in f64 but for the f32 angle, times `attention`.
fn check(x: &[f32], position: u32, frequencies: &[f32], (pairs, attention): (Pairs, f64), head: usize, found: &[f32]) {
    let half = frequencies.len();
    for (x, found) in x.chunks_exact(head).zip(found.chunks_exact(head)) {
        for (i, found) in found.iter().enumerate() {
            let value = |index: usize| f64::from(x[index]);
            let (expected, size) = if i < 2 * half {
                let (frequency, is_first, other) = match pairs {
                    Pairs::Halves => (i % half, i < half, (i + half) % (2 * half)),
                    Pairs::Adjacent => (i / 2, i % 2 == 0, i ^ 1),
                };
                let angle = f64::from(position as f32 * frequencies[frequency]);
                let rotated = if is_first { -value(other) } else { value(other) };
                let turned = value(i) * angle.cos() + rotated * angle.sin();
                (attention * turned, attention * (value(i).abs() + rotated.abs()))
            } else {
                (value(i), 0.0)
            };
            assert_close(&format!("position {position}, element {i} of {head}"), *found, expected, size * 2e-7);
        }
    }
}

#[test]
fn rope_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    let shapes =
        [(16, 16, 3), (32, 32, 1), (64, 64, 2), (80, 80, 2), (80, 32, 3), (128, 128, 5), (64, 6, 2), (20, 0, 3)];
    for ((head, rotary, heads), pairs) in
        shapes.map(|shape| [(shape, Pairs::Halves), (shape, Pairs::Adjacent)]).concat()
    {
        let (frequencies, attention) =
            (inverse_frequencies(rotary, 10_000.0), random.pick(&[1.0, 1.346_573_590_279_972_6]));
        let table = RopeTable::new(&frequencies, pairs, attention, 3000);
        assert_eq!((table.rotary(), table.positions(), table.pairs()), (rotary, 3000, pairs));
        let positions: Vec<u32> = (0..7).map(|_| random.below(3000) as u32).collect();
        let columns = heads * head;
        let x = random.values(positions.len() * columns);
        let what = format!("{heads} heads of {head}, {rotary} by {pairs:?}");
        let all = on_every_path(&what, || rotate(&x, &positions, &table, head, columns));
        for (row, position) in positions.iter().enumerate() {
            let row = row * columns..(row + 1) * columns;
            check(&x[row.clone()], *position, &frequencies, (pairs, attention), head, &all[row.clone()]);
            let alone = rotate(&x[row.clone()], &[*position], &table, head, columns);
            assert_same_bits(&what, &all[row], &alone);
        }
    }
}

/// Whichever elements are pairs, a pair's arithmetic is the same.
#[test]
fn adjacent_pairs_turn_as_halves_do() {
    let mut random = Random::new();
    let (frequencies, x) = (inverse_frequencies(48, 10_000.0), random.values(48));
    let [halves, adjacent] =
        [Pairs::Halves, Pairs::Adjacent].map(|pairs| RopeTable::new(&frequencies, pairs, 1.0, 100));
    let apart: Vec<f32> = (0..48).map(|i| x[if i < 24 { 2 * i } else { 2 * (i - 24) + 1 }]).collect();
    let turned = rotate(&apart, &[77], &halves, 48, 48);
    let expected: Vec<f32> = (0..48).map(|i| turned[i / 2 + 24 * (i % 2)]).collect();
    assert_same_bits("adjacent", &expected, &rotate(&x, &[77], &adjacent, 48, 48));
}

#[test]
fn rope_may_write_over_its_input() {
    let mut random = Random::new();
    for pairs in [Pairs::Halves, Pairs::Adjacent] {
        let table = RopeTable::new(&inverse_frequencies(70, 500_000.0), pairs, 1.0, 20);
        let mut x = random.values(2 * 160);
        let apart = rotate(&x, &[3, 19], &table, 80, 160);
        let memory = x.as_mut_ptr();
        // SAFETY: one thread uses this memory, as the kernel's documentation allows.
        let (input, out) = unsafe { (MatRef::from_raw(memory, 2, 160, 160), MatMut::from_raw(memory, 2, 160, 160)) };
        rope(input, &[3, 19], &table, 80, out, 0..2);
        assert_same_bits("in place", &apart, &x);
    }
}

#[test]
fn frequencies_fall_from_one() {
    let frequencies = inverse_frequencies(64, 10_000.0);
    assert_eq!(frequencies.len(), 32);
    assert_eq!(frequencies[0], 1.0);
    assert_close("second", frequencies[1], 0.749_894_209_332_455_8, 1e-7);
    assert_close("last", frequencies[31], 1.333_521_432_163_324e-4, 1e-11);
}

#[test]
fn llama3_scaling_divides_keeps_and_interpolates() {
    let original = inverse_frequencies(128, 500_000.0);
    let mut scaled = original.clone();
    RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 }
        .apply(500_000.0, &mut scaled);
    let (mut kept, mut divided, mut between) = (0, 0, 0);
    for (before, after) in original.iter().zip(&scaled) {
        let before = f64::from(*before);
        let wavelength = std::f64::consts::TAU / before;
        let expected = if wavelength < 2048.0 {
            kept += 1;
            before
        } else if wavelength > 8192.0 {
            divided += 1;
            before / 8.0
        } else {
            between += 1;
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            before * ((1.0 - smooth) / 8.0 + smooth)
        };
        assert_close("frequency", *after, expected, expected * 1e-6);
    }
    assert_eq!((kept, between, divided), (29, 6, 29), "as for Llama 3.1");
}

#[test]
fn linear_scaling_divides_and_none_keeps() {
    let mut frequencies = [1.0, 0.5];
    RopeScaling::None.apply(10_000.0, &mut frequencies);
    assert_eq!(frequencies, [1.0, 0.5]);
    RopeScaling::Linear { factor: 4.0 }.apply(10_000.0, &mut frequencies);
    assert_eq!(frequencies, [0.25, 0.125]);
}

/// Numbers of Hugging Face transformers 5 (`_compute_yarn_parameters`) for these settings: Qwen's, GPT-OSS's, and one
/// whose ramp has no width.
#[test]
fn yarn_scaling_is_that_of_transformers() {
    let yarn = |factor, (beta_fast, beta_slow), original_context, truncate| RopeScaling::Yarn {
        factor,
        beta_fast,
        beta_slow,
        original_context,
        truncate,
    };
    let of = |rotary, theta: f64, scaling: RopeScaling| {
        let mut frequencies = inverse_frequencies(rotary, theta);
        scaling.apply(theta, &mut frequencies);
        frequencies
    };
    let qwen = of(128, 1e6, yarn(4.0, (32.0, 1.0), 32_768.0, true));
    let gpt_oss = of(64, 150_000.0, yarn(32.0, (32.0, 1.0), 4096.0, false));
    let step = of(16, 10_000.0, yarn(8.0, (2.0, 2.0), 10.0, true));
    let expected = [
        (&qwen, 0, 1.0),
        (&qwen, 20, 0.013_335_214_927_792_55),
        (&qwen, 25, 0.004_131_738_096_475_601),
        (&qwen, 30, 0.001_064_360_956_661_403_2),
        (&qwen, 35, 0.000_246_258_394_327_014_7),
        (&qwen, 40, 4.445_698_505_151_085_6e-5),
        (&qwen, 60, 5.928_434_347_879_374e-7),
        (&gpt_oss, 5, 0.155_322_983_866_109_54),
        (&gpt_oss, 10, 0.019_334_999_844_431_877),
        (&gpt_oss, 15, 0.001_052_602_194_249_63),
        (&gpt_oss, 20, 1.818_833_698_053_183e-5),
        (&step, 0, 1.0),
        (&step, 5, 0.000_395_284_732_803_702_35),
    ];
    for (number, (frequencies, index, expected)) in expected.into_iter().enumerate() {
        assert_close(&format!("number {number}"), frequencies[index], expected, 3e-6 * expected);
    }
}
