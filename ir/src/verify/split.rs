//! Rules from stage Split on: T2201 to T2206.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Place};
use crate::graph::{Graph, Node, Point, Range, Split};
use crate::ids::{Id, ValueId};
use crate::op::RowDomain;

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let Some(split) = &graph.split else {
        return vec![Diagnostic::new("T2201", Place::default(), "the graph does not know its cuts")];
    };
    let mut mistakes = points(split);
    for (_, nodes) in graph.bodies() {
        mistakes.extend(nodes.iter().filter_map(|node| range(graph, split, node)));
        mistakes.extend(partitions(graph, split, nodes));
    }
    mistakes
}

fn points(split: &Split) -> Vec<Diagnostic> {
    let outside = |share: f32| share <= 0.0 || share >= 1.0 || share.is_nan();
    let mut wrong = Vec::new();
    for (index, point) in split.points.iter().enumerate() {
        let is_outside = match *point {
            Point::Share(share) => outside(share),
            // The end of all decode rows is a cut too.
            Point::DecodeShare(share) => outside(share) && share != 1.0,
            Point::Tokens(tokens) => tokens == 0,
        };
        if is_outside || split.points[..index].iter().any(|before| !rises(*before, *point)) {
            wrong.push(format!(
                "cut number {}, {point:?}, does not rise above the start and those before it",
                index + 1
            ));
        }
    }
    if split.multiple_of == 0 {
        wrong.push("cuts are rounded to multiples of 0 rows".to_owned());
    }
    wrong.into_iter().map(|message| Diagnostic::new("T2206", Place::default(), message)).collect()
}

/// Whether `b` lies behind `a`, as far as can be said before the batch is known.
fn rises(a: Point, b: Point) -> bool {
    match (a, b) {
        (Point::Share(a), Point::Share(b)) | (Point::DecodeShare(a), Point::DecodeShare(b)) => a < b,
        (Point::Tokens(a), Point::Tokens(b)) => a < b,
        (Point::Share(_) | Point::Tokens(_) | Point::DecodeShare(_), _) => true,
    }
}

fn range(graph: &Graph, split: &Split, node: &Node) -> Option<Diagnostic> {
    let whole = split.whole();
    let mistake = |code, message: &str| Some(Diagnostic::new(code, node.place, format!("`{}` {message}", node.name)));
    let Some(range) = node.range else {
        return if node.op.launches() { mistake("T2201", "has no range") } else { None };
    };
    if range.from >= range.to || range.to > whole.to {
        return mistake("T2202", "has a range that is empty or goes past the last cut");
    }
    if range == whole {
        return None;
    }
    match graph.rows_of(&node.op) {
        _ if !node.op.launches() => mistake("T2205", "does not launch and is cut"),
        RowDomain::Seqs => mistake("T2204", "has a row per sequence and is cut"),
        RowDomain::Tokens | RowDomain::DecodeTokens | RowDomain::PrefillTokens => None,
    }
}

/// Which rows of a value nodes give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    All,
    Decode,
    Prefill,
}

fn partitions(graph: &Graph, split: &Split, nodes: &[Node]) -> Vec<Diagnostic> {
    let mut given: BTreeMap<ValueId, BTreeMap<Part, Vec<Range>>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.op.launches()) {
        for &output in &node.outputs {
            given.entry(output).or_default().entry(part_of(graph, node)).or_default().extend(node.range);
        }
    }
    // A node without a range breaks another rule, and says nothing here.
    for node in nodes.iter().filter(|node| node.op.launches() && node.range.is_none()) {
        node.outputs.iter().for_each(|output| drop(given.remove(output)));
    }
    given.into_iter().filter_map(|(value, parts)| incomplete(graph, split, nodes, value, parts)).collect()
}

fn part_of(graph: &Graph, node: &Node) -> Part {
    match graph.rows_of(&node.op) {
        RowDomain::Tokens | RowDomain::Seqs => Part::All,
        RowDomain::DecodeTokens => Part::Decode,
        RowDomain::PrefillTokens => Part::Prefill,
    }
}

fn incomplete(
    graph: &Graph,
    split: &Split,
    nodes: &[Node],
    value: ValueId,
    parts: BTreeMap<Part, Vec<Range>>,
) -> Option<Diagnostic> {
    let kinds: Vec<_> = parts.keys().copied().collect();
    let covers_all_kinds = kinds == [Part::All] || kinds == [Part::Decode, Part::Prefill];
    let wanted = wanted(graph, split, nodes, value);
    let covers_all_rows = parts.into_values().all(|ranges| covers(ranges, &wanted, split.whole().to.index()));
    let entry = &graph.values[value];
    let message = format!("the nodes that give `{}` leave out rows of it, or give some twice", entry.name);
    (!covers_all_kinds || !covers_all_rows).then(|| Diagnostic::new("T2203", entry.place, message))
}

/// The ranges of a value that must be given: what its readers in the body read, or everything where it leaves the body,
/// where a name for its columns may be read by any, and where nobody reads it.
fn wanted(graph: &Graph, split: &Split, nodes: &[Node], value: ValueId) -> Vec<Range> {
    let leaves = graph.gives == value || graph.blocks.values().any(|block| block.gives == value);
    let readers = nodes.iter().filter(|node| node.op.operands().iter().any(|(_, operand)| *operand == value));
    let readers: Vec<_> = readers.collect();
    let by_own_rows = |node: &&Node| {
        let picks = matches!(node.op, crate::op::Op::Rows { .. });
        node.op.launches() && !picks && graph.rows_of(&node.op) != RowDomain::Seqs
    };
    if leaves || readers.is_empty() || !readers.iter().all(by_own_rows) {
        return vec![split.whole()];
    }
    readers.into_iter().filter_map(|node| node.range).collect()
}

/// Whether the ranges are apart from each other and leave nothing of `wanted` out.
fn covers(mut ranges: Vec<Range>, wanted: &[Range], end: usize) -> bool {
    ranges.sort();
    let apart = ranges.windows(2).all(|pair| pair[0].to <= pair[1].from);
    let is_given = |cut: usize| ranges.iter().any(|range| (range.from.index()..range.to.index()).contains(&cut));
    // What reads past the last cut breaks another rule.
    let cuts = |range: &Range| range.from.index()..range.to.index().min(end);
    apart && wanted.iter().all(|range| cuts(range).all(is_given))
}
