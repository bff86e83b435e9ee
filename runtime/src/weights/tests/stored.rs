//! Every way in which a checkpoint may hold a weight, on random numbers, element by element against a plain reading of
//! the tensors; alone and as each of several ranks.

use super::random::Random;
use super::*;
use crate::model::Slice;

/// What is read of a piece's rows, of all ranks together.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    Whole,
    Stretch,
    Groups,
}

/// A random weight of which a checkpoint can be made, with the sizes of all ranks together.
#[derive(Debug)]
struct Case {
    role: WeightRole,
    part: Part,
    num_ranks: usize,
    /// Experts, and whether each has a tensor of its own.
    experts: Option<(usize, bool)>,
    columns: usize,
    pieces: Vec<Whole>,
}

/// A piece of a weight; of a vector, its rows are the elements and it has one column.
#[derive(Debug)]
struct Whole {
    rows: usize,
    columns: usize,
    of: usize,
    from: usize,
    take: usize,
    every: usize,
    cut: Cut,
    transposed: bool,
    plus: f32,
    dtype: Dtype,
}

impl Whole {
    fn new(random: &mut Random, case: &Case, cut: Cut, transposed: bool) -> Self {
        let is_vector = case.is_vector();
        let divided = if is_vector { Part::Columns } else { Part::Rows };
        let ranks = if case.part == divided { case.num_ranks } else { 1 };
        let take = random.size(1, 3);
        let rows = random.size(1, 12) * take * ranks;
        let every = take + random.size(1, 4);
        let (of, from) = match cut {
            Cut::Whole => (rows, 0),
            Cut::Stretch => (rows + ranks * random.size(1, 5), 0),
            Cut::Groups => (rows / take * every + ranks * random.size(0, 2), 0),
        };
        // A stretch begins at a place that can be said for one rank; the last group may end with what is read of it.
        let from = match cut {
            Cut::Whole => from,
            Cut::Stretch => ranks * random.size(0, (of - rows) / ranks),
            Cut::Groups => random.size(0, of - (rows / take - 1) * every - take),
        };
        let columns = if is_vector { 1 } else { case.columns };
        let (plus, dtype) = (random.one_of(&[0.0, 0.0, 1.0]), random.one_of(&[Dtype::BF16, Dtype::F16, Dtype::F32]));
        Self { rows, columns, of, from, take, every, cut, transposed, plus, dtype }
    }

    /// The place in the tensor of a row of the piece.
    fn place(&self, row: usize) -> usize {
        match self.cut {
            Cut::Whole => row,
            Cut::Stretch => self.from + row,
            Cut::Groups => self.from + row / self.take * self.every + row % self.take,
        }
    }

    /// As one of the ranks' graph describes it.
    fn piece(&self, case: &Case, number: usize) -> Piece {
        let (ranks_of_rows, ranks_of_columns) = case.ranks();
        let rows = self.rows / ranks_of_rows;
        let of = self.of;
        let slice = match self.cut {
            Cut::Whole => None,
            Cut::Stretch => Some(Slice { of, from: self.from, take: rows, every: rows }),
            Cut::Groups => Some(Slice { of, from: self.from, take: self.take, every: self.every }),
        };
        let stored = Stored { transposed: self.transposed, slice, plus: self.plus };
        let columns = self.columns / ranks_of_columns;
        let (rows, columns) = if case.is_vector() { (1, rows) } else { (rows, columns) };
        Piece { tensor: case.tensor(number), tied: None, rows, columns, stored }
    }
}

impl Case {
    fn new(random: &mut Random, role: WeightRole, part: Part, num_ranks: usize) -> Self {
        let is_of_experts = matches!(role, WeightRole::Experts | WeightRole::ExpertVectors);
        let experts = is_of_experts.then(|| (random.size(1, 5), random.one_of(&[true, false])));
        let columns = num_ranks * random.size(1, 9);
        Self { role, part, num_ranks, experts, columns, pieces: Vec::new() }
    }

    fn is_vector(&self) -> bool {
        matches!(self.role, WeightRole::Vector | WeightRole::ExpertVectors)
    }

