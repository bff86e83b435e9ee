//! Rules about the whole: what layers pass on, the order of the main body, and things that nobody uses.

use std::collections::BTreeSet;

use super::Loader;
use super::source::Raw;
use crate::diag::Diagnostic;
use crate::dim::Dim;
use crate::graph::{Node, SEQS};
use crate::ids::{BlockId, CacheId, ValueId};
use crate::infer::{self, shape};
use crate::op::{Effect, Op};
use crate::types::Element;

impl<'a> Loader<'a> {
    /// A layer gives what the next one takes.
    pub(super) fn check_carried(&mut self, raw: Raw<'a>, takes: ValueId, gives: ValueId) {
        if self.untyped.contains(&takes) || self.untyped.contains(&gives) {
            return;
        }
        let (taken, given) = (&self.graph.values[takes], &self.graph.values[gives]);
        if taken.ty != given.ty {
            let (found, expected) = (shape(&given.ty.shape), shape(&taken.ty.shape));
            let message =
                format!("a layer gives `{}`, {found}, and the next takes `{}`, {expected}", given.name, taken.name);
            let mistake = Diagnostic::new("T0502", self.reader.place(raw.0), message);
            self.reader.report(mistake.help("what goes from layer to layer keeps its type"));
        }
    }

    /// The model gives one row per sequence.
    pub(super) fn check_given(&mut self, raw: Raw<'a>, gives: ValueId) {
        let value = &self.graph.values[gives];
        let has_rows_of_seqs = value.ty.shape.len() == 2 && value.ty.shape[0] == Dim::name(SEQS);
        if !self.untyped.contains(&gives) && (!has_rows_of_seqs || value.ty.element != Element::Model) {
            let message = format!("the model gives `{}`, {}", value.name, shape(&value.ty.shape));
            let mistake = Diagnostic::new("T0506", self.reader.place(raw.0), message);
            self.reader.report(mistake.help("give logits, `[seqs, vocab]`; `Rows` picks the rows of `last`"));
        }
    }

