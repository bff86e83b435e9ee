//! In what a graph differs from the tensors of a checkpoint.

use trefoil_ir::bind::Bound;
use trefoil_ir::diag::Place;
use trefoil_ir::dim::Dim;
use trefoil_ir::graph::{self, Graph, Weight};
use trefoil_ir::ids::BlockId;
use trefoil_runtime::model::{Names, Part, Piece, Slice, Stored, WeightRole, WeightSpec};
use trefoil_runtime::weights::{Inventory, LoadOptions, WeightFault};

use super::differences::{Difference, Kind, Spot};

/// What the tensors have against a graph.
pub(super) struct Compared {
    pub(super) differences: Vec<Difference>,
    /// Tensors that the graph names, those of all layers as one.
    pub(super) num_named: usize,
    /// How many of these are there, in the form that the graph needs.
    pub(super) num_found: usize,
}

/// Holds a graph with these sizes against a checkpoint. `tied`: its configuration ties what may be tied.
pub(super) fn compare(graph: &Graph, bound: &Bound, held: &Inventory, tied: bool) -> Compared {
    let sizes = Sizes { graph, bound };
    let faults = faults(graph, bound, held, tied);
    let differences: Vec<_> = faults.iter().filter_map(|fault| sizes.difference(fault, held)).collect();
    let mut named: Vec<_> =
        graph.weights.values().flat_map(|weight| &weight.pieces).map(|piece| &piece.tensor).collect();
    named.sort_unstable();
    named.dedup();
    let absent = differences.iter().filter(|difference| difference.kind != Kind::Extra).count();
    Compared { num_named: named.len(), num_found: named.len().saturating_sub(absent), differences }
}

/// All that loading the checkpoint by a graph with these sizes would complain of.
pub(crate) fn faults(graph: &Graph, bound: &Bound, held: &Inventory, tied: bool) -> Vec<WeightFault> {
    let sizes = Sizes { graph, bound };
    let specs: Vec<_> = graph.weights.values().map(|weight| sizes.spec(weight)).collect();
    let [prefixes, ignores] =
        [&graph.prefixes, &graph.ignores].map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
    let names = Names { prefixes: &prefixes, ignores: &ignores };
    held.faults(&specs, LoadOptions { tied, names, ..LoadOptions::default() })
}

struct Sizes<'a> {
    graph: &'a Graph,
    bound: &'a Bound,
}

