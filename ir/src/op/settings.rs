//! What operators are told beside their operands.

use crate::dim::Dim;
use crate::graph::Literal;
use crate::ids::{ParamId, WeightId};

/// Which positions of its sequence a row attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Its own and all before it.
    Causal,
}

/// How attention makes scores of queries and keys: `scale * q·k`, capped, with its bias, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Score {
    /// Multiplies each product; `None` for `1 / sqrt(head)`.
    pub scale: Option<ParamId>,
    /// `cap * tanh(score / cap)` (Gemma 2); 0 for none.
    pub softcap: Option<ParamId>,
    /// How many positions a row sees, its own included; 0 for all before it.
    pub window: Option<ParamId>,
    /// `[heads]`: one more logit in each head's softmax, for which no value stands (GPT-OSS).
    pub sinks: Option<WeightId>,
    /// Adds `slope(head) * (key's position - row's)` (Press et al. 2022, "ALiBi").
    pub alibi: bool,
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `x`.
    Identity,
    /// `x * sigmoid(x)`.
    Silu,
    /// Gaussian error linear unit (Hendrycks & Gimpel 2016), exact form.
    Gelu,
    /// Gaussian error linear unit, tanh form.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x * sigmoid(slope * x)`.
    Swish(ParamId),
    /// `by * x`.
    Scale(ParamId),
    /// `cap * tanh(x / cap)`; `x` for a cap of 0.
    SoftCap(ParamId),
    /// `x`, but at least `-limit` and at most `limit`; `x` for a limit of 0.
    Clamp(ParamId),
}

impl Function {
    /// Its name, and its setting where it has one.
    pub fn parts(self) -> (&'static str, Option<ParamId>) {
        match self {
            Function::Identity => ("Identity", None),
            Function::Silu => ("Silu", None),
            Function::Gelu => ("Gelu", None),
            Function::GeluTanh => ("GeluTanh", None),
            Function::Relu => ("Relu", None),
            Function::ReluSquared => ("ReluSquared", None),
            Function::Sigmoid => ("Sigmoid", None),
            Function::Tanh => ("Tanh", None),
            Function::Swish(slope) => ("Swish", Some(slope)),
            Function::Scale(by) => ("Scale", Some(by)),
            Function::SoftCap(cap) => ("SoftCap", Some(cap)),
            Function::Clamp(limit) => ("Clamp", Some(limit)),
        }
    }

    /// The function of this name; `None` for another name, or with a setting where it has none or the other way round.
    pub fn from_parts(name: &str, setting: Option<ParamId>) -> Option<Self> {
        match (name, setting) {
            ("Identity", None) => Some(Function::Identity),
            ("Silu", None) => Some(Function::Silu),
            ("Gelu", None) => Some(Function::Gelu),
            ("GeluTanh", None) => Some(Function::GeluTanh),
            ("Relu", None) => Some(Function::Relu),
            ("ReluSquared", None) => Some(Function::ReluSquared),
            ("Sigmoid", None) => Some(Function::Sigmoid),
            ("Tanh", None) => Some(Function::Tanh),
            ("Swish", Some(slope)) => Some(Function::Swish(slope)),
            ("Scale", Some(by)) => Some(Function::Scale(by)),
            ("SoftCap", Some(cap)) => Some(Function::SoftCap(cap)),
            ("Clamp", Some(limit)) => Some(Function::Clamp(limit)),
            _ => None,
        }
    }
}

/// How a router turns logits into scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// `exp(x) / Σ exp(x)` over all experts.
    Softmax,
    /// `1 / (1 + exp(-x))` of each expert alone.
    Sigmoid,
}

/// Experts in `of` equal groups, the first ones the first, of which a row goes to the `top` best; of groups as good as
/// each other to the first. A group is as good as its experts' scores, each with its bias, make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// As its best expert (DeepSeek-V2, `group_limited_greedy`).
    Best {
        /// How many groups.
        of: Dim,
        /// How many of them are chosen from.
        top: Dim,
    },
    /// As its two best experts together (DeepSeek-V3, `noaux_tc`).
    BestTwo {
        /// How many groups.
        of: Dim,
        /// How many of them are chosen from.
        top: Dim,
    },
}

impl Groups {
    /// Its name, and its sizes with the field each stands in.
    pub fn parts(&self) -> (&'static str, [(&'static str, &Dim); 2]) {
        match self {
            Groups::Best { of, top } => ("Best", [("of", of), ("top", top)]),
            Groups::BestTwo { of, top } => ("BestTwo", [("of", of), ("top", top)]),
        }
    }

    /// How many experts of a group say how good it is.
    pub fn counted(&self) -> u64 {
        match self {
            Groups::Best { .. } => 1,
            Groups::BestTwo { .. } => 2,
        }
    }
}

/// Yes, no, or what a setting says: 0 for no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
    /// Unless the setting is 0.
    Setting(ParamId),
}

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pairs {
    /// Element `i` of the first half with element `i` of the second (Hugging Face's Llama).
    #[default]
    Halves,
    /// Elements `2i` and `2i + 1` (Su et al. 2021; GPT-J).
    Adjacent,
}

