//! Which launches a read value comes from, through column windows and from layer to layer.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::ids::{BlockId, ValueId};
use crate::op::Op;

use super::access::Places;
use super::order::{Issued, Order};

/// A value as one step and layer has it.
type Instance = (usize, Option<usize>, ValueId);

/// Where values come from in an unrolled schedule.
pub(super) struct Origins<'a> {
    places: Places<'a>,
    repeats: Vec<Repeat<'a>>,
    order: Vec<usize>,
    givers: BTreeMap<Instance, Vec<usize>>,
}

struct Repeat<'a> {
    blocks: &'a [BlockId],
    with: ValueId,
    out: ValueId,
}

impl<'a> Origins<'a> {
    /// Of launches whose repeats have layers with the texts of `layers`.
    pub(super) fn of(graph: &'a Graph, order: &Order<'_>, layers: &[usize]) -> Self {
        let mut givers: BTreeMap<Instance, Vec<usize>> = BTreeMap::new();
        for (number, issued) in order.issued().iter().enumerate() {
            for value in issued.launch.iter().flat_map(|launch| &launch.outputs) {
                givers.entry((issued.step, issued.layer, *value)).or_default().push(number);
            }
        }
        Self { places: Places::of(graph), repeats: repeats(graph), order: layers.to_vec(), givers }
    }

    /// The launches that give what `reader` knows as `value`, and what they know it as.
    pub(super) fn of_value(&self, value: ValueId, reader: &Issued<'_>) -> (&[usize], ValueId) {
        let (layer, given) = self.resolve(reader.layer, self.places.base(value));
        let givers = self.givers.get(&(reader.step, layer, given)).map_or(&[][..], Vec::as_slice);
        (givers, given)
    }

    fn resolve(&self, layer: Option<usize>, value: ValueId) -> (Option<usize>, ValueId) {
        for (number, repeat) in self.repeats.iter().enumerate() {
            let num_layers = self.order.len();
            let first = number * num_layers;
            let within = layer.and_then(|layer| layer.checked_sub(first)).filter(|turn| *turn < num_layers);
            match within {
                None if value == repeat.out => return self.given_by(repeat, first, num_layers),
                Some(turn) if value == self.places.graph().blocks[repeat.block(self.order[turn])].takes => {
                    return self.given_by(repeat, first, turn);
                }
                None | Some(_) => {}
            }
        }
        (layer, value)
    }

    /// What a repeat carries after its first `turns` layers.
    fn given_by(&self, repeat: &Repeat<'_>, first: usize, turns: usize) -> (Option<usize>, ValueId) {
        match turns.checked_sub(1) {
            None => self.resolve(None, self.places.base(repeat.with)),
            Some(turn) => {
                let gives = self.places.graph().blocks[repeat.block(self.order[turn])].gives;
                self.resolve(Some(first + turn), self.places.base(gives))
            }
        }
    }
}

impl Repeat<'_> {
    fn block(&self, text: usize) -> BlockId {
        self.blocks[text % self.blocks.len()]
    }
}

fn repeats(graph: &Graph) -> Vec<Repeat<'_>> {
    let mut repeats = vec![];
    for node in &graph.nodes {
        if let Op::Repeat { blocks, with, .. } = &node.op {
            repeats.push(Repeat { blocks, with: *with, out: node.outputs[0] });
        }
    }
    repeats
}
