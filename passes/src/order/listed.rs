//! The order that the plan lists: checked, not found.

use trefoil_ir::diag::Diagnostic;
use trefoil_ir::graph::{Graph, Node};
use trefoil_ir::ids::BlockId;

use super::Candidate;
use crate::plan::{LaunchName, List, suggestion};

/// What plans call the main body.
const MAIN: &str = "main";

/// Lists for bodies that the graph does not have.
pub(super) fn unknown_bodies(graph: &Graph, lists: &[List]) -> Vec<Diagnostic> {
    let names: Vec<_> = graph.blocks.values().map(|block| block.name.as_str()).chain([MAIN]).collect();
    let unknown = lists.iter().filter(|list| !names.contains(&list.body.as_str()));
    let mistake = |list: &List| {
        let message = format!("the order is listed for `{}`, and `{}` has no such body", list.body, graph.name);
        Diagnostic::new("T1102", list.place, message).help(suggestion(&list.body, names.iter().copied()))
    };
    unknown.map(mistake).collect()
}

pub(super) fn is_for(graph: &Graph, list: &List, block: Option<BlockId>) -> bool {
    list.body == block.map_or(MAIN, |block| graph.blocks[block].name.as_str())
}

/// The candidates' numbers in the order of the list. `body` is the whole body, of which the candidates are a section.
pub(super) fn order(
    list: &List,
    body: &[Node],
    candidates: &[Candidate],
    waits_for: &[Vec<usize>],
    mistakes: &mut Vec<Diagnostic>,
) -> Vec<usize> {
    let mut order = vec![];
    for name in &list.launches {
        match candidates.iter().position(|candidate| names(name, candidate)) {
            Some(number) if order.contains(&number) => mistakes.push(twice(name)),
            Some(number) => {
                mistakes.extend(too_early(name, candidates, &waits_for[number], &order));
                order.push(number);
            }
            None => mistakes.extend(unknown(name, body)),
        }
    }
    let missing = (0..candidates.len()).filter(|number| !order.contains(number));
    mistakes.extend(missing.map(|number| missed(list, &candidates[number])));
    order
}

fn names(name: &LaunchName, candidate: &Candidate) -> bool {
    candidate.launch.node == name.node && candidate.launch.nano == name.nano
}

fn twice(name: &LaunchName) -> Diagnostic {
    Diagnostic::new("T1105", name.place, format!("`{name}` is listed twice")).help("keep one of them")
}

fn too_early(name: &LaunchName, candidates: &[Candidate], waits_for: &[usize], placed: &[usize]) -> Option<Diagnostic> {
    let missing = waits_for.iter().find(|earlier| !placed.contains(earlier))?;
    let earlier = text(&candidates[*missing]);
    let message = format!("`{name}` is listed before `{earlier}`, which it needs");
    Some(Diagnostic::new("T1106", name.place, message).help(format!("list `{earlier}` first")))
}

fn unknown(name: &LaunchName, body: &[Node]) -> Option<Diagnostic> {
    let count = body.iter().filter(|node| node.name == name.node && node.op.launches()).count();
    if name.nano < count {
        return None;
    }
    let message = match count {
        0 => format!("`{name}` is listed, and no node `{}` is launched here", name.node),
        _ => format!("`{name}` is listed, and `{}` has {count} nano-operations, from 0 on", name.node),
    };
    let launched = body.iter().filter(|node| node.op.launches()).map(|node| node.name.as_str());
    Some(Diagnostic::new("T1103", name.place, message).help(suggestion(&name.node, launched)))
}

fn missed(list: &List, candidate: &Candidate) -> Diagnostic {
    let message = format!("the order of `{}` lacks `{}`", list.body, text(candidate));
    let operator = candidate.node.op.name();
    Diagnostic::new("T1104", list.place, message).help(format!("a list names every launch; this one is a {operator}"))
}

fn text(candidate: &Candidate) -> String {
    format!("{}#{}", candidate.launch.node, candidate.launch.nano)
}
