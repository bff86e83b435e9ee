//! Rows added, joined, copied and picked.

use super::{Random, UNTOUCHED, assert_same_bits, on_every_path};
use crate::cpu::{MatMut, MatRef, add, copy, gather_rows, join};

const SHAPES: [(usize, usize); 7] = [(0, 16), (1, 1), (2, 17), (5, 64), (7, 100), (1, 31), (33, 48)];

#[test]
fn add_matches_on_every_path_and_cut() {
    let mut random = Random::new();
    for (rows, columns) in SHAPES {
        let (a, b) = (random.values(rows * columns), random.values(rows * columns));
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let cuts = random.cuts(rows);
        let found = on_every_path("add", || {
            let mut result = vec![UNTOUCHED; a.len()];
            let out = MatMut::new(&mut result, rows, columns);
            for items in &cuts {
                add(MatRef::new(&a, rows, columns), MatRef::new(&b, rows, columns), out, items.clone());
            }
            result
        });
        assert_same_bits(&format!("{rows} x {columns}"), &expected, &found);
    }
}

#[test]
fn gather_and_copy_move_rows() {
    let mut random = Random::new();
    let x = random.values(6 * 11);
    let view = MatRef::with_stride(&x, 6, 9, 11);
    let rows = [5, 0, 0, 3];
    let (mut gathered, mut copied) = (vec![0.0; 4 * 9], vec![UNTOUCHED; 6 * 9]);
    gather_rows(view, &rows, MatMut::new(&mut gathered, 4, 9), 0..4);
    for (row, found) in rows.iter().zip(gathered.chunks_exact(9)) {
        assert_same_bits("gathered", &x[*row as usize * 11..][..9], found);
    }
    copy(view, MatMut::new(&mut copied, 6, 9), 1..5);
    for (row, found) in copied.chunks_exact(9).enumerate() {
        if (1..5).contains(&row) {
            assert_same_bits("copied", &x[row * 11..][..9], found);
        } else {
            assert_eq!(found, [UNTOUCHED; 9]);
        }
    }
}

#[test]
fn join_puts_heads_together_of_parts_of_their_own_and_of_one_for_all() {
    let mut random = Random::new();
    for (rows, heads, first, second) in [(0, 2, 3, 4), (1, 1, 5, 2), (3, 4, 12, 8), (5, 3, 7, 33), (2, 16, 128, 64)] {
        for of_b in [1, heads] {
            let (a, b) = (random.values(rows * heads * first), random.values(rows * of_b * second));
            let columns = heads * (first + second);
            let mut found = vec![UNTOUCHED; rows * columns];
            let out = MatMut::new(&mut found, rows, columns);
            for items in random.cuts(rows) {
                let (a, b) = (MatRef::new(&a, rows, heads * first), MatRef::new(&b, rows, of_b * second));
                join(a, b, heads, out, items);
            }
            for (at, found) in found.into_iter().enumerate() {
                let (row, head, i) = (at / columns, at % columns / (first + second), at % (first + second));
                let expected = if i < first {
                    a[(row * heads + head) * first + i]
                } else {
                    b[(row * of_b + head % of_b) * second + i - first]
                };
                assert_eq!(found.to_bits(), expected.to_bits(), "{rows} rows, {heads} heads, row {row}, head {head}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "b")]
fn join_refuses_parts_of_another_number_of_heads() {
    let (a, b, mut out) = ([0.0; 12], [0.0; 6], [0.0; 24]);
    join(MatRef::new(&a, 1, 12), MatRef::new(&b, 1, 6), 4, MatMut::new(&mut out, 1, 24), 0..1);
}
