//! Loading: every fault of a file, on checkpoints made in the test.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

use super::*;
use crate::model::{Part, Piece, Stored, WeightRole};

mod names;
mod random;
mod stored;

/// A tensor to be written: its name, type, shape and bytes.
#[derive(Clone)]
struct Raw(&'static str, Dtype, Vec<usize>, Vec<u8>);

fn f32s(name: &'static str, shape: &[usize], first: f32) -> Raw {
    let numbers = (0..shape.iter().product::<usize>()).map(|index| first + index as f32);
    Raw(name, Dtype::F32, shape.to_vec(), numbers.flat_map(f32::to_le_bytes).collect())
}

/// A table of 40 x 8, a matrix of two pieces in each of two layers, a vector, and a head tied to the table.
fn specs() -> Vec<WeightSpec> {
    let piece =
        |tensor: &str, rows| Piece { tensor: tensor.into(), tied: None, rows, columns: 8, stored: Stored::default() };
    let (experts, part) = (None, Part::Whole);
    let whole = |role, pieces| WeightSpec { role, pieces, columns: 8, experts, layers: None, part };
    let pair = vec![piece("layers.{layer}.k", 3), piece("layers.{layer}.v", 2)];
    vec![
        whole(WeightRole::Table, vec![piece("embed", 40)]),
        WeightSpec { role: WeightRole::Matrix, pieces: pair, columns: 8, experts, layers: Some(vec![1, 3]), part },
        whole(WeightRole::Vector, vec![piece("norm", 1)]),
        whole(WeightRole::Matrix, vec![Piece { tied: Some("embed".into()), ..piece("head", 40) }]),
    ]
}

fn tensors() -> Vec<Raw> {
    vec![
        f32s("embed", &[40, 8], 0.0),
        f32s("layers.1.k", &[3, 8], 1000.0),
        f32s("layers.1.v", &[2, 8], 2000.0),
        f32s("layers.3.k", &[3, 8], 3000.0),
        f32s("layers.3.v", &[2, 8], 4000.0),
        f32s("norm", &[8], 5000.0),
    ]
}

fn bytes(tensors: &[Raw]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|Raw(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

fn write(dir: &Path, name: &str, tensors: &[Raw]) {
    fs::write(dir.join(name), bytes(tensors)).unwrap();
}

const QUIET: LoadOptions<'_> = LoadOptions {
    rank: Rank::ALONE,
    tied: false,
    names: Names::PLAIN,
    ignore_extra: false,
    dtype: WeightDtype::Auto,
    num_threads: 3,
    progress: &|_, _| (),
};

fn load_from(tensors: &[Raw], options: LoadOptions<'_>) -> Result<Loaded, WeightsError> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", tensors);
    load(dir.path(), &specs(), options)
}

/// The faults of a single file of `tensors`, as text.
fn faults(tensors: &[Raw]) -> Vec<String> {
    load_from(tensors, QUIET).unwrap_err().faults.iter().map(WeightFault::to_string).collect()
}

fn faults_in(dir: &Path) -> Vec<String> {
    load(dir, &specs(), QUIET).unwrap_err().faults.iter().map(WeightFault::to_string).collect()
}

fn at(weight: u16, layer: u16) -> WeightRef {
    WeightRef { weight, layer }
}

fn row(weights: &Weights, weight: WeightRef, row: usize) -> Vec<f32> {
    let mut out = vec![0.0; 8];
    weights.matrix(weight).read_row(row, &mut out);
    out
}

/// Eight numbers from `first` on.
fn run(first: f32) -> Vec<f32> {
    (0..8).map(|index| first + index as f32).collect()
}

fn assert_complete(weights: &Weights) {
    assert_eq!(row(weights, at(0, 0), 39), run(312.0));
    assert_eq!(row(weights, at(1, 1), 2), run(1016.0));
    assert_eq!(row(weights, at(1, 1), 3), run(2000.0));
    assert_eq!(row(weights, at(1, 3), 4), run(4008.0));
    assert_eq!(weights.vector(at(2, 0)), run(5000.0));
    assert_eq!(row(weights, at(3, 0), 1), run(8.0));
}

#[test]
fn a_single_file_is_loaded() {
    let loaded = load_from(&tensors(), QUIET).unwrap();
    assert_complete(&loaded.weights);
    assert_eq!(loaded.unused, [""; 0]);
    assert_eq!(loaded.weights.element(), ElementType::F32);
    // Panels of 32 rows: two of the table, shared with the head, and one of each layer's pair.
    assert_eq!(loaded.weights.num_bytes(), 4 * (64 * 8 + 2 * 32 * 8 + 8));
}

fn save_sharded(dir: &Path) {
    let tensors = tensors();
    write(dir, "model-00001-of-00002.safetensors", &tensors[..3]);
    write(dir, "model-00002-of-00002.safetensors", &tensors[3..]);
    let file = |index| format!("model-0000{}-of-00002.safetensors", if index < 3 { 1 } else { 2 });
    let map: serde_json::Map<_, _> =
        tensors.iter().enumerate().map(|(index, raw)| (raw.0.to_owned(), json!(file(index)))).collect();
    save_index(dir, &json!({"metadata": {"total_size": 1}, "weight_map": map}));
}

fn save_index(dir: &Path, index: &serde_json::Value) {
    fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

#[test]
fn shards_are_loaded() {
    let dir = tempfile::tempdir().unwrap();
    save_sharded(dir.path());
    assert_complete(&load(dir.path(), &specs(), QUIET).unwrap().weights);
}

#[test]
fn every_faulty_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    save_sharded(dir.path());
    let first = dir.path().join("model-00001-of-00002.safetensors");
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 5]).unwrap();
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let (found, expected) = (whole.len() - 5, whole.len());
    assert_eq!(
        faults_in(dir.path()),
        [
            format!(
                "model-00001-of-00002.safetensors has {found} bytes, its header promises {expected}: download it again"
            ),
            "model-00002-of-00002.safetensors is not there, but the index places 3 tensors in it, `layers.3.k` among \
             them"
                .to_owned(),
        ]
    );
}

