//! Linear layers.

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{ElementType, MatMut, MatRef, PackedMatrix, linear, linear_items};

const ELEMENTS: [ElementType; 2] = [ElementType::Bf16, ElementType::F32];

/// (rows, inputs, outputs): every tile height, padded panels, one and several depth blocks and row groups.
const SHAPES: [(usize, usize, usize); 16] = [
    (0, 16, 33),
    (1, 0, 5),
    (1, 1, 1),
    (1, 37, 64),
    (2, 300, 31),
    (3, 64, 96),
    (4, 65, 130),
    (5, 128, 100),
    (6, 129, 64),
    (7, 200, 33),
    (8, 64, 32),
    (11, 31, 65),
    (12, 256, 70),
    (13, 257, 96),
    (33, 130, 65),
    (101, 140, 40),
];

struct Case {
    x: Vec<f32>,
    x_stride: usize,
    rows: usize,
    weight: PackedMatrix,
    bias: Option<Vec<f32>>,
}

impl Case {
    fn new(random: &mut Random, (rows, inputs, outputs): (usize, usize, usize), element: ElementType) -> Self {
        let x_stride = inputs + random.below(9);
        let weight = PackedMatrix::random(outputs, inputs, element, random.next(), 1.0);
        let bias = (random.below(2) == 0).then(|| random.values(outputs));
        Case { x: random.values(rows * x_stride), x_stride, rows, weight, bias }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.x[row * self.x_stride..][..self.weight.inputs()]
    }

    /// Runs `items` over a result window in the middle of a wider buffer, and checks the rest of it.
    fn run(&self, items: &[std::ops::Range<usize>]) -> Vec<f32> {
        let (outputs, stride) = (self.weight.outputs(), self.weight.outputs() + 5);
        let mut wide = vec![UNTOUCHED; self.rows * stride];
        let x = MatRef::with_stride(&self.x, self.rows, self.weight.inputs(), self.x_stride);
        let out = MatMut::new(&mut wide, self.rows, stride).window(2..2 + outputs);
        for items in items {
            linear(x, &self.weight, self.bias.as_deref(), out, items.clone());
        }
        let mut result = Vec::new();
        for row in wide.chunks_exact(stride) {
            let outside = row[..2].iter().chain(&row[2 + outputs..]);
            assert!(outside.copied().all(|value| value == UNTOUCHED), "a neighbour of the result was written");
            result.extend_from_slice(&row[2..2 + outputs]);
        }
        result
    }

    fn run_all(&self) -> Vec<f32> {
        self.run(&all(linear_items(self.rows, &self.weight)))
    }

    fn check(&self, found: &[f32]) {
        let (inputs, outputs) = (self.weight.inputs(), self.weight.outputs());
        let mut weight_row = vec![0.0; inputs];
        for output in 0..outputs {
            self.weight.read_row(output, &mut weight_row);
            for row in 0..self.rows {
                let products = || self.row(row).iter().zip(&weight_row).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[output]));
                let size: f64 = products().map(f64::abs).sum::<f64>() + bias.abs();
                let tolerance = size * (inputs + 1) as f64 * f64::from(f32::EPSILON) / 2.0;
                let expected = products().sum::<f64>() + bias;
                assert_close(
                    &format!("row {row}, output {output}"),
                    found[row * outputs + output],
                    expected,
                    tolerance,
                );
            }
        }
    }
}

#[test]
fn linear_matches_the_reference_on_every_path() {
    let mut random = Random::new();
    for (shape, element) in SHAPES.iter().flat_map(|shape| ELEMENTS.map(|element| (*shape, element))) {
        let case = Case::new(&mut random, shape, element);
        let what = format!("{shape:?} in {element:?}");
        case.check(&on_every_path(&what, || case.run_all()));
    }
}

#[test]
fn linear_does_not_depend_on_how_items_are_cut() {
    let mut random = Random::new();
    for (shape, element) in SHAPES.iter().flat_map(|shape| ELEMENTS.map(|element| (*shape, element))) {
        let case = Case::new(&mut random, shape, element);
        let cuts = random.cuts(linear_items(case.rows, &case.weight));
        assert_same_bits(&format!("{shape:?} in {element:?}"), &case.run_all(), &case.run(&cuts));
    }
}

#[test]
fn linear_does_not_depend_on_the_rows_beside() {
    let mut random = Random::new();
    for (shape, element) in SHAPES.iter().flat_map(|shape| ELEMENTS.map(|element| (*shape, element))) {
        let (mut case, outputs) = (Case::new(&mut random, shape, element), shape.2);
        let all = case.run_all();
        let (x, rows) = (case.x.clone(), case.rows);
        for row in 0..rows {
            case.rows = 1 + random.below(3).min(rows - row - 1);
            case.x = x[row * case.x_stride..].to_vec();
            let some = case.run_all();
            let what = format!("{shape:?} in {element:?}, rows from {row}");
            assert_same_bits(&what, &all[row * outputs..][..case.rows * outputs], &some);
        }
    }
}

#[test]
fn linear_items_run_on_threads() {
    let mut random = Random::new();
    let case = Case::new(&mut random, (40, 96, 500), ElementType::Bf16);
    let x = MatRef::with_stride(&case.x, case.rows, 96, case.x_stride);
    let mut result = vec![0.0; case.rows * 500];
    let out = MatMut::new(&mut result, case.rows, 500);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let case = &case;
            scope.spawn(move || {
                for item in (half..linear_items(case.rows, &case.weight)).step_by(2) {
                    linear(x, &case.weight, case.bias.as_deref(), out, item..item + 1);
                }
            });
        }
    });
    assert_same_bits("two threads", &case.run_all(), &result);
}