    /// How many ranks the rows are divided among, and the columns.
    fn ranks(&self) -> (usize, usize) {
        match (self.part, self.is_vector()) {
            (Part::Rows, false) | (Part::Columns, true) => (self.num_ranks, 1),
            (Part::Columns, false) => (1, self.num_ranks),
            (Part::Whole, _) | (Part::Rows, true) => (1, 1),
        }
    }

    fn tensor(&self, piece: usize) -> String {
        let own = matches!(self.experts, Some((_, true)));
        format!("w.{{layer}}{}.p{piece}", if own { ".{expert}" } else { "" })
    }

    fn spec(&self) -> WeightSpec {
        let pieces: Vec<_> = self.pieces.iter().enumerate().map(|(number, piece)| piece.piece(self, number)).collect();
        let columns = if self.is_vector() { pieces.iter().map(|piece| piece.columns).sum() } else { pieces[0].columns };
        let experts = self.experts.map(|(experts, _)| experts);
        WeightSpec { role: self.role, pieces, columns, experts, layers: Some(vec![2]), part: self.part }
    }
}

/// The numbers of a tensor as they are read, by expert, then as in the file.
type Numbers = Vec<Vec<f32>>;

/// Random tensors for a piece, and their numbers.
fn tensors(random: &mut Random, case: &Case, number: usize) -> (Vec<Owned>, Numbers) {
    let piece = &case.pieces[number];
    let (num_experts, own) = case.experts.unwrap_or((1, true));
    let matrix = if piece.transposed { [piece.columns, piece.of] } else { [piece.of, piece.columns] };
    let shape = if case.is_vector() { vec![piece.of] } else { matrix.to_vec() };
    let mut all = Vec::new();
    let mut tensors = Vec::new();
    for expert in 0..num_experts {
        let (numbers, bytes) = (0..piece.of * piece.columns).map(|_| encode(random.number(), piece.dtype)).unzip();
        let bytes: Vec<Vec<u8>> = bytes;
        let name = case.tensor(number).replace("{layer}", "2").replace("{expert}", &expert.to_string());
        tensors.push(Owned(name, piece.dtype, shape.clone(), bytes.concat()));
        all.push(numbers);
    }
    if !own {
        let bytes = tensors.iter().flat_map(|tensor| tensor.3.clone()).collect();
        let shape = [&[num_experts], &shape[..]].concat();
        tensors = vec![Owned(tensors.swap_remove(0).0, piece.dtype, shape, bytes)];
    }
    (tensors, all)
}

struct Owned(String, Dtype, Vec<usize>, Vec<u8>);

fn encode(number: f32, dtype: Dtype) -> (f32, Vec<u8>) {
    match dtype {
        Dtype::BF16 => (bf16::from_f32(number).to_f32(), bf16::from_f32(number).to_le_bytes().to_vec()),
        Dtype::F16 => (f16::from_f32(number).to_f32(), f16::from_f32(number).to_le_bytes().to_vec()),
        _ => (number, number.to_le_bytes().to_vec()),
    }
}