    /// Whether the blocks take one type, so that they can alternate.
    pub(super) fn do_alternate(&mut self, names: &[Raw<'a>], blocks: &[BlockId]) -> bool {
        let num_mistakes = self.reader.mistakes.len();
        let typed = |block: &BlockId| {
            let takes = self.graph.blocks[*block].takes;
            (!self.untyped.contains(&takes)).then(|| &self.graph.values[takes].ty)
        };
        let Some(expected) = blocks.first().and_then(typed) else { return true };
        for (name, found) in names.iter().zip(blocks).filter_map(|(name, block)| Some((name, typed(block)?))) {
            if found != expected {
                let (found, expected) = (shape(&found.shape), shape(&expected.shape));
                let message = format!("this block takes {found}, the first one takes {expected}");
                let mistake = Diagnostic::new("T0504", self.reader.place(name.0), message);
                self.reader.mistakes.push(mistake.help("blocks that alternate pass one value along"));
            }
        }
        self.reader.mistakes.len() == num_mistakes
    }

    pub(super) fn check_structure(&mut self, nodes: Raw<'a>) {
        self.check_attentions();
        self.check_routes();
        self.check_main_order(nodes);
        // A node behind a mistake may be the reader that seems to be missing.
        if self.reader.mistakes.is_empty() {
            self.check_ties();
            self.check_unread();
            self.check_unrepeated();
        }
    }

    fn check_attentions(&mut self) {
        let mut used: BTreeSet<CacheId> = BTreeSet::new();
        let mut mistakes = Vec::new();
        for node in self.graph.blocks.values().flat_map(|block| &block.nodes) {
            if let Effect::Both(cache) = node.op.effect()
                && !used.insert(cache)
            {
                let message =
                    format!("`{}` is another attention with the cache `{}`", node.name, self.graph.caches[cache].name);
                mistakes.push(Diagnostic::new("T0403", node.place, message).help("keep one cache per attention"));
            }
        }
        for (id, cache) in self.graph.caches.iter() {
            if !used.contains(&id) && self.reader.mistakes.is_empty() {
                let message = format!("no attention uses the cache `{}`", cache.name);
                mistakes.push(
                    Diagnostic::new("T0403", cache.place, message).help("remove it, or name it in an `Attention`"),
                );
            }
        }
        self.reader.mistakes.extend(mistakes);
    }

    fn check_routes(&mut self) {
        let products = self.graph.bodies().flat_map(|(_, nodes)| nodes.iter().map(move |node| (nodes, node)));
        let mistakes = products.filter_map(|(nodes, node)| {
            let Op::ExpertLinear { experts, weight, .. } = node.op else { return None };
            let chosen = infer::chosen_among(&self.graph, nodes, experts)?;
            let own = self.graph.weights[weight].experts.clone()?;
            let message = format!("`{}` has `{own}` experts, and its router chooses among `{chosen}`", node.name);
            (own != chosen).then(|| Diagnostic::new("T0307", node.place, message))
        });
        let help = "the router's logits have one column per expert: give its `Linear` as many as `num_experts`";
        let mistakes: Vec<_> = mistakes.map(|mistake| mistake.help(help)).collect();
        self.reader.mistakes.extend(mistakes);
    }

    fn check_main_order(&mut self, nodes: Raw<'a>) {
        let repeats: Vec<usize> = self.positions_of_repeats();
        let (Some(&first), Some(&last)) = (repeats.first(), repeats.last()) else {
            if self.reader.mistakes.is_empty() {
                let mistake = Diagnostic::new("T0505", self.reader.place(nodes.0), "the main body repeats no block");
                self.reader.report(mistake.help("add a `Repeat` of the layers"));
            }
            return;
        };
        for pair in self.graph.nodes[first..=last].windows(2) {
            self.reader.mistakes.extend(does_not_follow(&pair[0], &pair[1]));
        }
    }

    fn positions_of_repeats(&self) -> Vec<usize> {
        let nodes = self.graph.nodes.iter().enumerate();
        nodes.filter(|(_, node)| matches!(node.op, Op::Repeat { .. })).map(|(index, _)| index).collect()
    }

    fn check_unread(&mut self) {
        let nodes = self.graph.bodies().flat_map(|(_, nodes)| nodes);
        let mut read: BTreeSet<ValueId> = nodes.flat_map(|node| node.op.operands()).map(|(_, value)| value).collect();
        read.insert(self.graph.gives);
        read.extend(self.graph.blocks.values().map(|block| block.gives));
        for (_, nodes) in self.graph.bodies() {
            for node in nodes.iter().filter(|node| !node.outputs.iter().any(|output| read.contains(output))) {
                let mistake = Diagnostic::new("T0209", node.place, format!("nothing reads `{}`", node.name));
                self.reader.mistakes.push(mistake.help("read it, give it, or remove it"));
            }
        }
    }

    fn check_unrepeated(&mut self) {
        let repeated: BTreeSet<BlockId> =
            self.graph.nodes.iter().flat_map(|node| blocks_of(&node.op)).copied().collect();
        for (id, block) in self.graph.blocks.iter() {
            if !repeated.contains(&id) {
                let mistake =
                    Diagnostic::new("T0508", block.place, format!("nothing repeats the block `{}`", block.name));
                self.reader.mistakes.push(mistake.help("name it in the `blocks` of a `Repeat`, or remove it"));
            }
        }
    }
}

/// What is wrong with `node` among the layers. After a node that has no place there, a repeat is right as it is.
fn does_not_follow(before: &Node, node: &Node) -> Option<Diagnostic> {
    let message = match (&before.op, &node.op) {
        (Op::Repeat { .. }, Op::Repeat { with, .. }) if !before.outputs.contains(with) => {
            format!("`{}` does not take what the layers before it give", node.name)
        }
        (_, Op::Repeat { .. }) => return None,
        _ => format!("`{}` stands between layers that should follow each other", node.name),
    };
    let help = "a `Repeat` after another takes what that one gives, with nothing in between";
    Some(Diagnostic::new("T0505", node.place, message).help(help))
}

fn blocks_of(op: &Op) -> &[BlockId] {
    if let Op::Repeat { blocks, .. } = op { blocks } else { &[] }
}
