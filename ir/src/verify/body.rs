//! Rules about the nodes of a body: T2003 to T2008, and T2011.

use crate::depend;
use crate::diag::Diagnostic;
use crate::graph::{Graph, Node, Range};
use crate::ids::{BlockId, ValueId};
use crate::infer::{self, shape};
use crate::op::{Op, RowDomain};

pub(super) fn mistakes(graph: &Graph) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    for (block, nodes) in graph.bodies() {
        let mut check = Check { graph, block, nodes, mistakes: Vec::new() };
        check.nodes();
        check.given_once();
        mistakes.extend(check.mistakes);
    }
    mistakes
}

struct Check<'g> {
    graph: &'g Graph,
    block: Option<BlockId>,
    nodes: &'g [Node],
    mistakes: Vec<Diagnostic>,
}

impl Check<'_> {
    fn nodes(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            self.reads(index, node);
            self.types(node);
            self.weights(node);
        }
    }

    fn report(&mut self, code: &'static str, node: &Node, message: String) {
        self.mistakes.push(Diagnostic::new(code, node.place, message));
    }

    fn reads(&mut self, index: usize, node: &Node) {
        for (field, value) in node.op.operands() {
            let entry = &self.graph.values[value];
            let is_input = self.graph.inputs.contains(&value);
            if entry.block != self.block && !is_input {
                let message = format!("`{}` reads `{}` of another body as `{field}`", node.name, entry.name);
                self.report("T2004", node, message);
            } else if !self.is_there_from_the_start(value) && !self.is_given_before(index, value, node.range) {
                let message = format!("`{}` reads `{}` before it is given", node.name, entry.name);
                self.report("T2003", node, message);
            }
        }
    }

    fn is_there_from_the_start(&self, value: ValueId) -> bool {
        let takes = self.block.map(|block| self.graph.blocks[block].takes);
        self.graph.inputs.contains(&value) || takes == Some(value)
    }

    /// Whether some node before number `index` gives the value and none from there on gives rows of `range`. A window of
    /// columns has the rows of what it is a window of.
    fn is_given_before(&self, index: usize, value: ValueId, range: Option<Range>) -> bool {
        let is_named = self.nodes[..index].iter().any(|node| node.outputs.contains(&value));
        let base = depend::base(self.graph, value);
        let shares_rows = |node: &Node| node.range.zip(range).is_none_or(|(given, read)| given.intersects(read));
        let mut late = self.nodes[index..].iter().filter(|node| node.outputs.contains(&base));
        is_named && (matches!(self.nodes[index].op, Op::Columns { .. }) || !late.any(shares_rows))
    }

    fn types(&mut self, node: &Node) {
        if node.outputs.len() != node.op.num_outputs() {
            let (op, expected, found) = (node.op.name(), node.op.num_outputs(), node.outputs.len());
            return self.report(
                "T2008",
                node,
                format!("`{}` gives {found} values, and {op} gives {expected}", node.name),
            );
        }
        match infer::outputs(self.graph, &node.op) {
            Ok(types) => {
                for (&output, ty) in node.outputs.iter().zip(types) {
                    self.output(node, output, &ty);
                }
            }
            Err(errors) => {
                let messages = errors.into_iter().map(|error| format!("`{}`: {error}", node.name));
                messages.for_each(|message| self.report("T2006", node, message));
            }
        }
    }

    fn output(&mut self, node: &Node, output: ValueId, expected: &crate::types::TensorType) {
        let value = &self.graph.values[output];
        if value.block != self.block {
            self.report("T2004", node, format!("`{}` gives `{}` of another body", node.name, value.name));
        }
        if value.ty != *expected {
            let (found, expected) = (shape(&value.ty.shape), shape(&expected.shape));
            let message = format!("`{}` gives `{}`, which is {found} and should be {expected}", node.name, value.name);
            self.report("T2005", node, message);
        }
    }

    fn weights(&mut self, node: &Node) {
        for weight in node.op.weights() {
            if self.graph.weights[weight].block != self.block {
                self.report("T2011", node, format!("`{}` reads {weight}, a weight of another body", node.name));
            }
        }
    }

    fn given_once(&mut self) {
        let mut given: Vec<(ValueId, RowDomain)> = Vec::new();
        for node in self.nodes {
            let rows = self.graph.rows_of(&node.op);
            // Once the batch is cut, several nodes give a value; that their ranges partition the batch is another rule.
            let is_nano_operation = node.range.is_some() && node.op.launches();
            for &output in &node.outputs {
                let before = given.iter().filter(|(value, _)| *value == output);
                let is_again = !is_nano_operation && before.into_iter().any(|(_, other)| overlap(*other, rows));
                if is_again || self.is_there_from_the_start(output) {
                    let message = format!("`{}` gives `{}` again", node.name, self.graph.values[output].name);
                    self.report("T2007", node, message);
                }
                given.push((output, rows));
            }
        }
    }
}

/// Whether two kinds of rows of one value have rows in common.
fn overlap(a: RowDomain, b: RowDomain) -> bool {
    use RowDomain::{DecodeTokens, PrefillTokens};
    !matches!((a, b), (DecodeTokens, PrefillTokens) | (PrefillTokens, DecodeTokens))
}