#[test]
fn an_index_that_misleads_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "one.safetensors", &tensors());
    let index = |map: serde_json::Value| save_index(dir.path(), &json!({ "weight_map": map }));
    index(json!({"embed": "one.safetensors", "nowhere": "one.safetensors"}));
    assert_eq!(faults_in(dir.path()), ["one.safetensors does not hold `nowhere`, though the index says so"]);
    index(json!({"embed": "../one.safetensors"}));
    assert!(faults_in(dir.path())[0].contains("not a plain file name"));
    index(json!({"embed": 3}));
    assert!(faults_in(dir.path())[0].contains("the file of `embed` is 3, not a name"));
    index(json!([]));
    assert!(faults_in(dir.path())[0].contains("no object `weight_map`"));
    fs::write(dir.path().join("model.safetensors.index.json"), "{").unwrap();
    assert!(faults_in(dir.path())[0].contains("not JSON"));
    write(dir.path(), "two.safetensors", &tensors()[..1]);
    index(json!({"embed": "one.safetensors", "norm": "two.safetensors"}));
    assert!(faults_in(dir.path())[0].contains("holds `embed`, which one.safetensors holds too"));
}

#[test]
fn files_that_are_no_weights_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(faults_in(dir.path()), ["there is no model.safetensors and no model.safetensors.index.json"]);
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert!(faults_in(dir.path())[0].contains("convert it to safetensors"));
    let mut huge_header = u64::MAX.to_le_bytes().to_vec();
    huge_header.extend(b"{}");
    let mut bad_header = 2u64.to_le_bytes().to_vec();
    bad_header.extend(b"[]");
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec();
    let cases = [
        (b"short".to_vec(), "not a safetensors file"),
        (huge_header, "not a safetensors file"),
        (bad_header, "the header is not usable"),
        (lfs, "Git LFS"),
    ];
    for (bytes, expected) in cases {
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let faults = faults_in(dir.path());
        assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
    }
}

#[test]
fn a_longer_file_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = bytes(&tensors());
    bytes.push(0);
    fs::write(dir.path().join("model.safetensors"), &bytes).unwrap();
    let [WeightFault::WrongLength { found_bytes, expected_bytes, .. }] =
        &load(dir.path(), &specs(), QUIET).unwrap_err().faults[..]
    else {
        panic!("one fault of length");
    };
    assert_eq!((*found_bytes, *expected_bytes), (bytes.len() as u64, bytes.len() as u64 - 1));
}