/// Scaling of rotary frequencies; the settings are params, so that a config without scaling gives neutral values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeScaling {
    /// `rope_type: linear`: all frequencies divided by `factor` (Chen et al. 2023). Neutral at `factor` 1.
    Linear {
        /// Divides frequencies.
        factor: ParamId,
    },
    /// `rope_type: llama3`: low frequencies divided by `factor`, high ones kept, a linear blend between
    /// (Llama 3.1; `_compute_llama3_parameters` of Hugging Face transformers). Neutral at `factor` 1.
    Llama3 {
        /// Divides low frequencies.
        factor: ParamId,
        /// Wavelengths above `original_context / low_freq_factor` are scaled fully.
        low_freq_factor: ParamId,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: ParamId,
        /// Context the model was first trained for, in tokens.
        original_context: ParamId,
    },
    /// `rope_type: yarn` (Peng et al. 2023; `_compute_yarn_parameters` of Hugging Face transformers). Neutral at
    /// `factor` 1 and `attention` 1.
    Yarn {
        /// Divides low frequencies.
        factor: ParamId,
        /// Frequencies that turn more often than this within the original context are kept.
        beta_fast: ParamId,
        /// Those that turn less often are divided.
        beta_slow: ParamId,
        /// Context the model was first trained for, in tokens.
        original_context: ParamId,
        /// Multiplies what is rotated.
        attention: ParamId,
        /// Whether the two ends of the blend are rounded to whole frequencies; 0 for no.
        truncate: ParamId,
    },
}

impl RopeScaling {
    /// Its name, and its settings by theirs.
    pub fn parts(self) -> (&'static str, Vec<(&'static str, ParamId)>) {
        match self {
            RopeScaling::Linear { factor } => ("Linear", vec![("factor", factor)]),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => (
                "Llama3",
                vec![
                    ("factor", factor),
                    ("low_freq_factor", low_freq_factor),
                    ("high_freq_factor", high_freq_factor),
                    ("original_context", original_context),
                ],
            ),
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention, truncate } => (
                "Yarn",
                vec![
                    ("factor", factor),
                    ("beta_fast", beta_fast),
                    ("beta_slow", beta_slow),
                    ("original_context", original_context),
                    ("attention", attention),
                    ("truncate", truncate),
                ],
            ),
        }
    }
}

/// Which text each layer of a repeat has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pattern {
    /// One period, as positions in the repeat's blocks: layers go through it again and again.
    pub cycle: Vec<usize>,
    /// Keys of the config with a list of the layers' kinds, in place of the cycle where one of them exists.
    pub keys: Vec<String>,
    /// The position in the repeat's blocks of each kind.
    pub kinds: Vec<(Literal, usize)>,
}

impl Pattern {
    /// Layers that go through all of `num_blocks` blocks in turn.
    pub fn in_turn(num_blocks: usize) -> Self {
        Self { cycle: (0..num_blocks).collect(), ..Self::default() }
    }

    /// Without a list: the position in the repeat's blocks of layer number `layer`.
    pub fn turn(&self, layer: usize) -> usize {
        if self.cycle.is_empty() { 0 } else { self.cycle[layer % self.cycle.len()] }
    }
}

/// Orders of layers that show every neighbourhood of three that any order of `num_blocks` texts has: all short ones,
/// and one in which each three texts follow each other somewhere (de Bruijn 1946).
///
/// ```
/// assert_eq!(trefoil_ir::op::layer_orders(1), [vec![0], vec![0, 0], vec![0, 0, 0]]);
/// let orders = trefoil_ir::op::layer_orders(2);
/// assert!(orders.iter().any(|order| order.windows(3).any(|three| three == [1, 0, 1])));
/// ```
pub fn layer_orders(num_blocks: usize) -> Vec<Vec<usize>> {
    const NEIGHBOURS: usize = 3;
    let mut orders: Vec<Vec<usize>> = vec![];
    let mut shorter = vec![vec![]];
    for _ in 0..NEIGHBOURS {
        let longer = |order: &Vec<usize>| (0..num_blocks).map(|last| [order.as_slice(), &[last]].concat()).collect();
        shorter = shorter.iter().flat_map::<Vec<Vec<usize>>, _>(longer).collect();
        orders.extend(shorter.iter().cloned());
    }
    if num_blocks > 1 {
        orders.push(every_three(num_blocks));
    }
    orders
}

/// Greedy: always the highest text that makes three not seen before; begins and ends with the lowest.
fn every_three(num_blocks: usize) -> Vec<usize> {
    let mut order = vec![0, 0, 0];
    loop {
        let next = (0..num_blocks).rev().find(|next| {
            let three = [order[order.len() - 2], order[order.len() - 1], *next];
            !order.windows(3).any(|seen| seen == three)
        });
        match next {
            Some(next) => order.push(next),
            None => return order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_three_texts_follow_each_other() {
        for num_blocks in 1..5 {
            let orders = layer_orders(num_blocks);
            let longest = orders.iter().max_by_key(|order| order.len()).unwrap();
            let mut threes: Vec<_> = longest.windows(3).collect();
            threes.sort_unstable();
            threes.dedup();
            assert_eq!(threes.len(), num_blocks.pow(3), "{longest:?}");
        }
    }

    #[test]
    fn functions_go_by_their_names() {
        use crate::ids::Id;
        let setting = ParamId::new(1);
        for name in ["Identity", "Silu", "Gelu", "GeluTanh", "Relu", "ReluSquared", "Sigmoid", "Tanh"] {
            assert_eq!(Function::from_parts(name, None).unwrap().parts(), (name, None));
            assert_eq!(Function::from_parts(name, Some(setting)), None);
        }
        for name in ["Swish", "Scale", "SoftCap", "Clamp"] {
            assert_eq!(Function::from_parts(name, Some(setting)).unwrap().parts(), (name, Some(setting)));
            assert_eq!(Function::from_parts(name, None), None);
        }
    }
}