fn save(dir: &Path, tensors: &[Owned]) {
    let views = tensors
        .iter()
        .map(|Owned(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    fs::write(dir.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}

/// What a rank must have of one expert: the rows of its part of each piece, one piece after the other.
fn expected(case: &Case, numbers: &[Numbers], rank: usize, expert: usize) -> Vec<Vec<f32>> {
    let (ranks_of_rows, ranks_of_columns) = case.ranks();
    let mut all = Vec::new();
    for (piece, numbers) in case.pieces.iter().zip(numbers) {
        let stretch = |length: usize, ranks: usize| {
            let own = length / ranks;
            if ranks == 1 { 0..length } else { rank * own..(rank + 1) * own }
        };
        for row in stretch(piece.rows, ranks_of_rows) {
            let at = |column: usize| match piece.transposed {
                false => piece.place(row) * piece.columns + column,
                true => column * piece.of + piece.place(row),
            };
            let columns = stretch(piece.columns, ranks_of_columns);
            all.push(columns.map(|column| numbers[expert][at(column)] + piece.plus).collect());
        }
    }
    all
}

fn rows_of(matrix: &PackedMatrix) -> Vec<Vec<f32>> {
    let mut row = vec![0.0; matrix.inputs()];
    let read = |output| {
        matrix.read_row(output, &mut row);
        row.clone()
    };
    (0..matrix.outputs()).map(read).collect()
}

/// Loads a case as each of its ranks and compares all that each has.
fn assert_loads(random: &mut Random, case: &Case) {
    let (tensors, numbers): (Vec<_>, Vec<_>) =
        (0..case.pieces.len()).map(|number| tensors(random, case, number)).unzip();
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &tensors.into_iter().flatten().collect::<Vec<_>>());
    let num_experts = case.experts.map_or(1, |(experts, _)| experts);
    for number in 0..case.num_ranks {
        let options = LoadOptions { rank: Rank { number, num_ranks: case.num_ranks }, ..QUIET };
        let weights = load(dir.path(), &[case.spec()], options).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        let (weights, at) = (weights.weights, at(0, 2));
        let wanted: Vec<_> = (0..num_experts).map(|expert| expected(case, &numbers, number, expert)).collect();
        let found = match case.role {
            WeightRole::Matrix | WeightRole::Table => vec![rows_of(weights.matrix(at))],
            WeightRole::Experts => weights.experts(at).iter().map(rows_of).collect(),
            WeightRole::Vector | WeightRole::ExpertVectors => {
                let length = weights.vector(at).len() / num_experts;
                let one = |vector: &[f32]| vector.iter().map(|number| vec![*number]).collect();
                weights.vector(at).chunks_exact(length).map(one).collect()
            }
        };
        assert!(found == wanted, "rank {number} of {case:?}:\n{found:?}\nis not\n{wanted:?}");
    }
}

fn each_form(role: WeightRole, parts: &[Part]) {
    let mut random = Random::new();
    for num_ranks in [1, 2, 4] {
        for part in parts {
            for cut in [Cut::Whole, Cut::Stretch, Cut::Groups] {
                for transposed in [false, true] {
                    let mut case = Case::new(&mut random, role, *part, num_ranks);
                    case.pieces = vec![Whole::new(&mut random, &case, cut, transposed && !case.is_vector())];
                    assert_loads(&mut random, &case);
                    // And beside pieces of other forms.
                    for _ in 0..random.size(1, 2) {
                        let cut = random.one_of(&[Cut::Whole, Cut::Stretch, Cut::Groups]);
                        let transposed = random.one_of(&[false, true]) && !case.is_vector();
                        let piece = Whole::new(&mut random, &case, cut, transposed);
                        case.pieces.push(piece);
                    }
                    assert_loads(&mut random, &case);
                }
            }
        }
    }
}

#[test]
fn matrices_of_every_form() {
    each_form(WeightRole::Matrix, &[Part::Whole, Part::Rows, Part::Columns]);
}

#[test]
fn tables_of_every_form() {
    each_form(WeightRole::Table, &[Part::Whole, Part::Rows, Part::Columns]);
}

#[test]
fn vectors_of_every_form() {
    each_form(WeightRole::Vector, &[Part::Whole, Part::Columns]);
}

#[test]
fn matrices_of_experts_of_every_form() {
    each_form(WeightRole::Experts, &[Part::Whole, Part::Rows, Part::Columns]);
}

#[test]
fn vectors_of_experts_of_every_form() {
    each_form(WeightRole::ExpertVectors, &[Part::Whole, Part::Columns]);
}

#[test]
fn a_head_is_tied_to_a_slice_of_the_table() {
    let slice = Some(Slice { of: 7, from: 2, take: 5, every: 5 });
    let stored = Stored { slice, ..Stored::default() };
    let piece = |tensor: &str, tied| Piece { tensor: tensor.into(), tied, rows: 5, columns: 8, stored };
    let spec = |role, piece| WeightSpec {
        role,
        pieces: vec![piece],
        columns: 8,
        experts: None,
        layers: None,
        part: Part::Whole,
    };
    let specs = [
        spec(WeightRole::Table, piece("embed", None)),
        spec(WeightRole::Matrix, piece("head", Some("embed".to_owned()))),
    ];
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &[f32s("embed", &[7, 8], 0.0)]);
    let weights = load(dir.path(), &specs, QUIET).unwrap().weights;
    assert_eq!([row(&weights, at(0, 0), 0), row(&weights, at(1, 0), 4)], [run(16.0), run(48.0)]);
    assert_eq!(weights.num_bytes(), 4 * 32 * 8, "the two are one");
}

/// The faults of a checkpoint of one tensor `w` of a shape, read as `role` with 4 rows of 6 columns.
fn faults_of(
    shape: &[usize],
    role: WeightRole,
    experts: Option<usize>,
    stored: Stored,
    num_ranks: usize,
) -> Vec<String> {
    let (rows, columns) = if matches!(role, WeightRole::Vector | WeightRole::ExpertVectors) { (1, 4) } else { (4, 6) };
    let pieces = vec![Piece { tensor: "w".into(), tied: None, rows, columns, stored }];
    let part = if rows == 1 { Part::Columns } else { Part::Rows };
    let spec = WeightSpec { role, pieces, columns, experts, layers: None, part };
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "model.safetensors", &[f32s("w", shape, 0.0)]);
    let options = LoadOptions { rank: Rank { number: 0, num_ranks }, ..QUIET };
    load(dir.path(), &[spec], options)
        .err()
        .map_or(vec![], |error| error.faults.iter().map(ToString::to_string).collect())
}

