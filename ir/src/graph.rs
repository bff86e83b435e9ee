//! A model as the compiler holds it, at every stage from the porter's file to the launch schedule.

use crate::diag::Place;
use crate::dim::{Dim, Expr};
use crate::ids::{BlockId, CacheId, DimId, Id, ParamId, PointId, StreamId, Table, ValueId, WeightId};
use crate::op::{Op, RowDomain};
use crate::schedule::{Schedule, Streams};
use crate::types::TensorType;

/// How far a graph has come. Each stage has its own rules of legality ([`crate::verify`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// As the porter wrote it.
    Loaded,
    /// Only operators that devices have.
    Lowered,
    /// Nodes are nano-operations: one per range of the dense batch.
    Split,
    /// Every node has its stream.
    Grouped,
    /// There is a launch schedule.
    Scheduled,
}

/// A model.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// File name without its ending.
    pub name: String,
    /// How far it has come.
    pub stage: Stage,
    /// The `architectures` of `config.json` it serves.
    pub serves: Vec<String>,
    /// Keys of `config.json` that must have a given value.
    pub expects: Vec<Expectation>,
    /// Sizes, each defined by those before it.
    pub dims: Table<DimId, Definition>,
    /// Settings, each defined by dims and the settings before it.
    pub params: Table<ParamId, Definition>,
    /// The longest sequence, in tokens; `None` where the graph does not say.
    pub context: Option<Expr>,
    /// What may stand before the names of all tensors of a checkpoint; nothing else than the empty one if empty.
    pub prefixes: Vec<String>,
    /// Tensors that a checkpoint may have without the model reading them; `*` is any text, `{layer}` any number,
    /// `{beyond}` that of a layer behind the last.
    pub ignores: Vec<String>,
    /// Weights of the checkpoint.
    pub weights: Table<WeightId, Weight>,
    /// KV caches.
    pub caches: Table<CacheId, Cache>,
    /// Values of the main body and of all blocks.
    pub values: Table<ValueId, Value>,
    /// Texts of the kinds of layer.
    pub blocks: Table<BlockId, Block>,
    /// The inputs of a step.
    pub inputs: Vec<ValueId>,
    /// The main body.
    pub nodes: Vec<Node>,
    /// What the model gives: `[seqs, vocab]`.
    pub gives: ValueId,
    /// The plan's cuts and streams, from stage [`Stage::Split`] on.
    pub split: Option<Split>,
    /// The plan's streams, from stage [`Stage::Grouped`] on.
    pub streams: Option<Streams>,
    /// The launch schedule, at stage [`Stage::Scheduled`].
    pub schedule: Option<Schedule>,
}

impl Graph {
    /// The paths of `config.json` that the graph reads, in order and without repeats.
    pub fn config_keys(&self) -> Vec<&str> {
        let definitions = self.dims.values().chain(self.params.values());
        let read = definitions.flat_map(|definition| definition.value.config_paths());
        let expected = self.expects.iter().map(|expectation| expectation.key.as_str());
        let context = self.context.iter().flat_map(Expr::config_paths);
        let patterns = self.nodes.iter().filter_map(|node| {
            let Op::Repeat { pattern, .. } = &node.op else { return None };
            Some(pattern)
        });
        let kinds = patterns.flat_map(|pattern| &pattern.keys);
        let mut keys: Vec<_> = read.chain(expected).chain(context).chain(kinds.map(String::as_str)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// A name with the expression that gives its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The name.
    pub name: String,
    /// Its value.
    pub value: Expr,
    /// Where it is defined.
    pub place: Place,
}

/// A condition on `config.json`: a config that says otherwise is refused, by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// Path of the key, `a.b.c`.
    pub key: String,
    /// The values that will do; [`Literal::None`] stands for an absent key or null, [`Literal::Any`] for every value.
    pub one_of: Vec<Literal>,
    /// Where it is written.
    pub place: Place,
}

/// A value as configurations hold them.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// Absent or null.
    None,
    /// Whatever it is: the graph means something that the key does not change.
    Any,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Literal>),
}

/// A weight: what the operators read it as, and the tensors of the checkpoint it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// What it is read as.
    pub role: WeightRole,
    /// The tensors, more than one after fusion: matrices one below the other, vectors end to end.
    pub pieces: Vec<Piece>,
    /// Elements of a row.
    pub columns: Dim,
    /// How many experts have one, for [`WeightRole::Experts`] and [`WeightRole::ExpertVectors`]. A tensor's name then
    /// holds `{expert}`, or it is one tensor whose first axis counts experts.
    pub experts: Option<Dim>,
    /// The block whose layers each have one; `None` for a weight of the whole model.
    pub block: Option<BlockId>,
    /// What a rank holds of the tensors.
    pub part: Part,
    /// Where the graph names it.
    pub place: Place,
}

/// What one of several ranks holds of a tensor. Rank `r` of `n` has the `r`-th of `n` equal stretches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// A stretch of its rows.
    Rows,
    /// A stretch of its columns; of a vector, of its elements.
    Columns,
}

