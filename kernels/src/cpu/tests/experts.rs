//! Products with the matrices of experts.

use super::{Random, UNTOUCHED, all, assert_close, assert_same_bits, on_every_path};
use crate::cpu::{
    ElementType, MatMut, MatRef, PackedMatrix, SourceType, WeightRows, expert_linear, expert_linear_items,
};

/// (rows, top_k, experts, inputs, outputs): none, one and many rows per expert, several groups, padded panels.
const SHAPES: [(usize, usize, usize, usize, usize); 9] = [
    (0, 2, 3, 16, 32),
    (1, 1, 1, 7, 5),
    (1, 2, 8, 37, 65),
    (3, 2, 4, 64, 130),
    (5, 4, 4, 33, 31),
    (17, 3, 16, 65, 96),
    (60, 2, 3, 40, 70),
    (110, 2, 2, 48, 33),
    (130, 1, 2, 300, 64),
];

struct Case {
    x: Vec<f32>,
    x_columns: usize,
    experts: Vec<f32>,
    top_k: usize,
    weights: Vec<PackedMatrix>,
    bias: Option<Vec<f32>>,
}

impl Case {
    fn new(random: &mut Random, shape: (usize, usize, usize, usize, usize), element: ElementType, own: bool) -> Self {
        let (rows, top_k, num_experts, inputs, outputs) = shape;
        let x_columns = if own { top_k * inputs } else { inputs };
        let weights = (0..num_experts).map(|_| PackedMatrix::random(outputs, inputs, element, random.next(), 1.0));
        let weights = weights.collect();
        let mut experts = Vec::new();
        for _ in 0..rows {
            let mut numbers: Vec<u32> = (0..num_experts as u32).collect();
            random.shuffle(&mut numbers);
            experts.extend(numbers[..top_k].iter().map(|number| f32::from_bits(*number)));
        }
        let bias = (random.below(2) == 0).then(|| random.values(num_experts * outputs));
        Self { x: random.values(rows * x_columns), x_columns, experts, top_k, weights, bias }
    }

    fn rows(&self) -> usize {
        self.experts.len() / self.top_k
    }

    fn outputs(&self) -> usize {
        self.weights[0].outputs()
    }

    /// Some of the rows, by a kernel call for each range of items; items are cut by `cut`.
    fn run(&self, rows: std::ops::Range<usize>, cut: &mut dyn FnMut(usize) -> Vec<std::ops::Range<usize>>) -> Vec<f32> {
        let (columns, weights) = (self.top_k * self.outputs(), &self.weights);
        let x = &self.x[rows.start * self.x_columns..rows.end * self.x_columns];
        let experts = &self.experts[rows.start * self.top_k..rows.end * self.top_k];
        let (x, experts) = (MatRef::new(x, rows.len(), self.x_columns), MatRef::new(experts, rows.len(), self.top_k));
        let mut wide = vec![UNTOUCHED; rows.len() * (columns + 5)];
        let out = MatMut::new(&mut wide, rows.len(), columns + 5).window(2..2 + columns);
        for items in cut(expert_linear_items(experts, weights)) {
            expert_linear(x, experts, weights, self.bias.as_deref(), out, items);
        }
        let mut result = Vec::new();
        for row in wide.chunks_exact(columns + 5) {
            let outside = row[..2].iter().chain(&row[2 + columns..]);
            assert!(outside.copied().all(|value| value == UNTOUCHED), "a neighbour of the result was written");
            result.extend_from_slice(&row[2..2 + columns]);
        }
        result
    }

    fn run_all(&self) -> Vec<f32> {
        self.run(0..self.rows(), &mut all)
    }

