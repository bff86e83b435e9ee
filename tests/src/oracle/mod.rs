//! The oracle: a plain interpreter of graphs, for one sequence, in f64.
//!
//! It goes through a graph node by node and computes whole matrices, without fusion, cutting, streams or pages. It runs
//! graphs at the stages Loaded and Lowered (and what `fuse` makes of them), so that a pass can be checked by its
//! meaning and a device by its results. It shares no arithmetic with the kernels.

mod arithmetic;
mod experts;
mod matrix;
mod tensors;

use std::collections::BTreeMap;

use serde_json::Value;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{Graph, Literal, Node, Weight};
use trefoil_ir::ids::{BlockId, CacheId, ParamId, ValueId, WeightId};
use trefoil_ir::op::{Op, RopeScaling};

pub use matrix::Matrix;
pub use tensors::Tensors;

use arithmetic::Scaling;

/// A graph with the sizes and weights to run it.
pub struct Oracle<'a> {
    graph: &'a Graph,
    sizes: Bound,
    tied: bool,
    tensors: &'a Tensors,
}

/// What a run has computed so far.
#[derive(Default)]
struct State {
    values: BTreeMap<ValueId, Matrix>,
    caches: BTreeMap<(CacheId, usize), (Matrix, Matrix)>,
    layer: usize,
}

impl<'a> Oracle<'a> {
    /// An oracle for `graph` at the configuration `config`, with the weights `tensors`.
    ///
    /// # Panics
    /// If the graph does not serve the configuration: this is a test's tool.
    pub fn new(graph: &'a Graph, config: &Value, tensors: &'a Tensors) -> Self {
        let sizes = bind(graph, &|key: &str| literal(config, key)).unwrap_or_else(|faults| panic!("{faults:?}"));
        Self { graph, sizes, tied: config["tie_word_embeddings"] == Value::Bool(true), tensors }
    }

    /// The logits of every row, `[tokens, vocab]`.
    ///
    /// # Panics
    /// Where the graph has not been verified or a tensor is missing: this is a test's tool.
    pub fn logits(&self, tokens: &[u32]) -> Matrix {
        let mut state = State::default();
        for &input in &self.graph.inputs {
            let numbers: Vec<f64> = match self.graph.values[input].name.as_str() {
                "ids" => tokens.iter().map(|&token| f64::from(token)).collect(),
                "pos" | "last" => (0..tokens.len()).map(|row| row as f64).collect(),
                other => panic!("the oracle does not know the input {other}"),
            };
            state.values.insert(input, Matrix::new(numbers.len(), 1, numbers));
        }
        self.run(&self.graph.nodes, &mut state);
        state.values.remove(&self.graph.gives).expect("the graph gives a value of its main body")
    }

    fn run(&self, nodes: &[Node], state: &mut State) {
        for node in nodes {
            let outputs = self.outputs(&node.op, state);
            assert_eq!(outputs.len(), node.outputs.len(), "{}", node.name);
            state.values.extend(node.outputs.iter().copied().zip(outputs));
        }
    }