impl Weight {
    /// Its rows: those of all its tensors, of one expert; 1 for a vector.
    pub fn rows(&self) -> Dim {
        match self.role {
            WeightRole::Matrix | WeightRole::Experts | WeightRole::Table => {
                self.pieces.iter().fold(Dim::default(), |rows, piece| rows.plus(&piece.rows))
            }
            WeightRole::Vector | WeightRole::ExpertVectors => Dim::constant(1),
        }
    }

    /// Its elements, those of all experts.
    pub fn elements(&self) -> Dim {
        let matrix = self.rows().times(&self.columns);
        self.experts.as_ref().map_or(matrix.clone(), |experts| experts.times(&matrix))
    }
}

/// How operators read a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightRole {
    /// The right side of a product, `[rows, columns]`, output-major.
    Matrix,
    /// The right sides of products, `[rows, columns]` for each expert, output-major.
    Experts,
    /// A lookup table, `[rows, columns]`.
    Table,
    /// `[columns]`; one row.
    Vector,
    /// `[columns]` for each expert.
    ExpertVectors,
}

/// A tensor of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its full name, such as `model.layers.{layer}.mlp.up_proj.weight`.
    pub tensor: String,
    /// The tensor used instead where the configuration ties the two or this one is absent.
    pub tied: Option<String>,
    /// Its rows; 1 for a vector.
    pub rows: Dim,
    /// Elements of a row: those of the weight, but of a vector made of several only its own part.
    pub columns: Dim,
    /// How the checkpoint holds it.
    pub stored: Stored,
}

/// How a checkpoint holds a tensor, where that is not as the operators read it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stored {
    /// As `[in, out]`.
    pub transposed: bool,
    /// As some rows (of a vector: elements) of a larger tensor.
    pub slice: Option<Slice>,
    /// Less this.
    pub plus: f32,
}

/// Rows of a larger tensor, in sizes of the whole one: where ranks share the weight, each has a stretch of the rows taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// How many rows the tensor has.
    pub of: Dim,
    /// The first one.
    pub from: Dim,
    /// How many rows are taken out of each so many; `None` for one stretch.
    pub stride: Option<(Dim, Dim)>,
}

/// A KV cache that each layer of one block keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its name in the block.
    pub name: String,
    /// The block.
    pub block: BlockId,
    /// Heads of keys and of values.
    pub kv_heads: Dim,
    /// Width of a head of the keys, and of the values where they have no other.
    pub head: Dim,
    /// Width of a head of the values where that is another.
    pub value: Option<Dim>,
    /// Where it is declared.
    pub place: Place,
}

impl Cache {
    /// Width of a head of the values.
    pub fn value(&self) -> &Dim {
        self.value.as_ref().unwrap_or(&self.head)
    }

    /// Elements of keys and values of a token.
    pub fn kept(&self) -> Dim {
        self.kv_heads.times(&self.head.plus(self.value()))
    }

    /// Columns of what attention gives that has so many of queries; `None` where they are no whole heads.
    pub fn given(&self, queries: &Dim) -> Option<Dim> {
        match &self.value {
            None => Some(queries.clone()),
            Some(value) => queries.exact_quotient(&self.head).map(|heads| heads.times(value)),
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Its name in its body.
    pub name: String,
    /// The block it lives in; `None` for the main body.
    pub block: Option<BlockId>,
    /// Its type.
    pub ty: TensorType,
    /// Where it is defined.
    pub place: Place,
}

/// The text of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its name.
    pub name: String,
    /// Prefix of its weights' names, with `{layer}`.
    pub weights: String,
    /// What a layer takes from the one before.
    pub takes: ValueId,
    /// Its nodes, each after those it reads.
    pub nodes: Vec<Node>,
    /// What a layer gives to the next.
    pub gives: ValueId,
    /// Where it is defined.
    pub place: Place,
}

/// One assignment; from stage [`Stage::Split`] on, one nano-operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The name the porter or a pass gave it.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// What it gives. Several nano-operations give different rows of the same value.
    pub outputs: Vec<ValueId>,
    /// The part of the dense batch it does, from stage [`Stage::Split`] on.
    pub range: Option<Range>,
    /// Its stream, from stage [`Stage::Grouped`] on.
    pub stream: Option<StreamId>,
    /// Its own share of the device, in (0, 1]; `None` for its stream's.
    pub share: Option<f32>,
    /// Where it, or what it was made from, is written.
    pub place: Place,
}

/// A part of the dense batch between two cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First cut.
    pub from: PointId,
    /// Last cut.
    pub to: PointId,
}

impl Range {
    /// Whether the two have a row in common for some batch.
    pub fn intersects(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// How a plan cuts the dense batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The inner cuts, in order.
    pub points: Vec<Point>,
    /// Inner cuts are rounded down to a multiple of this many rows.
    pub multiple_of: u32,
}

/// A rule that gives a cut when the batch is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// This share of all rows.
    Share(f32),
    /// This many rows.
    Tokens(u32),
    /// The end of this share of the decode rows.
    DecodeShare(f32),
}

impl Split {
    /// The whole dense batch.
    pub fn whole(&self) -> Range {
        Range { from: PointId::new(0), to: PointId::new(self.points.len() + 1) }
    }

