//! The oracle: a plain interpreter of graphs, for one sequence, in f64.
//!
//! It goes through a graph node by node, without streams or pages. It runs graphs from stage Loaded to stage Grouped, so
//! that a pass can be checked by its meaning and a device by its results. It shares no arithmetic with the kernels.
//!
//! A nano-operation computes the rows of its range; rows that nobody gave are NaN, and so is what is made of them. A
//! graph that is divided among ranks runs as all of them in lockstep: each node on every rank, then the next node.

mod attention;
mod experts;
mod functions;
mod matrix;
mod nodes;
mod norms;
mod rank;
mod rotary;
mod tensors;
mod weights;

use std::cell::Cell;

use serde_json::Value;
use trefoil::config::lookup;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::{BlockId, ParamId, ValueId};
use trefoil_ir::op::Op;

pub use matrix::Matrix;
pub use tensors::Tensors;

use rank::{Rank, cuts};

/// A graph with the sizes and weights to run it.
pub struct Oracle<'a> {
    graph: &'a Graph,
    sizes: Bound,
    tied: bool,
    tensors: &'a Tensors,
    /// What stands before the name of every tensor.
    prefix: String,
    /// Of all routers since the logits were last asked for.
    closest_choice: Cell<f64>,
}

impl<'a> Oracle<'a> {
    /// An oracle for `graph` at the configuration `config`, with the weights `tensors`.
    ///
    /// # Panics
    /// If the graph does not serve the configuration: this is a test's tool.
    pub fn new(graph: &'a Graph, config: &Value, tensors: &'a Tensors) -> Self {
        let sizes = sizes(graph, config);
        let prefix = tensors.prefix(graph, &sizes);
        let tied = config["tie_word_embeddings"] == Value::Bool(true);
        Self { graph, sizes, tied, tensors, prefix, closest_choice: Cell::new(f64::INFINITY) }
    }

    /// Whether arithmetic in 32 bits could send a row of the last sequence to another expert: no logits can be compared
    /// then.
    pub fn is_undecided(&self) -> bool {
        self.closest_choice.get() < 1e-5
    }

    /// The logits of every row, `[tokens, vocab]`.
    ///
    /// # Panics
    /// Where the graph has not been verified, a tensor is missing, or ranks do not agree: this is a test's tool.
    pub fn logits(&self, tokens: &[u32]) -> Matrix {
        self.closest_choice.set(f64::INFINITY);
        let cuts = cuts(self.graph, tokens.len());
        let mut ranks: Vec<_> = (0..self.num_ranks()).map(|number| Rank::new(number, cuts.clone())).collect();
        for &input in &self.graph.inputs {
            let numbers: Vec<f64> = match self.graph.values[input].name.as_str() {
                "ids" => tokens.iter().map(|&token| f64::from(token)).collect(),
                "pos" | "last" => (0..tokens.len()).map(|row| row as f64).collect(),
                other => panic!("the oracle does not know the input {other}"),
            };
            let column = Matrix::new(numbers.len(), 1, numbers);
            ranks.iter_mut().for_each(|rank| rank.give(input, 0, column.clone()));
        }
        self.run(&self.graph.nodes, &mut ranks);
        let logits: Vec<_> = ranks.iter().map(|rank| rank.whole(self.graph.gives)).collect();
        assert!(logits.iter().all(|own| own.is_same(&logits[0])), "the ranks give different logits");
        logits[0].clone()
    }

