//! Plans: how a graph is cut, placed and ordered, for one mix of decode and prefill rows.
//!
//! ```ron
//! Plan(
//!     suits: (min_tokens: 256, min_decode: 32),   // the batches it is made for
//!     points: [Share(0.5)],                       // inner cuts: Share(f), Tokens(n) or DecodeShare(f), rising
//!     multiple_of: 128,                           // inner cuts are rounded down to this many rows; 1 if left out
//!     cuts: { "*": [1], "o": [] },                // which points cut what: all layers' nodes, an operator, or a node
//!     streams: [Stream(name: "compute", group: Compute, share: 1.0)],
//!     place: { "KvWrite": "compute" },            // the stream of an operator or node; else by its resource
//!     order: Overlap,                             // AsWritten, Overlap, or Listed({ "decoder": ["n1#0", …] })
//!     shares: { "qkv": 0.4, "down#1": 0.9 },      // shares of the device, where they are not those of the streams
//!     device: "a100-80g-x8",                      // the device it is made for; any, if left out
//!     ranks: 8,                                   // how many devices share the model; any number, if left out
//!     gather: { "o": [0] },                       // nano-operations that gather rather than sum: see `shard`
//! )
//! ```
//!
//! A rule for a node wins over one for its operator, and that over `"*"`. A plan applies to any graph, so it may speak
//! of operators that a graph lacks; a node that a graph lacks is a mistake.
//!
//! `device` names a profile. A device runs the plans that name none and those for a profile of its kind, which the
//! profile's name begins with: the CPU takes `cpu-local`, and `h200-141g` is not for it.
//!
//! `ranks` makes a model of its own out of graph and plan, and such a model has every plan that names no ranks too.
//!
//! | code | mistake |
//! |---|---|
//! | T1001 | the file is not a plan: not RON, or a field that is missing, unknown or of another kind |
//! | T1002 | a point outside the batch: a share outside (0, 1], or no tokens |
//! | T1003 | a point that does not come after the one before it |
//! | T1004 | a cut at a point the plan does not have, or cuts that do not rise |
//! | T1005 | no stream, two of one name, or a share outside (0, 1] |
//! | T1006 | a name that stands twice |
//! | T1007 | a stream that the plan does not have |
//! | T1008 | `multiple_of: 0` |
//! | T1009 | something listed that is not written `node#number` |
//! | T1010 | a share outside (0, 1], or no ranks |
//! | T1101 | a rule for something that is neither operator nor node of the graph |
//! | T1102 | an order for a body that the graph does not have |
//! | T1103 | a launch in the order that the graph does not have |
//! | T1104 | a launch missing in the order |
//! | T1105 | a launch that stands twice in the order |
//! | T1106 | a launch listed before one that it needs |
//! | T1107 | a gathering nano-operation that the graph does not have |

mod read;
mod write;

use std::fmt;

use trefoil_ir::diag::{Diagnostic, Place, meant};
use trefoil_ir::graph::{Graph, Node, Point};
use trefoil_ir::ids::{PointId, StreamId};
use trefoil_ir::schedule::Streams;

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// File name without its ending.
    pub name: String,
    /// The batches it is made for.
    pub suits: Suits,
    /// The profile of the device it is made for; `None` for any.
    pub device: Option<String>,
    /// How many ranks share the model; `None` for any number.
    pub ranks: Option<u32>,
    /// Inner cuts of the dense batch, rising.
    pub points: Vec<Point>,
    /// Inner cuts are rounded down to a multiple of this many rows.
    pub multiple_of: u32,
    /// Which of the points cut which nodes.
    pub cuts: Vec<Rule<Vec<PointId>>>,
    /// The streams.
    pub streams: Streams,
    /// The streams of the nodes that do not go where their resource says.
    pub place: Vec<Rule<StreamId>>,
    /// The order of the launches.
    pub order: Order,
    /// The shares of launches that do not have their stream's.
    pub shares: Vec<Share>,
    /// The nano-operations that gather what they read and give, by their numbers.
    pub gather: Vec<Rule<Vec<usize>>>,
}

/// A share of the device for some launches.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Which nodes.
    pub of: Target,
    /// Which of their nano-operations; `None` for all.
    pub nano: Option<usize>,
    /// The share, in (0, 1].
    pub share: f32,
    /// Where in the plan's file it stands.
    pub place: Place,
}

/// The batches a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suits {
    /// At least so many rows in all.
    pub min_tokens: u32,
    /// At least so many decode rows.
    pub min_decode: u32,
    /// At most so many rows in all; `None` for any number.
    pub max_tokens: Option<u32>,
    /// At most so many decode rows; `None` for any number.
    pub max_decode: Option<u32>,
}