    /// Where a dense batch of `tokens` rows, the first `decode` of them decodes, is cut: by [`PointId`], the first 0 and
    /// the last `tokens`, never falling. The launch functions cut by the same rule (`StepRows::cut` of the runtime).
    pub fn cut(&self, tokens: u32, decode: u32) -> Vec<u32> {
        let multiple_of = self.multiple_of.max(1);
        let mut cuts = vec![0];
        for point in &self.points {
            let at = match *point {
                Point::Share(share) => (tokens as f32 * share) as u32,
                Point::Tokens(tokens) => tokens,
                Point::DecodeShare(share) => (decode as f32 * share) as u32,
            };
            let before = cuts.last().copied().unwrap_or(0);
            cuts.push((at / multiple_of * multiple_of).clamp(before, tokens));
        }
        cuts.push(tokens);
        cuts
    }
}

/// The dim that counts the rows of the dense batch.
pub const TOKENS: &str = "tokens";
/// The dim that counts the rows whose logits are wanted.
pub const SEQS: &str = "seqs";

impl Graph {
    /// A graph with nothing in it yet; what it gives is to be said by whoever fills it.
    pub(crate) fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            stage: Stage::Loaded,
            serves: Vec::new(),
            expects: Vec::new(),
            dims: Table::default(),
            params: Table::default(),
            context: None,
            prefixes: Vec::new(),
            ignores: Vec::new(),
            weights: Table::default(),
            caches: Table::default(),
            values: Table::default(),
            blocks: Table::default(),
            inputs: Vec::new(),
            nodes: Vec::new(),
            gives: ValueId::new(0),
            split: None,
            streams: None,
            schedule: None,
        }
    }

    /// The graph without the places of its parts in any text: two graphs that say the same are equal without places.
    pub fn without_places(mut self) -> Self {
        let nowhere = Place::default();
        self.expects.iter_mut().for_each(|expectation| expectation.place = nowhere);
        self.dims.values_mut().chain(self.params.values_mut()).for_each(|definition| definition.place = nowhere);
        self.weights.values_mut().for_each(|weight| weight.place = nowhere);
        self.caches.values_mut().for_each(|cache| cache.place = nowhere);
        self.values.values_mut().for_each(|value| value.place = nowhere);
        self.nodes.iter_mut().for_each(|node| node.place = nowhere);
        for block in self.blocks.values_mut() {
            block.place = nowhere;
            block.nodes.iter_mut().for_each(|node| node.place = nowhere);
        }
        self
    }

    /// The body of a block, or the main body.
    pub fn body(&self, block: Option<BlockId>) -> &[Node] {
        match block {
            Some(block) => &self.blocks[block].nodes,
            None => &self.nodes,
        }
    }

    /// The body of a block, or the main body, to be rewritten.
    pub fn body_mut(&mut self, block: Option<BlockId>) -> &mut Vec<Node> {
        match block {
            Some(block) => &mut self.blocks[block].nodes,
            None => &mut self.nodes,
        }
    }

    /// The main body and then every block's, by block.
    pub fn bodies(&self) -> impl Iterator<Item = (Option<BlockId>, &[Node])> {
        let blocks = self.blocks.iter().map(|(id, block)| (Some(id), block.nodes.as_slice()));
        std::iter::once((None, self.nodes.as_slice())).chain(blocks)
    }

    /// What the rows of a node's launch are.
    pub fn rows_of(&self, op: &Op) -> RowDomain {
        let first_size = |value: ValueId| self.values[value].ty.shape.first();
        let by_value = |value: ValueId| match first_size(value) {
            Some(size) if *size == Dim::name(SEQS) => RowDomain::Seqs,
            Some(_) | None => RowDomain::Tokens,
        };
        match *op {
            Op::DecodeAttention { .. } => RowDomain::DecodeTokens,
            Op::PrefillAttention { .. } => RowDomain::PrefillTokens,
            Op::Rows { at, .. } => by_value(at),
            Op::Embed { ids: x, .. }
            | Op::RmsNorm { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::Apply { x, .. }
            | Op::Linear { x, .. }
            | Op::Rope { x, .. }
            | Op::Attention { q: x, .. }
            | Op::Join { a: x, .. }
            | Op::Add { a: x, .. }
            | Op::GatedMul { gate: x, .. }
            | Op::Route { x, .. }
            | Op::ExpertLinear { x, .. }
            | Op::Combine { x, .. }
            | Op::Repeat { with: x, .. }
            | Op::KvWrite { k: x, .. }
            | Op::Columns { x, .. }
            | Op::AddRmsNorm { a: x, .. }
            | Op::AllReduce { x, .. }
            | Op::AllGather { x, .. } => by_value(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_rounded_down_and_never_fall() {
        let points = vec![Point::Share(0.5), Point::DecodeShare(0.5), Point::Tokens(300)];
        let split = Split { points, multiple_of: 16 };
        assert_eq!(split.cut(200, 60), [0, 96, 96, 200, 200]);
        assert_eq!(split.cut(1000, 1000), [0, 496, 496, 496, 1000]);
        assert_eq!(split.cut(0, 0), [0, 0, 0, 0, 0]);
    }
}