impl Sizes<'_> {
    /// The size, 0 where it is not known.
    fn of(&self, dim: &Dim) -> usize {
        self.bound.size(dim).unwrap_or(0) as usize
    }

    fn spec(&self, weight: &Weight) -> WeightSpec {
        WeightSpec {
            role: role(weight.role),
            pieces: weight.pieces.iter().map(|piece| self.piece(weight.role, piece)).collect(),
            columns: self.of(&weight.columns),
            experts: weight.experts.as_ref().map(|experts| self.of(experts)),
            layers: weight.block.map(|block| self.layers(block)),
            part: Part::Whole,
        }
    }

    fn piece(&self, role: graph::WeightRole, piece: &graph::Piece) -> Piece {
        // What a slice counts: the rows of matrices, the elements of vectors.
        let own = match role {
            graph::WeightRole::Matrix | graph::WeightRole::Experts | graph::WeightRole::Table => &piece.rows,
            graph::WeightRole::Vector | graph::WeightRole::ExpertVectors => &piece.columns,
        };
        let slice = piece.stored.slice.as_ref().map(|slice| {
            let (take, every) = slice.stride.as_ref().map_or((own, own), |(take, every)| (take, every));
            let [of, from, take, every] = [&slice.of, &slice.from, take, every].map(|dim| self.of(dim));
            Slice { of, from, take, every }
        });
        Piece {
            tensor: piece.tensor.clone(),
            tied: piece.tied.clone(),
            rows: self.of(&piece.rows),
            columns: self.of(&piece.columns),
            stored: Stored { transposed: piece.stored.transposed, slice, plus: piece.stored.plus },
        }
    }

    fn layers(&self, block: BlockId) -> Vec<usize> {
        let all = self.bound.repeats.iter().flatten().enumerate();
        all.filter(|(_, own)| **own == block).map(|(layer, _)| layer).collect()
    }

    /// What a fault means to a porter; nothing where a size is not known, which is a difference by itself.
    fn difference(&self, fault: &WeightFault, held: &Inventory) -> Option<Difference> {
        let of_tensor = |kind, tensor: &str, what: String| Some(Difference { kind, at: self.spot(tensor), what });
        match fault {
            WeightFault::Missing { tensor, similar } => {
                let similar = similar.as_ref().map(|name| format!("; the most similar that nothing reads is `{name}`"));
                let what = format!("the checkpoint has no `{tensor}`{}", similar.unwrap_or_default());
                of_tensor(Kind::Missing, tensor, what)
            }
            WeightFault::Shape { expected, .. } if expected.contains(&0) => None,
            WeightFault::Shape { tensor, found, expected, .. } => {
                let what = format!("`{tensor}` is {found:?} in the checkpoint, and here {expected:?}");
                of_tensor(Kind::Shape, tensor, what)
            }
            WeightFault::Extra { tensors, num_tensors } => {
                let shape = held.shape(&first_of(tensors)).unwrap_or_default();
                let count = if *num_tensors == 1 { String::new() } else { format!("{num_tensors} tensors, ") };
                let what = format!("nothing here reads `{tensors}` ({count}{shape:?})");
                Some(Difference { kind: Kind::Extra, at: self.spot_of_extra(tensors), what })
            }
            WeightFault::Dtype { tensor, .. } | WeightFault::Quantised { tensor, .. } => {
                of_tensor(Kind::Shape, tensor, fault.to_string())
            }
            WeightFault::Misfit { tensor, .. } => of_tensor(Kind::Shape, tensor, fault.to_string()),
            WeightFault::NoWeights { .. }
            | WeightFault::Unreadable { .. }
            | WeightFault::Malformed { .. }
            | WeightFault::WrongLength { .. }
            | WeightFault::ShardAbsent { .. }
            | WeightFault::NotInShard { .. } => None,
        }
    }

    /// The line that names a tensor.
    fn spot(&self, tensor: &str) -> Spot {
        let tensor = numberless(tensor);
        let is_of = |name: &str| tensor.ends_with(&numberless(name));
        let names = |weight: &&Weight| weight.pieces.iter().any(|piece| is_of(&piece.tensor));
        let is_tied = |weight: &&Weight| weight.pieces.iter().filter_map(|piece| piece.tied.as_deref()).any(is_of);
        let weights = || self.graph.weights.values();
        let place = weights().find(names).or_else(|| weights().find(is_tied)).map(|weight| weight.place);
        place.filter(|place| *place != Place::default()).map_or(Spot::Body, Spot::above)
    }

    /// The block below whose prefix a tensor is, or the main body.
    fn spot_of_extra(&self, tensor: &str) -> Spot {
        let tensor = numberless(tensor);
        let blocks = self.graph.blocks.values();
        let mut own = blocks.filter(|block| {
            let weights = numberless(&block.weights) + ".";
            let is_below = |prefix: &String| tensor.starts_with(&format!("{prefix}{weights}"));
            tensor.starts_with(&weights) || self.graph.prefixes.iter().any(is_below)
        });
        own.next().map_or(Spot::Body, |block| Spot::Block(block.place.line))
    }
}

fn role(role: graph::WeightRole) -> WeightRole {
    match role {
        graph::WeightRole::Matrix => WeightRole::Matrix,
        graph::WeightRole::Experts => WeightRole::Experts,
        graph::WeightRole::Table => WeightRole::Table,
        graph::WeightRole::Vector => WeightRole::Vector,
        graph::WeightRole::ExpertVectors => WeightRole::ExpertVectors,
    }
}

/// A tensor's name with `#` for numbers, for several numbers (`{0..3,5}`), and for what stands for numbers (`{layer}`).
fn numberless(tensor: &str) -> String {
    // Ranges hold dots of their own.
    let parts = tensor.replace("..", "-");
    let is_number = |part: &str| part.starts_with('{') || part.bytes().all(|byte| byte.is_ascii_digit());
    parts.split('.').map(|part| if is_number(part) { "#" } else { part }).collect::<Vec<_>>().join(".")
}

/// The first tensor of a group: `layers.{0..3,5}.norm` is `layers.0.norm`.
fn first_of(tensors: &str) -> String {
    let mut name = String::new();
    for (number, part) in tensors.split('{').enumerate() {
        match part.split_once('}').filter(|_| number > 0) {
            Some((numbers, rest)) => {
                name.extend(numbers.chars().take_while(char::is_ascii_digit));
                name += rest;
            }
            None => name += part,
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_are_taken_apart() {
        assert_eq!(first_of("l.{0..3,5}.e.{2}.w"), "l.0.e.2.w");
        assert_eq!(first_of("norm.weight"), "norm.weight");
        assert_eq!(numberless("model.l.{0..3,5}.e.7.w"), numberless("model.l.{layer}.e.{expert}.w"));
    }
}