#[test]
fn a_wrong_shape_is_that_of_the_whole_tensor() {
    use WeightRole::{ExpertVectors, Experts, Matrix, Vector};
    let plain = Stored::default();
    let sliced = Stored { slice: Some(Slice { of: 10, from: 1, take: 4, every: 4 }), ..plain };
    let transposed = Stored { transposed: true, ..plain };
    let both = Stored { transposed: true, ..sliced };
    let wrong = |needed: &str| vec![format!("`w` is [3], the model needs {needed} (model.safetensors)")];
    assert_eq!(faults_of(&[3], Matrix, None, sliced, 2), wrong("[10, 6]"));
    assert_eq!(faults_of(&[3], Matrix, None, transposed, 2), wrong("[6, 8]"));
    assert_eq!(faults_of(&[3], Matrix, None, both, 1), wrong("[6, 10]"));
    assert_eq!(faults_of(&[3], Vector, None, sliced, 2), wrong("[10]"));
    assert_eq!(faults_of(&[3], Experts, Some(5), plain, 2), wrong("[5, 8, 6]"));
    assert_eq!(faults_of(&[3], Experts, Some(5), both, 4), wrong("[5, 6, 10]"));
    assert_eq!(faults_of(&[3], ExpertVectors, Some(5), sliced, 2), wrong("[5, 10]"));
    assert_eq!(faults_of(&[5, 6, 10], Experts, Some(5), both, 4), [""; 0]);
    assert_eq!(faults_of(&[5, 10], ExpertVectors, Some(5), sliced, 2), [""; 0]);
}

#[test]
fn rows_that_the_tensor_lacks_are_a_fault() {
    let of = |of, from, take, every| {
        let stored = Stored { slice: Some(Slice { of, from, take, every }), ..Stored::default() };
        faults_of(&[of, 6], WeightRole::Matrix, None, stored, 1)
    };
    let fault = |what: &str| vec![format!("`w` cannot be divided as the graph says: {what}")];
    assert_eq!(of(10, 6, 4, 4), [""; 0]);
    assert_eq!(of(10, 7, 4, 4), fault("4 rows from row 7 on end at row 11, but it has 10"));
    assert_eq!(of(10, 3, 2, 5), [""; 0]);
    assert_eq!(of(10, 4, 2, 5), fault("4 rows from row 4 on end at row 11, but it has 10"));
    assert_eq!(of(10, 0, 3, 5), fault("4 rows cannot be made of 3 out of each 5"));
    assert_eq!(of(10, 0, 0, 5), fault("4 rows cannot be made of 0 out of each 5"));
    assert_eq!(of(10, 0, 4, 2), fault("4 rows cannot be made of 4 out of each 2"));
}
