//! Packing weights and reading them back.

use half::{bf16, f16};

use super::{Random, assert_same_bits};
use crate::cpu::{ElementType, MatMut, PackError, PackedMatrix, RowPick, SourceType, WeightRows, embed};

/// A tensor's bytes and the values they stand for.
fn tensor(random: &mut Random, source: SourceType, elements: usize) -> (Vec<u8>, Vec<f32>) {
    let values = random.values(elements);
    match source {
        SourceType::Bf16 => {
            let stored: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            let bytes = stored.iter().flat_map(|value| value.to_le_bytes()).collect();
            (bytes, stored.into_iter().map(bf16::to_f32).collect())
        }
        SourceType::F16 => {
            let stored: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
            let bytes = stored.iter().flat_map(|value| value.to_le_bytes()).collect();
            (bytes, stored.into_iter().map(f16::to_f32).collect())
        }
        SourceType::F32 => (values.iter().flat_map(|value| value.to_le_bytes()).collect(), values),
    }
}

fn read_all(matrix: &PackedMatrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.outputs() * matrix.inputs()];
    for (output, row) in values.chunks_exact_mut(matrix.inputs()).enumerate() {
        matrix.read_row(output, row);
    }
    values
}

#[test]
fn rows_come_back_from_every_source() {
    let mut random = Random::new();
    for source in [SourceType::Bf16, SourceType::F16, SourceType::F32] {
        for (outputs, inputs) in [(1, 1), (33, 70), (64, 129), (100, 300)] {
            let (bytes, values) = tensor(&mut random, source, outputs * inputs);
            let rows = WeightRows::new(&bytes, source, outputs, inputs).expect("the right length");
            let exact = PackedMatrix::pack(&[rows], source.lossless()).expect("one part");
            assert_same_bits(&format!("{source:?}"), &values, &read_all(&exact));
            let narrow = PackedMatrix::pack(&[rows], ElementType::Bf16).expect("one part");
            let rounded: Vec<f32> = values.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
            assert_same_bits(&format!("{source:?} as bf16"), &rounded, &read_all(&narrow));
            let wide = PackedMatrix::pack(&[rows], ElementType::F32).expect("one part");
            assert_same_bits(&format!("{source:?} as f32"), &values, &read_all(&wide));
        }
    }
}

#[test]
fn parts_are_concatenated_whichever_way_panels_are_cut() {
    let mut random = Random::new();
    let (inputs, part_rows) = (50, [40, 7, 0, 90]);
    let parts = part_rows.map(|rows| tensor(&mut random, SourceType::Bf16, rows * inputs));
    let expected: Vec<f32> = parts.iter().flat_map(|(_, values)| values.clone()).collect();
    let views: Vec<_> = parts
        .iter()
        .zip(part_rows)
        .map(|((bytes, _), rows)| WeightRows::new(bytes, SourceType::Bf16, rows, inputs).expect("the right length"))
        .collect();
    for panels_per_run in [1, 2, 3, usize::MAX] {
        let mut matrix = PackedMatrix::new(137, inputs, ElementType::Bf16);
        std::thread::scope(|scope| {
            for mut panels in matrix.panels_mut(panels_per_run) {
                let views = &views;
                scope.spawn(move || panels.pack(views).expect("the right shape"));
            }
        });
        assert_same_bits(&format!("runs of {panels_per_run}"), &expected, &read_all(&matrix));
    }
}

#[test]
fn shards_are_windows_of_rows_and_columns() {
    let mut random = Random::new();
    let (bytes, values) = tensor(&mut random, SourceType::F32, 60 * 48);
    let whole = WeightRows::new(&bytes, SourceType::F32, 60, 48).expect("the right length");
    let shard = whole.rows(10..55).columns(16..40).rows(5..45).columns(3..24);
    let packed = PackedMatrix::pack(&[shard], ElementType::F32).expect("one part");
    let expected: Vec<f32> = (15..55).flat_map(|row| values[row * 48 + 19..row * 48 + 40].to_vec()).collect();
    assert_same_bits("shard", &expected, &read_all(&packed));
}

/// Rows (total, picked, pick) x inputs of tensors; the shard of it that is packed.
const PICKS: [(usize, usize, RowPick, usize); 6] = [
    (96, 96, RowPick { from: 0, take: 96, every: 96 }, 70),
    (300, 100, RowPick { from: 100, take: 100, every: 100 }, 131),
    (192, 64, RowPick { from: 16, take: 16, every: 48 }, 33),
    (70, 35, RowPick { from: 1, take: 1, every: 2 }, 257),
    (31, 7, RowPick { from: 3, take: 3, every: 11 }, 1),
    (5, 0, RowPick { from: 5, take: 1, every: 1 }, 9),
];