#[test]
fn every_mismatch_is_reported_at_once() {
    let mut tensors = tensors();
    tensors[0] = f32s("embed", &[41, 8], 0.0);
    tensors[1] = f32s("layers.1.kk", &[3, 8], 0.0);
    tensors[2] = Raw("layers.1.v", Dtype::I8, vec![2, 8], vec![0; 16]);
    tensors[5] = f32s("norm", &[1, 8], 0.0);
    assert_eq!(
        faults(&tensors),
        [
            "`embed` is [41, 8], the model needs [40, 8] (model.safetensors)",
            "`layers.1.k` is missing; did you mean `layers.1.kk`?",
            "`layers.1.v` is I8; bfloat16, float16 and float32 can be read (model.safetensors)",
            "`norm` is [1, 8], the model needs [8] (model.safetensors)",
            "`layers.1.kk` is not read by this graph",
        ]
    );
    tensors.remove(1);
    assert_eq!(faults(&tensors)[1], "`layers.1.k` is missing");
}

#[test]
fn a_head_is_tied_where_the_configuration_says_so_or_the_tensor_is_absent() {
    let mut tensors = tensors();
    let size = |tensors: &[Raw], tied| {
        let loaded = load_from(tensors, LoadOptions { tied, ..QUIET }).unwrap();
        assert_eq!(loaded.unused, [""; 0]);
        (row(&loaded.weights, at(3, 0), 0), loaded.weights.num_bytes())
    };
    let (absent, shared) = size(&tensors, false);
    tensors.push(f32s("head", &[40, 8], -7.0));
    let (tied, also_shared) = size(&tensors, true);
    let (own, separate) = size(&tensors, false);
    assert_eq!([absent, tied, own], [run(0.0), run(0.0), run(-7.0)]);
    assert_eq!((also_shared, separate), (shared, shared + 64 * 8 * 4));
}

#[test]
fn types_are_kept_or_changed_as_asked() {
    let values = [1.0, -2.5, 3.1, 65504.0, 1e-7, 0.0, -0.1, 7.0f32];
    let bf16s = values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect();
    let f16s = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
    let f32s = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let spec = |role| {
        let pieces = vec![Piece { tensor: "w".into(), tied: None, rows: 1, columns: 8, stored: Stored::default() }];
        WeightSpec { role, pieces, columns: 8, experts: None, layers: None, part: Part::Whole }
    };
    let of = |dtype, bytes: &Vec<u8>, packed| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "model.safetensors", &[Raw("w", dtype, vec![1, 8], bytes.clone())]);
        let options = LoadOptions { dtype: packed, ..QUIET };
        let weights = load(dir.path(), &[spec(WeightRole::Matrix)], options).unwrap().weights;
        (weights.element(), row(&weights, at(0, 0), 0))
    };
    let narrow = values.map(|x| bf16::from_f32(x).to_f32()).to_vec();
    let half = values.map(|x| f16::from_f32(x).to_f32()).to_vec();
    use WeightDtype::{Auto, Bfloat16, Float32};
    assert_eq!(of(Dtype::BF16, &bf16s, Auto), (ElementType::Bf16, narrow.clone()));
    assert_eq!(of(Dtype::BF16, &bf16s, Float32), (ElementType::F32, narrow.clone()));
    assert_eq!(of(Dtype::F16, &f16s, Auto), (ElementType::F32, half));
    assert_eq!(of(Dtype::F32, &f32s, Auto), (ElementType::F32, values.to_vec()));
    assert_eq!(of(Dtype::F32, &f32s, Bfloat16), (ElementType::Bf16, narrow.clone()));

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &[Raw("w", Dtype::BF16, vec![8], bf16s)]);
    let weights = load(dir.path(), &[spec(WeightRole::Vector)], QUIET).unwrap().weights;
    assert_eq!(weights.vector(at(0, 0)), narrow);
}

