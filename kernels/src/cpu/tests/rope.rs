//! Rotary position embedding.
#![allow(unsafe_code, reason = "aliased operands can only be built from raw pointers")]

use super::{Random, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{MatMut, MatRef, RopeScaling, RopeTable, inverse_frequencies, rope};

fn rotate(x: &[f32], positions: &[u32], table: &RopeTable, head: usize, columns: usize) -> Vec<f32> {
    let mut result = vec![0.0; x.len()];
    let rows = positions.len();
    rope(MatRef::new(x, rows, columns), positions, table, head, MatMut::new(&mut result, rows, columns), 0..rows);
    result
}

/// Hugging Face's `x * cos + rotate_half(x) * sin`, in f64 but for the f32 angle.
fn check(x: &[f32], position: u32, frequencies: &[f32], head: usize, found: &[f32]) {
    let half = frequencies.len();
    for (x, found) in x.chunks_exact(head).zip(found.chunks_exact(head)) {
        for i in 0..head {
            let value = |index: usize| f64::from(x[index]);
            let (expected, size) = if i < 2 * half {
                let angle = f64::from(position as f32 * frequencies[i % half]);
                let rotated = if i < half { -value(i + half) } else { value(i - half) };
                (value(i) * angle.cos() + rotated * angle.sin(), value(i).abs() + rotated.abs())
            } else {
                (value(i), 0.0)
            };
            assert_close(&format!("position {position}, element {i} of {head}"), found[i], expected, size * 2e-7);
        }
    }
}

#[test]
fn rope_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for (head, rotary, heads) in [(16, 16, 3), (32, 32, 1), (64, 64, 2), (80, 80, 2), (80, 32, 3), (128, 128, 5)] {
        let frequencies = inverse_frequencies(rotary, 10_000.0);
        let table = RopeTable::new(&frequencies, 3000);
        let positions: Vec<u32> = (0..7).map(|_| random.below(3000) as u32).collect();
        let columns = heads * head;
        let x = random.values(positions.len() * columns);
        let what = format!("{heads} heads of {head}");
        let all = on_every_path(&what, || rotate(&x, &positions, &table, head, columns));
        for (row, position) in positions.iter().enumerate() {
            let row = row * columns..(row + 1) * columns;
            check(&x[row.clone()], *position, &frequencies, head, &all[row.clone()]);
            let alone = rotate(&x[row.clone()], &[*position], &table, head, columns);
            assert_same_bits(&what, &all[row], &alone);
        }
    }
}

#[test]
fn rope_may_write_over_its_input() {
    let mut random = Random::new();
    let table = RopeTable::new(&inverse_frequencies(80, 500_000.0), 20);
    let mut x = random.values(2 * 160);
    let apart = rotate(&x, &[3, 19], &table, 80, 160);
    let memory = x.as_mut_ptr();
    // SAFETY: one thread uses this memory, as the kernel's documentation allows.
    let (input, out) = unsafe { (MatRef::from_raw(memory, 2, 160, 160), MatMut::from_raw(memory, 2, 160, 160)) };
    rope(input, &[3, 19], &table, 80, out, 0..2);
    assert_same_bits("in place", &apart, &x);
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
        .apply(&mut scaled);
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
    RopeScaling::None.apply(&mut frequencies);
    assert_eq!(frequencies, [1.0, 0.5]);
    RopeScaling::Linear { factor: 4.0 }.apply(&mut frequencies);
    assert_eq!(frequencies, [0.25, 0.125]);
}