    /// How many ranks share the model: those that collectives are among.
    fn num_ranks(&self) -> usize {
        let nodes = self.graph.bodies().flat_map(|(_, body)| body);
        let among = |node: &Node| match &node.op {
            Op::AllReduce { ranks, .. } | Op::AllGather { ranks, .. } => Some(self.size(ranks)),
            Op::Embed { .. }
            | Op::RmsNorm { .. }
            | Op::LayerNorm { .. }
            | Op::Linear { .. }
            | Op::Rope { .. }
            | Op::Attention { .. }
            | Op::Join { .. }
            | Op::Add { .. }
            | Op::GatedMul { .. }
            | Op::Apply { .. }
            | Op::Rows { .. }
            | Op::Repeat { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::Route { .. }
            | Op::ExpertLinear { .. }
            | Op::Combine { .. }
            | Op::AddRmsNorm { .. } => None,
        };
        nodes.filter_map(among).max().unwrap_or(1)
    }

    fn run(&self, nodes: &[Node], ranks: &mut [Rank]) {
        for node in nodes {
            match &node.op {
                Op::Repeat { with, .. } => {
                    let given = self.repeat(self.layers(node), *with, ranks);
                    ranks.iter_mut().zip(given).for_each(|(rank, given)| rank.give(node.outputs[0], 0, given));
                }
                Op::AllReduce { x, .. } => exchange(node, *x, ranks, |all, own| all.zip(own, |a, b| a + b)),
                Op::AllGather { x, .. } => exchange(node, *x, ranks, Matrix::beside),
                Op::Embed { .. }
                | Op::RmsNorm { .. }
                | Op::LayerNorm { .. }
                | Op::Apply { .. }
                | Op::Linear { .. }
                | Op::Rope { .. }
                | Op::Attention { .. }
                | Op::Join { .. }
                | Op::Add { .. }
                | Op::GatedMul { .. }
                | Op::Rows { .. }
                | Op::KvWrite { .. }
                | Op::DecodeAttention { .. }
                | Op::PrefillAttention { .. }
                | Op::Columns { .. }
                | Op::Route { .. }
                | Op::ExpertLinear { .. }
                | Op::Combine { .. }
                | Op::AddRmsNorm { .. } => ranks.iter_mut().for_each(|rank| self.run_alone(node, rank)),
            }
        }
    }

    /// The texts of a repeat's layers.
    fn layers(&self, repeat: &Node) -> &[BlockId] {
        let repeats = self.graph.nodes.iter().filter(|node| matches!(node.op, Op::Repeat { .. }));
        let number = repeats.take_while(|node| node.outputs != repeat.outputs).count();
        &self.sizes.repeats[number]
    }

    fn repeat(&self, layers: &[BlockId], with: ValueId, ranks: &mut [Rank]) -> Vec<Matrix> {
        let mut carried: Vec<_> = ranks.iter().map(|rank| rank.whole(with)).collect();
        for &id in layers {
            let block = &self.graph.blocks[id];
            for (rank, carried) in ranks.iter_mut().zip(carried) {
                rank.forget(|value| self.graph.values[value].block == Some(id));
                rank.give(block.takes, 0, carried);
            }
            self.run(&block.nodes, ranks);
            carried = ranks.iter().map(|rank| rank.whole(block.gives)).collect();
            ranks.iter_mut().for_each(|rank| rank.layer += 1);
        }
        carried
    }

    fn size(&self, dim: &Dim) -> usize {
        self.sizes.size(dim).unwrap_or_else(|| panic!("{dim} has no size")) as usize
    }

    fn param(&self, param: ParamId) -> f64 {
        self.sizes.params[&self.graph.params[param].name]
    }
}

/// What the ranks make of their values together, `join` taking them one after the other.
fn exchange(node: &Node, x: ValueId, ranks: &mut [Rank], join: impl Fn(&Matrix, &Matrix) -> Matrix) {
    let rows = ranks[0].rows(node.range);
    let own: Vec<_> = ranks.iter().map(|rank| rank.value(x, rows.clone())).collect();
    let all = own[1..].iter().fold(own[0].clone(), |all, own| join(&all, own));
    ranks.iter_mut().for_each(|rank| rank.give(node.outputs[0], rows.start, all.clone()));
}

/// A graph's sizes at a configuration.
fn sizes(graph: &Graph, config: &Value) -> Bound {
    bind(graph, &|key: &str| lookup(config, key)).unwrap_or_else(|faults| panic!("{faults:?}"))
}