/// A decision about some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<T> {
    /// Which.
    pub of: Target,
    /// The decision.
    pub value: T,
    /// Where in the plan's file it stands.
    pub place: Place,
}

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `"*"`.
    Everything,
    /// An operator or a node.
    Named(String),
}

impl Target {
    /// Whether it is `"*"`.
    pub fn is_everything(&self) -> bool {
        *self == Target::Everything
    }

    /// How well it fits the node, `None` where it does not: a node's name fits better than its operator's.
    fn fit(&self, node: &Node) -> Option<u8> {
        match self {
            Target::Everything => Some(0),
            Target::Named(name) if *name == node.name => Some(2),
            Target::Named(name) => (name == node.op.name()).then_some(1),
        }
    }
}

/// The order in which the host puts down launches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// That of the graph's text, nano-operation after nano-operation.
    AsWritten,
    /// One in which streams keep each other busy.
    Overlap,
    /// The one written here, for the bodies listed; the others stay as written.
    Listed(Vec<List>),
}

/// The order of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// A block's name, or `main`.
    pub body: String,
    /// Its launches.
    pub launches: Vec<LaunchName>,
    /// Where it stands.
    pub place: Place,
}

/// A nano-operation by name: `qkv#0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchName {
    /// The node.
    pub node: String,
    /// Its number among those of its node, from 0.
    pub nano: usize,
    /// Where it stands.
    pub place: Place,
}

impl fmt::Display for LaunchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.nano)
    }
}

impl Plan {
    /// Reads the plan `name` from the text of its file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it as far as it can be known without a graph, in the order of the text.
    pub fn load(name: &str, source: &str) -> Result<Self, Vec<Diagnostic>> {
        read::plan(name, source)
    }
}

impl Plan {
    /// The share that the plan gives a nano-operation of a node: by number, else by name, else by operator.
    pub(crate) fn share_of(&self, node: &Node, nano: usize) -> Option<f32> {
        let fit = |share: &Share| {
            let by_node = share.of.fit(node)?;
            let by_number = share.nano.is_none_or(|own| own == nano);
            by_number.then_some((share.nano.is_some(), by_node))
        };
        let fitting = self.shares.iter().filter_map(|share| fit(share).map(|fit| (fit, share.share)));
        fitting.min_by_key(|(fit, _)| std::cmp::Reverse(*fit)).map(|(_, share)| share)
    }
}

/// The rule that fits a node best; of two that fit equally well, the first.
pub(crate) fn most_specific<'a, T: 'a>(rules: impl Iterator<Item = &'a Rule<T>>, node: &Node) -> Option<&'a Rule<T>> {
    let fitting = rules.filter_map(|rule| rule.of.fit(node).map(|fit| (fit, rule)));
    fitting.min_by_key(|(fit, _)| std::cmp::Reverse(*fit)).map(|(_, rule)| rule)
}

/// The operators that plans may speak of, whether or not a graph has them.
pub(crate) const OPERATORS: [&str; 21] = [
    "Embed",
    "RmsNorm",
    "LayerNorm",
    "Linear",
    "Rope",
    "Join",
    "Add",
    "GatedMul",
    "Apply",
    "Route",
    "ExpertLinear",
    "Combine",
    "Rows",
    "KvWrite",
    "DecodeAttention",
    "PrefillAttention",
    "Columns",
    "Repeat",
    "AddRmsNorm",
    "AllReduce",
    "AllGather",
];

/// Rules for names that are neither operators nor nodes of the graph.
pub(crate) fn unknown_targets<T>(rules: &[Rule<T>], graph: &Graph) -> Vec<Diagnostic> {
    unknown(rules.iter().map(|rule| (&rule.of, rule.place)), graph)
}

/// Names that are neither operators nor nodes of the graph, with the places that name them.
pub(crate) fn unknown<'a>(targets: impl Iterator<Item = (&'a Target, Place)>, graph: &Graph) -> Vec<Diagnostic> {
    let nodes: Vec<_> = graph.bodies().flat_map(|(_, body)| body).map(|node| node.name.as_str()).collect();
    let mistake = |(of, place): (&Target, Place)| {
        let Target::Named(name) = of else { return None };
        let names = nodes.iter().copied().chain(OPERATORS);
        if names.clone().any(|known| known == name) {
            return None;
        }
        let message = format!("`{name}` is neither an operator nor a node of `{}`", graph.name);
        Some(Diagnostic::new("T1101", place, message).help(suggestion(name, names)))
    };
    targets.filter_map(mistake).collect()
}

/// A help line: the name most like `found`, or all there are.
pub(crate) fn suggestion<'a>(found: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = meant(found, &names.clone().collect::<Vec<_>>()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|name| seen.insert(name.clone()));
    format!("there is {}", all.join(", "))
}