#[test]
fn the_vectors_of_fused_projections_are_joined() {
    let piece = |tensor: &str, columns| Piece {
        tensor: tensor.into(),
        tied: None,
        rows: 1,
        columns,
        stored: Stored::default(),
    };
    let spec = |first, second| WeightSpec {
        role: WeightRole::Vector,
        pieces: vec![piece("a", first), piece("b", second)],
        columns: first + second,
        experts: None,
        layers: None,
        part: Part::Whole,
    };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &[f32s("a", &[5], 0.0), f32s("b", &[3], 5.0)]);
    assert_eq!(load(dir.path(), &[spec(5, 3)], QUIET).unwrap().weights.vector(at(0, 0)), run(0.0));
    // As long in all, but each of another length than the model needs.
    let faults: Vec<_> = load(dir.path(), &[spec(4, 4)], QUIET).unwrap_err().faults;
    let faults: Vec<_> = faults.iter().map(WeightFault::to_string).collect();
    let wrong = |name, found| format!("`{name}` is [{found}], the model needs [4] (model.safetensors)");
    assert_eq!(faults, [wrong("a", 5), wrong("b", 3)]);
}

#[test]
fn each_expert_of_each_layer_has_a_matrix_of_its_own() {
    let piece = |tensor: &str| Piece {
        tensor: format!("{{layer}}.{{expert}}.{tensor}"),
        tied: None,
        rows: 1,
        columns: 8,
        stored: Stored::default(),
    };
    let spec = WeightSpec {
        role: WeightRole::Experts,
        pieces: vec![piece("a"), piece("b")],
        columns: 8,
        experts: Some(2),
        layers: Some(vec![1, 2]),
        part: Part::Whole,
    };
    let names = ["1.0.a", "1.0.b", "1.1.a", "1.1.b", "2.0.a", "2.0.b", "2.1.a", "2.1.b"];
    let tensors: Vec<_> = names.iter().enumerate().map(|(n, name)| f32s(name, &[1, 8], 100.0 * n as f32)).collect();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &tensors);
    let loaded = load(dir.path(), std::slice::from_ref(&spec), QUIET).unwrap();
    assert_eq!(loaded.unused, [""; 0]);
    for (layer, expert, first) in [(1, 0, 0.0), (1, 1, 200.0), (2, 0, 400.0), (2, 1, 600.0)] {
        let experts = loaded.weights.experts(at(0, layer));
        let mut row = vec![0.0; 8];
        for (output, first) in [(0, first), (1, first + 100.0)] {
            experts[expert].read_row(output, &mut row);
            assert_eq!(row, run(first), "layer {layer}, expert {expert}, row {output}");
        }
        assert_eq!(experts.len(), 2);
    }
    write(dir.path(), "model.safetensors", &tensors[..7]);
    let error = load(dir.path(), &[spec], QUIET).unwrap_err();
    assert_eq!(error.faults[0].to_string(), "`2.1.b` is missing");
}

/// A matrix of two pieces divided by rows, one by columns, joined vectors by elements, and a whole one.
fn divided() -> Vec<WeightSpec> {
    let piece = |tensor: &str, rows, columns| Piece {
        tensor: tensor.into(),
        tied: None,
        rows,
        columns,
        stored: Stored::default(),
    };
    let spec = |role, pieces, columns, part| WeightSpec { role, pieces, columns, experts: None, layers: None, part };
    vec![
        spec(WeightRole::Matrix, vec![piece("q", 4, 8), piece("k", 2, 8)], 8, Part::Rows),
        spec(WeightRole::Matrix, vec![piece("o", 3, 8)], 8, Part::Columns),
        spec(WeightRole::Vector, vec![piece("q_bias", 1, 4), piece("k_bias", 1, 2)], 6, Part::Columns),
        spec(WeightRole::Vector, vec![piece("norm", 1, 8)], 8, Part::Whole),
    ]
}