    fn outputs(&self, op: &Op, state: &mut State) -> Vec<Matrix> {
        let value = |id: &ValueId| &state.values[id];
        match op {
            Op::Embed { ids, weight } => vec![self.weight(*weight, state).rows_at(&value(ids).column(0))],
            Op::RmsNorm { x, weight, eps } => {
                vec![arithmetic::rms_norm(value(x), &self.weight(*weight, state), self.param(*eps))]
            }
            Op::Linear { x, weight, bias } => {
                let product = value(x).times_transposed(&self.weight(*weight, state));
                vec![match bias {
                    Some(bias) => product.plus_row(&self.weight(*bias, state)),
                    None => product,
                }]
            }
            Op::Rope { x, pos, head, theta, scaling } => {
                let frequencies =
                    arithmetic::frequencies(self.size(head), self.param(*theta), scaling.map(|s| self.scaling(s)));
                vec![arithmetic::rope(value(x), &value(pos).column(0), &frequencies)]
            }
            Op::Attention { q, k, v, cache, mask: _ } => {
                let head = self.size(&self.graph.caches[*cache].head);
                vec![arithmetic::attention(value(q), value(k), value(v), head)]
            }
            Op::Add { a, b } => vec![value(a).zip(value(b), |a, b| a + b)],
            Op::GatedMul { gate, up, by } => {
                vec![value(gate).zip(value(up), |gate, up| arithmetic::activate(*by, gate) * up)]
            }
            Op::Route { x, top_k, scoring, renormalize } => {
                experts::route(value(x), self.size(top_k), *scoring, *renormalize).into()
            }
            Op::ExpertLinear { x, experts, weight } => {
                let count = self.graph.weights[*weight].experts.as_ref().expect("a weight that counts its experts");
                let numbers = 0..self.size(count);
                let weights: Vec<_> = numbers.map(|expert| self.weight_of(*weight, state, expert)).collect();
                vec![experts::product(value(x), value(experts), &weights)]
            }
            Op::Combine { x, shares } => vec![experts::combine(value(x), value(shares))],
            Op::Rows { x, at } => vec![value(x).rows_at(&value(at).column(0))],
            Op::Repeat { blocks, times, with } => vec![self.repeat(blocks, self.size(times), *with, state)],
            Op::KvWrite { k, v, cache } => {
                let kept = (value(k).clone(), value(v).clone());
                state.caches.insert((*cache, state.layer), kept);
                vec![]
            }
            // One whole prefill: there are no decode rows, and the prefill attention gives all of the value.
            Op::DecodeAttention { q, .. } => vec![value(q).clone()],
            Op::PrefillAttention { q, cache, mask: _ } => {
                let head = self.size(&self.graph.caches[*cache].head);
                let (k, v) = &state.caches[&(*cache, state.layer)];
                vec![arithmetic::attention(value(q), k, v, head)]
            }
            Op::Columns { x, from, width } => vec![value(x).columns(self.size(from), self.size(width))],
            Op::AddRmsNorm { a, b, weight, eps } => {
                let sum = value(a).zip(value(b), |a, b| a + b);
                let normed = arithmetic::rms_norm(&sum, &self.weight(*weight, state), self.param(*eps));
                vec![sum, normed]
            }
            // The oracle is one rank, and has all columns and the whole sum already.
            Op::AllReduce { x, ranks } | Op::AllGather { x, ranks } => {
                assert_eq!(self.size(ranks), 1, "the oracle interprets graphs of one rank");
                vec![value(x).clone()]
            }
        }
    }

    fn repeat(&self, blocks: &[BlockId], times: usize, with: ValueId, state: &mut State) -> Matrix {
        let mut carried = state.values[&with].clone();
        for turn in 0..times {
            let block = &self.graph.blocks[blocks[turn % blocks.len()]];
            state.values.insert(block.takes, carried);
            self.run(&block.nodes, state);
            carried = state.values[&block.gives].clone();
            state.layer += 1;
        }
        carried
    }

    fn size(&self, dim: &Dim) -> usize {
        self.sizes.size(dim).unwrap_or_else(|| panic!("{dim} has no size")) as usize
    }

    fn param(&self, param: ParamId) -> f64 {
        self.sizes.params[&self.graph.params[param].name]
    }

    fn scaling(&self, scaling: RopeScaling) -> Scaling {
        let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = scaling;
        Scaling {
            factor: self.param(factor),
            low: self.param(low_freq_factor),
            high: self.param(high_freq_factor),
            context: self.param(original_context),
        }
    }

    fn weight(&self, weight: WeightId, state: &State) -> Matrix {
        self.weight_of(weight, state, 0)
    }

    fn weight_of(&self, weight: WeightId, state: &State, expert: usize) -> Matrix {
        let Weight { pieces, columns, .. } = &self.graph.weights[weight];
        let (layer, expert) = (state.layer.to_string(), expert.to_string());
        let in_place = |name: &str| name.replace("{layer}", &layer).replace("{expert}", &expert);
        let stacked: Vec<f64> = pieces
            .iter()
            .flat_map(|piece| {
                let own = in_place(&piece.tensor);
                let tied = piece.tied.as_deref().map(in_place);
                let name = tied.filter(|_| self.tied || !self.tensors.has(&own)).unwrap_or(own);
                self.tensors.get(&name).to_vec()
            })
            .collect();
        let columns = self.size(columns);
        Matrix::new(stacked.len() / columns, columns, stacked)
    }
}

/// The value at a dotted path of a configuration; null counts as absent.
pub fn literal(config: &Value, key: &str) -> Option<Literal> {
    match key.split('.').try_fold(config, |value, key| value.get(key))? {
        Value::Bool(value) => Some(Literal::Bool(*value)),
        Value::Number(value) => value.as_f64().map(Literal::Number),
        Value::String(value) => Some(Literal::Text(value.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