#[test]
fn picked_and_transposed_rows_come_back_from_every_source() {
    let mut random = Random::new();
    let sources = [SourceType::Bf16, SourceType::F16, SourceType::F32];
    for (source, (total, rows, pick, inputs)) in sources.iter().flat_map(|source| PICKS.map(|pick| (*source, pick))) {
        let (bytes, values) = tensor(&mut random, source, total * inputs);
        for transposed in [false, true] {
            let whole = if transposed { WeightRows::transposed } else { WeightRows::new };
            let whole = whole(&bytes, source, total, inputs).expect("the right length");
            let value = |row: usize, input: usize| {
                let row = pick.from + row / pick.take * pick.every + row % pick.take;
                if transposed { values[input * total + row] } else { values[row * inputs + input] }
            };
            let picked = whole.picked(rows, pick).expect("rows of the tensor");
            let (first_row, first_input) = (random.below(rows + 1), random.below(inputs));
            let shard = picked.rows(first_row..rows).columns(first_input..inputs);
            // The tensor's own parts after another's rows: panels and lanes do not begin where the part does.
            let (other_bytes, other) = tensor(&mut random, SourceType::F16, 9 * inputs);
            let before = WeightRows::new(&other_bytes, SourceType::F16, 9, inputs).expect("the right length");
            let parts = [before.columns(first_input..inputs), shard, shard];
            let part: Vec<f32> =
                (first_row..rows).flat_map(|row| (first_input..inputs).map(move |input| value(row, input))).collect();
            let before = other.chunks_exact(inputs).flat_map(|row| row[first_input..].to_vec());
            let expected: Vec<f32> = before.chain(part.clone()).chain(part.clone()).collect();
            let what = format!("{source:?} {rows} of {total} x {inputs} by {pick:?}, transposed {transposed}");
            assert_same_bits(&what, &part, &shard.widened());
            let wide = PackedMatrix::pack(&parts, ElementType::F32).expect("parts of one shape");
            assert_same_bits(&what, &expected, &read_all(&wide));
            let narrow = PackedMatrix::pack(&parts, ElementType::Bf16).expect("parts of one shape");
            let rounded: Vec<f32> = expected.iter().map(|value| bf16::from_f32(*value).to_f32()).collect();
            assert_same_bits(&what, &rounded, &read_all(&narrow));
        }
    }
}

#[test]
fn picks_that_leave_the_tensor_are_refused() {
    let bytes = [0u8; 24];
    let picked = |rows, from, take, every| {
        let whole = WeightRows::new(&bytes, SourceType::F32, 6, 1).expect("the right length");
        whole.picked(rows, RowPick { from, take, every }).map(|rows| rows.num_rows())
    };
    for (rows, from, take, every) in
        [(3, 0, 1, 2), (6, 0, 6, 6), (4, 1, 2, 3), (0, 6, 1, 1), (1, 5, usize::MAX, usize::MAX)]
    {
        assert_eq!(picked(rows, from, take, every), Ok(rows));
    }
    for (rows, from, take, every) in
        [(4, 0, 1, 2), (6, 1, 6, 6), (4, 2, 2, 3), (1, 6, 1, 1), (1, 0, 0, 1), (2, 0, 2, 1)]
    {
        let pick = RowPick { from, take, every };
        assert_eq!(picked(rows, from, take, every), Err(PackError::Rows { pick, rows, total: 6 }));
    }
}

#[test]
fn shape_mistakes_are_told_with_both_sides() {
    let bytes = [0u8; 24];
    let short = WeightRows::new(&bytes, SourceType::F32, 2, 4).map(|_| ());
    assert_eq!(short, Err(PackError::Length { found_bytes: 24, expected_bytes: 32 }));
    let part = WeightRows::new(&bytes, SourceType::F32, 2, 3).expect("the right length");
    let pack = |outputs, inputs| PackedMatrix::new(outputs, inputs, ElementType::F32).pack_rows(&[part]);
    assert_eq!(pack(2, 5), Err(PackError::Inputs { found: 3, expected: 5 }));
    assert_eq!(pack(4, 3), Err(PackError::Outputs { found: 2, expected: 4 }));
    assert_eq!(PackedMatrix::pack(&[], ElementType::F32).map(|_| ()), Err(PackError::Empty));
}

#[test]
fn random_weights_repeat_with_their_seed_and_fill_the_range() {
    for element in [ElementType::Bf16, ElementType::F32] {
        let [one, same, other] = [7, 7, 8].map(|seed| read_all(&PackedMatrix::random(70, 90, element, seed, 0.5)));
        assert_same_bits("same seed", &one, &same);
        assert_ne!(one, other);
        let (low, high) = one.iter().fold((0.0f32, 0.0f32), |(low, high), value| (low.min(*value), high.max(*value)));
        assert!((-0.5..-0.49).contains(&low) && (0.49..=0.5).contains(&high), "{low}..{high}");
        let mean = one.iter().sum::<f32>() / one.len() as f32;
        assert!(mean.abs() < 0.03, "mean {mean}");
    }
}

#[test]
fn embed_reads_rows_of_the_table() {
    let table = PackedMatrix::random(45, 37, ElementType::Bf16, 3, 1.0);
    let all = read_all(&table);
    let ids = [44, 0, 31, 32, 31];
    let mut out = vec![0.0; ids.len() * 37];
    let view = MatMut::new(&mut out, ids.len(), 37);
    embed(&ids, &table, view, 2..5);
    embed(&ids, &table, view, 0..2);
    let expected: Vec<f32> = ids.iter().flat_map(|&id| all[id as usize * 37..][..37].to_vec()).collect();
    assert_same_bits("embed", &expected, &out);
}