#[test]
fn a_rank_has_its_stretch_of_each_piece() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [
        f32s("q", &[8, 8], 0.0),
        f32s("k", &[4, 8], 1000.0),
        f32s("o", &[3, 16], 2000.0),
        f32s("q_bias", &[8], 3000.0),
        f32s("k_bias", &[4], 4000.0),
        f32s("norm", &[8], 5000.0),
    ];
    write(dir.path(), "model.safetensors", &tensors);
    for number in [0, 1] {
        let options = LoadOptions { rank: Rank { number, num_ranks: 2 }, ..QUIET };
        let weights = load(dir.path(), &divided(), options).unwrap().weights;
        let own = number as f32;
        assert_eq!(row(&weights, at(0, 0), 0), run(own * 32.0), "the rank's rows of the first piece");
        assert_eq!(row(&weights, at(0, 0), 3), run(own * 32.0 + 24.0));
        assert_eq!(row(&weights, at(0, 0), 4), run(1000.0 + own * 16.0), "and then those of the second");
        assert_eq!(row(&weights, at(1, 0), 2), run(2000.0 + 32.0 + own * 8.0), "the rank's columns of every row");
        let biases = [0.0, 1.0, 2.0, 3.0].map(|i| 3000.0 + own * 4.0 + i);
        let joined = [&biases[..], &[0.0, 1.0].map(|i| 4000.0 + own * 2.0 + i)].concat();
        assert_eq!(weights.vector(at(2, 0)), joined);
        assert_eq!(weights.vector(at(3, 0)), run(5000.0));
    }
}

#[test]
fn tensors_are_as_large_as_all_ranks_need() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = [
        f32s("q", &[8, 8], 0.0),
        f32s("k", &[3, 8], 0.0),
        f32s("o", &[3, 8], 0.0),
        f32s("q_bias", &[8], 0.0),
        f32s("k_bias", &[4], 0.0),
        f32s("norm", &[8], 0.0),
    ];
    write(dir.path(), "model.safetensors", &tensors);
    let options = LoadOptions { rank: Rank { number: 0, num_ranks: 2 }, ..QUIET };
    let error = load(dir.path(), &divided(), options).unwrap_err();
    let faults: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("`k` is [3, 8], the model needs [4, 8]"), "{faults:?}");
    assert!(faults[1].contains("`o` is [3, 8], the model needs [3, 16]"), "{faults:?}");
}

#[test]
fn progress_rises_to_the_whole() {
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let loaded = load_from(&tensors(), LoadOptions { progress: &progress, ..QUIET }).unwrap();
    let total = loaded.weights.num_bytes() as u64;
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() >= 4 && seen.iter().all(|(done, all)| *all == total && *done <= total), "{seen:?}");
    assert_eq!(seen.last(), Some(&(total, total)));
}

#[test]
fn progress_counts_a_large_matrix_in_parts() {
    let seen = Mutex::new(Vec::new());
    let progress = |done, _| seen.lock().unwrap().push(done);
    let pieces = vec![Piece { tensor: "w".into(), tied: None, rows: 1500, columns: 1024, stored: Stored::default() }];
    let spec =
        WeightSpec { role: WeightRole::Matrix, pieces, columns: 1024, experts: None, layers: None, part: Part::Whole };
    let options = LoadOptions { dtype: WeightDtype::Float32, progress: &progress, ..QUIET };
    let total = random(&[spec], options, 1).num_bytes() as u64;
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    // Two parts, the last of which makes it whole, and the closing notice.
    assert!(seen.len() == 3 && seen[0] < total && seen[1..] == [total, total], "{seen:?} of {total}");
}

#[test]
fn random_weights_have_the_right_shapes_and_follow_the_seed() {
    let of = |seed, num_threads| random(&specs(), LoadOptions { num_threads, ..QUIET }, seed);
    let weights = of(1, 2);
    let rows = |weights: &Weights| (0..40).map(|index| row(weights, at(3, 0), index)).collect::<Vec<_>>();
    assert_eq!(weights.matrix(at(1, 3)).outputs(), 5);
    assert_eq!(weights.vector(at(2, 0)), [1.0; 8]);
    assert!(rows(&weights) == rows(&of(1, 1)), "threads change the numbers");
    assert!(rows(&weights) != rows(&of(2, 2)) && row(&weights, at(0, 0), 0) != row(&weights, at(3, 0), 0));
    let tied = random(&specs(), LoadOptions { tied: true, ..QUIET }, 1);
    assert_eq!(row(&tied, at(0, 0), 3), row(&tied, at(3, 0), 3));
    let numbers: Vec<f32> = rows(&weights).concat();
    let variance = numbers.iter().map(|x| x * x).sum::<f32>() / numbers.len() as f32;
    assert!((0.1..0.15).contains(&variance), "the variance is {variance}, not about an eighth");
}
