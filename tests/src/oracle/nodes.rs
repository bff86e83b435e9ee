//! One node on one rank: what its operator gives.

use trefoil_ir::graph::Node;
use trefoil_ir::ids::{CacheId, ParamId, WeightId};
use trefoil_ir::op::{Function, Op, RopeScaling, Score, Switch};

use super::Oracle;
use super::attention::{self, Scores};
use super::experts::{self, Grouped, Routing};
use super::functions;
use super::matrix::Matrix;
use super::norms;
use super::rank::Rank;
use super::rotary::{self, Rotation, Scaling};

impl Oracle<'_> {
    /// A node that each rank computes by itself.
    pub(super) fn run_alone(&self, node: &Node, rank: &mut Rank) {
        let outputs = self.outputs(node, rank);
        assert_eq!(outputs.len(), node.outputs.len(), "{}", node.name);
        let first_row = rank.rows(node.range).start;
        for (value, output) in node.outputs.iter().zip(outputs) {
            rank.give(*value, first_row, output);
        }
    }

    fn outputs(&self, node: &Node, rank: &mut Rank) -> Vec<Matrix> {
        let rows = rank.rows(node.range);
        let value = |id: &_| rank.value(*id, rows.clone());
        match &node.op {
            Op::Embed { ids, weight } => vec![self.weight(*weight, rank).rows_at(&value(ids).column(0))],
            Op::RmsNorm { x, weight, eps, group } => {
                let group = group.as_ref().map(|group| self.size(group));
                let weight = self.optional_weight(*weight, rank);
                vec![norms::rms_norm(&value(x), weight.as_ref(), self.param(*eps), group)]
            }
            Op::LayerNorm { x, weight, bias, eps, group } => {
                let group = group.as_ref().map(|group| self.size(group));
                let (weight, bias) = (self.optional_weight(*weight, rank), self.optional_weight(*bias, rank));
                vec![norms::layer_norm(&value(x), weight.as_ref(), bias.as_ref(), self.param(*eps), group)]
            }
            Op::Linear { x, weight, bias } => {
                let product = value(x).times_transposed(&self.weight(*weight, rank));
                vec![match bias {
                    Some(bias) => product.plus_row(&self.weight(*bias, rank)),
                    None => product,
                }]
            }
            Op::Rope { x, pos, head, theta, rotary, pairs, scaling } => {
                let scaling = scaling.map_or(Scaling::None, |scaling| self.scaling(scaling));
                let turning = self.size(rotary.as_ref().unwrap_or(head));
                let rotation = Rotation {
                    head: self.size(head),
                    pairs: *pairs,
                    frequencies: rotary::frequencies(turning, self.param(*theta), scaling),
                    attention: scaling.attention(),
                };
                vec![rotary::rope(&value(x), &value(pos).column(0), &rotation)]
            }
            Op::Attention { q, k, v, cache, mask: _, score } => {
                let (widths, scores) = self.scores(*cache, *score, rank);
                vec![attention::attention(&value(q), 0, &value(k), &value(v), widths, &scores)]
            }
            Op::Join { a, b, heads } => {
                let width = self.graph.values[node.outputs[0]].ty.columns().map_or(0, |width| self.size(width));
                vec![join(&value(a), &value(b), self.size(heads), width)]
            }
            Op::Add { a, b } => vec![value(a).zip(&value(b), |a, b| a + b)],
            Op::GatedMul { gate, up, by, limit, shift } => {
                let [limit, shift] = [limit, shift].map(|param| param.map_or(0.0, |param| self.param(param)));
                let by = |x| self.apply(*by, x);
                vec![value(gate).zip(&value(up), |gate, up| functions::gated(gate, up, by, limit, shift))]
            }
            Op::Apply { x, by } => vec![value(x).map(|x| self.apply(*by, x))],
            Op::Route { x, top_k, scoring, renormalize, bias, groups } => {
                let renormalize = match *renormalize {
                    Switch::On => true,
                    Switch::Off => false,
                    Switch::Setting(param) => self.param(param) != 0.0,
                };
                let bias = bias.map(|bias| self.weight(bias, rank).elements().to_vec());
                let groups = groups.as_ref().map(|groups| {
                    let (_, [of, top]) = groups.parts();
                    let [of, top] = [of, top].map(|(_, size)| self.size(size));
                    Grouped { of, top, counted: groups.counted() as usize }
                });
                let routing = Routing { top_k: self.size(top_k), scoring: *scoring, renormalize, bias, groups };
                self.closest_choice.set(self.closest_choice.get().min(experts::closest_choice(&value(x), &routing)));
                experts::route(&value(x), &routing).into()
            }
            Op::ExpertLinear { x, experts, weight, bias } => {
                let weights = self.weights_of_experts(*weight, rank);
                let biases = bias.map(|bias| self.weights_of_experts(bias, rank));
                vec![experts::product(&value(x), &value(experts), &weights, biases.as_deref())]
            }
            Op::Combine { x, shares } => vec![experts::combine(&value(x), &value(shares))],
            Op::Rows { x, at } => vec![rank.whole(*x).rows_at(&rank.whole(*at).column(0))],
            Op::KvWrite { k, v, cache } => {
                let (k, v) = (value(k), value(v));
                rank.keep(*cache, rows.start, k, v);
                vec![]
            }
            // One whole prefill: there are no decode rows, and the prefill attention gives all of the value.
            Op::DecodeAttention { q, cache, score, .. } => {
                let ((head, width), _) = self.scores(*cache, *score, rank);
                vec![value(q).map_rows(|_, row| vec![0.0; row.len() / head * width])]
            }
            Op::PrefillAttention { q, cache, mask: _, score } => {
                let (widths, scores) = self.scores(*cache, *score, rank);
                let (k, v) = rank.kept(*cache);
                vec![attention::attention(&value(q), rows.start, k, v, widths, &scores)]
            }
            Op::Columns { x, from, width } => vec![value(x).columns(self.size(from), self.size(width))],
            Op::AddRmsNorm { a, b, weight, eps } => {
                let sum = value(a).zip(&value(b), |a, b| a + b);
                let normed = norms::rms_norm(&sum, Some(&self.weight(*weight, rank)), self.param(*eps), None);
                vec![sum, normed]
            }
            Op::Repeat { .. } | Op::AllReduce { .. } | Op::AllGather { .. } => {
                unreachable!("`{}` is for all ranks together", node.name)
            }
        }
    }

    fn optional_weight(&self, weight: Option<WeightId>, rank: &Rank) -> Option<Matrix> {
        weight.map(|weight| self.weight(weight, rank))
    }

    fn apply(&self, function: Function, x: f64) -> f64 {
        functions::apply(function, |setting| self.param(setting), x)
    }

    /// Widths of a head of keys and of values, and how attention scores.
    fn scores(&self, cache: CacheId, score: Score, rank: &Rank) -> ((usize, usize), Scores) {
        let cache = &self.graph.caches[cache];
        let (head, value) = (self.size(&cache.head), self.size(cache.value.as_ref().unwrap_or(&cache.head)));
        let setting = |param: Option<ParamId>, without: f64| param.map_or(without, |param| self.param(param));
        let scores = Scores {
            scale: setting(score.scale, 1.0 / (head as f64).sqrt()),
            softcap: setting(score.softcap, 0.0),
            window: setting(score.window, 0.0) as usize,
            sinks: score.sinks.map(|sinks| self.weight(sinks, rank).elements().to_vec()),
            alibi: score.alibi,
        };
        ((head, value), scores)
    }

    fn scaling(&self, scaling: RopeScaling) -> Scaling {
        match scaling {
            RopeScaling::Linear { factor } => Scaling::Linear { factor: self.param(factor) },
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => Scaling::Llama3 {
                factor: self.param(factor),
                low: self.param(low_freq_factor),
                high: self.param(high_freq_factor),
                context: self.param(original_context),
            },
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention, truncate } => {
                Scaling::Yarn {
                    factor: self.param(factor),
                    fast: self.param(beta_fast),
                    slow: self.param(beta_slow),
                    context: self.param(original_context),
                    attention: self.param(attention),
                    truncate: self.param(truncate) != 0.0,
                }
            }
        }
    }
}

/// Of each head the columns of `a`, then those of `b`, or all of `b` where its heads leave no other room in the result.
fn join(a: &Matrix, b: &Matrix, heads: usize, width: usize) -> Matrix {
    let first = a.num_columns() / heads;
    let second = width / heads - first;
    let is_shared = b.num_columns() == second;
    a.map_rows(|number, row| {
        let of_b = |head: usize| if is_shared { 0 } else { head * second };
        let heads = row.chunks(first).enumerate();
        heads.flat_map(|(head, own)| [own, &b.row(number)[of_b(head)..of_b(head) + second]].concat()).collect()
    })
}