    fn check(&self, found: &[f32]) {
        let inputs = self.weights[0].inputs();
        let mut weight_row = vec![0.0; inputs];
        for (pair, expert) in self.experts.iter().enumerate() {
            let (row, slot) = (pair / self.top_k, pair % self.top_k);
            let first = row * self.x_columns + if self.x_columns == inputs { 0 } else { slot * inputs };
            for output in 0..self.outputs() {
                self.weights[expert.to_bits() as usize].read_row(output, &mut weight_row);
                let x = self.x[first..first + inputs].iter();
                let products = x.zip(&weight_row).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let place = expert.to_bits() as usize * self.outputs() + output;
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[place]));
                let size: f64 = products.clone().map(f64::abs).sum::<f64>() + bias.abs();
                let tolerance = size * (inputs + 1) as f64 * f64::from(f32::EPSILON) / 2.0;
                let what = format!("row {row}, slot {slot}, output {output}");
                assert_close(&what, found[pair * self.outputs() + output], products.sum::<f64>() + bias, tolerance);
            }
        }
    }
}

fn each_case(random: &mut Random, mut check: impl FnMut(&mut Random, &str, &Case)) {
    for shape in SHAPES {
        for element in [ElementType::Bf16, ElementType::F32] {
            for own in [false, true] {
                let case = Case::new(random, shape, element, own);
                check(random, &format!("{shape:?} in {element:?}, own columns {own}"), &case);
            }
        }
    }
}

#[test]
fn expert_linear_matches_the_reference_on_every_path() {
    each_case(&mut Random::new(), |_, what, case| case.check(&on_every_path(what, || case.run_all())));
}

#[test]
fn expert_linear_does_not_depend_on_how_items_are_cut() {
    each_case(&mut Random::new(), |random, what, case| {
        let cut = case.run(0..case.rows(), &mut |items| random.cuts(items));
        assert_same_bits(what, &case.run_all(), &cut);
    });
}

#[test]
fn expert_linear_does_not_depend_on_the_rows_beside() {
    each_case(&mut Random::new(), |random, what, case| {
        let (whole, columns) = (case.run_all(), case.top_k * case.outputs());
        for row in 0..case.rows() {
            let rows = row..row + 1 + random.below(3).min(case.rows() - row - 1);
            let expected = &whole[rows.start * columns..rows.end * columns];
            assert_same_bits(&format!("{what}, rows {rows:?}"), expected, &case.run(rows, &mut all));
        }
    });
}

/// The matrices of experts that no row goes to are NaN, and have no items: a decode step reads what it routes to.
#[test]
fn experts_that_no_row_goes_to_are_not_read() {
    let mut random = Random::new();
    let mut case = Case::new(&mut random, (3, 2, 40, 70, 100), ElementType::F32, false);
    let expected = case.run_all();
    let nan: Vec<u8> = std::iter::repeat_n(f32::NAN.to_le_bytes(), 70 * 100).flatten().collect();
    for (number, weight) in case.weights.iter_mut().enumerate() {
        if case.experts.iter().all(|expert| expert.to_bits() as usize != number) {
            let rows = WeightRows::new(&nan, SourceType::F32, 100, 70).expect("the right length");
            weight.pack_rows(&[rows]).expect("the same shape");
        }
    }
    assert_same_bits("only the routed experts", &expected, &case.run_all());
}

#[test]
fn experts_that_no_row_goes_to_have_no_items() {
    let weights: Vec<_> = (0..4).map(|seed| PackedMatrix::random(100, 8, ElementType::Bf16, seed, 1.0)).collect();
    let numbers = [3, 1, 3, 0].map(f32::from_bits);
    // Three experts of two strips each.
    assert_eq!(expert_linear_items(MatRef::new(&numbers, 2, 2), &weights), 6);
}

#[test]
#[should_panic(expected = "expert 4 of 4")]
fn the_number_of_an_expert_that_is_not_there_is_refused() {
    let weights: Vec<_> = (0..4).map(|seed| PackedMatrix::random(3, 8, ElementType::F32, seed, 1.0)).collect();
    expert_linear_items(MatRef::new(&[f32::from_bits(4)], 1, 1), &weights);
}
