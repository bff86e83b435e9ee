//! In what a graph differs from a configuration.

use serde_json::Value;
use trefoil::config::lookup;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::diag::{Diagnostic, Place};
use trefoil_ir::dim::Expr;
use trefoil_ir::graph::Graph;
use trefoil_ir::op::Op;
use trefoil_runtime::checkpoint::keys::{self, UnreadKey};

/// One thing that a porter has to decide.
pub(super) struct Difference {
    pub(super) kind: Kind,
    pub(super) at: Spot,
    /// What it is, in a sentence without a full stop.
    pub(super) what: String,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An expectation that does not hold, or sizes that do not go together.
    Value,
    /// A size or setting that no key gives.
    Absent,
    /// A key that changes the mathematics and that nothing reads.
    Unread,
    /// A tensor that the checkpoint lacks.
    Missing,
    /// A tensor that is there in another form.
    Shape,
    /// A tensor that nothing reads.
    Extra,
}

impl Kind {
    pub(super) const ALL: [Kind; 6] =
        [Kind::Value, Kind::Absent, Kind::Unread, Kind::Missing, Kind::Shape, Kind::Extra];

    /// As one or several are counted.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Kind::Value => "of other values",
            Kind::Absent => "of absent keys",
            Kind::Unread => "of unread keys",
            Kind::Missing => "of missing tensors",
            Kind::Shape => "of other shapes",
            Kind::Extra => "of unread tensors",
        }
    }
}

/// Where in the graph's text a difference belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// Above this line, counted from 1.
    Above(u32),
    /// First among the settings.
    Settings,
    /// First among the nodes of the block that begins in this line.
    Block(u32),
    /// First among the nodes of the main body.
    Body,
}

impl Spot {
    pub(super) fn above(place: Place) -> Self {
        if place.line == 0 { Self::Settings } else { Self::Above(place.line) }
    }
}

/// What a configuration has against a graph, and the sizes it gives.
pub(super) struct Found {
    pub(super) differences: Vec<Difference>,
    /// Keys that nothing reads and no table knows.
    pub(super) unknown: Vec<String>,
    /// The sizes that are known all the same.
    pub(super) bound: Bound,
}

/// Holds a graph against a configuration.
pub(super) fn of_config(graph: &Graph, config: &Value) -> Found {
    let (bound, faults) = bind_what_can_be(graph, config);
    let unread = keys::unread(config, &graph.config_keys());
    let differences = faults.iter().map(of_fault).chain(unread.faults.iter().map(of_key)).collect();
    Found { differences, unknown: unread.unknown, bound }
}

fn of_fault(fault: &Diagnostic) -> Difference {
    let kind = if fault.code == "T0601" { Kind::Absent } else { Kind::Value };
    Difference { kind, at: Spot::above(fault.place), what: fault.message.clone() }
}

fn of_key(key: &UnreadKey) -> Difference {
    let meaning = keys::meaning(&key.key).map(|meaning| format!(" (usually {meaning})")).unwrap_or_default();
    Difference { kind: Kind::Unread, at: Spot::Settings, what: format!("{key}{meaning}") }
}

/// The sizes of a graph without what is at fault, and all faults.
fn bind_what_can_be(graph: &Graph, config: &Value) -> (Bound, Vec<Diagnostic>) {
    let mut rest = graph.clone();
    let mut faults = vec![];
    loop {
        let found = match bind(&rest, &|key: &str| lookup(config, key)) {
            Ok(bound) => return (bound, faults),
            Err(found) => found,
        };
        let (without, with): (Vec<_>, Vec<_>) = found.into_iter().partition(|fault| leave_out(&mut rest, fault));
        let is_stuck = without.is_empty();
        faults.extend(without);
        if is_stuck {
            faults.extend(with);
            return (Bound::default(), faults);
        }
    }
}

/// Takes out of a graph what a fault is about; whether there was such a thing.
fn leave_out(graph: &mut Graph, fault: &Diagnostic) -> bool {
    let before = graph.expects.len();
    graph.expects.retain(|expectation| expectation.place != fault.place);
    let mut is_done = graph.expects.len() < before;
    for definition in graph.dims.values_mut().chain(graph.params.values_mut()) {
        if definition.place == fault.place {
            // What a step gives is no number of the model: nothing that is made of it has a value.
            definition.value = Expr::Step;
            is_done = true;
        }
    }
    if fault.place == Place::default() {
        is_done |= graph.context.take().is_some();
    }
    for node in graph.nodes.iter_mut().filter(|node| node.place == fault.place) {
        if let Op::Repeat { pattern, .. } = &mut node.op {
            is_done |= !pattern.keys.is_empty();
            pattern.keys.clear();
        }
    }
    is_done
}
