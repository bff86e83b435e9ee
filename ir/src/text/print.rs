//! From a graph to its text.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::names::{Names, word};
use super::{op, schedule, stored};
use crate::graph::{Graph, Literal, Node, Part, Point, Range, Stage, Value, Weight};
use crate::ids::{BlockId, Id, StreamId, ValueId};
use crate::infer::shape;
use crate::types::{Element, TensorType};

/// The graph as text.
pub fn print(graph: &Graph) -> String {
    let mut printer = Printer { graph, text: String::new(), declared: BTreeSet::new() };
    printer.settings();
    printer.tensors();
    printer.plan();
    printer.inputs();
    let bodies = printer.bodies();
    printer.undeclared();
    printer.text += &bodies;
    printer.text += &schedule::print(graph);
    printer.text
}

struct Printer<'g> {
    graph: &'g Graph,
    text: String,
    /// Values that the text gives a type.
    declared: BTreeSet<ValueId>,
}

impl<'g> Printer<'g> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn settings(&mut self) {
        let graph = self.graph;
        self.line(&format!("graph {} {}", word(&graph.name), stage_word(graph.stage)));
        for architecture in &graph.serves {
            self.line(&format!("serves {architecture:?}"));
        }
        for (word, texts) in [("prefix", &graph.prefixes), ("ignore", &graph.ignores)] {
            for text in texts {
                self.line(&format!("{word} {text:?}"));
            }
        }
        for expectation in &graph.expects {
            let one_of: Vec<_> = expectation.one_of.iter().map(literal).collect();
            self.line(&format!("expect {:?} = [{}]", expectation.key, one_of.join(", ")));
        }
        for dim in graph.dims.values() {
            self.line(&format!("dim {} = {}", word(&dim.name), dim.value));
        }
        for param in graph.params.values() {
            self.line(&format!("param {} = {}", word(&param.name), param.value));
        }
        if let Some(context) = &graph.context {
            self.line(&format!("context = {context}"));
        }
    }

    fn tensors(&mut self) {
        let (graph, names) = (self.graph, self.names(None));
        for (id, cache) in graph.caches.iter() {
            let block = names.block(cache.block);
            let sizes: Vec<_> = [&cache.kv_heads, &cache.head].into_iter().chain(&cache.value).cloned().collect();
            let sizes = shape(&sizes);
            self.line(&format!("cache {id} {} of {block} = {sizes}", word(&cache.name)));
        }
        for (id, entry) in graph.weights.iter() {
            self.line(&format!("weight {id} = {}", weight(entry, names)));
        }
    }

    fn plan(&mut self) {
        if let Some(split) = &self.graph.split {
            let points: Vec<_> = split.points.iter().map(point).collect();
            self.line(&format!("split multiple of {} at [{}]", split.multiple_of, points.join(", ")));
        }
        if let Some(streams) = &self.graph.streams {
            self.line("streams");
            for stream in streams.values() {
                self.line(&format!("  {} = {:?} {}", word(&stream.name), stream.group, stream.share));
            }
        }
    }

    fn inputs(&mut self) {
        for &input in &self.graph.inputs {
            let value = &self.graph.values[input];
            self.declared.insert(input);
            self.line(&format!("input {}: {input}{}", word(&value.name), tensor(&value.ty)));
        }
    }

    fn bodies(&mut self) -> String {
        let graph = self.graph;
        let mut text = String::new();
        for (id, block) in graph.blocks.iter() {
            let names = self.names(Some(id));
            let _ = writeln!(text, "block {}: {:?}", word(&block.name), block.weights);
            let _ = writeln!(text, "  takes {}", self.output(block.takes, None, Some(id)));
            self.nodes(&mut text, Some(id), &block.nodes);
            let _ = writeln!(text, "  gives {}", names.value(block.gives));
        }
        text += "main\n";
        self.nodes(&mut text, None, &graph.nodes);
        let _ = writeln!(text, "  gives {}", self.names(None).value(graph.gives));
        text
    }

    fn nodes(&mut self, text: &mut String, block: Option<BlockId>, nodes: &[Node]) {
        for node in nodes {
            let outputs: Vec<_> = node.outputs.iter().map(|&id| self.output(id, Some(&node.name), block)).collect();
            let names = self.names(block);
            let spot = Spot { range: node.range, stream: node.stream, share: node.share };
            let launch = launch_text(&outputs, &op::print(&node.op, names), spot, names);
            let _ = writeln!(text, "  {}: {launch}", word(&node.name));
        }
    }

    /// A value where it is given: with its type the first time, and with its name unless that is `implied`.
    fn output(&mut self, id: ValueId, implied: Option<&str>, block: Option<BlockId>) -> String {
        let Some(value) = self.graph.values.get(id) else { return id.to_string() };
        if value.block != block || !self.declared.insert(id) {
            return id.to_string();
        }
        declaration(id, value, implied)
    }

    fn undeclared(&mut self) {
        for (id, value) in self.graph.values.iter().filter(|(id, _)| !self.declared.contains(id)).collect::<Vec<_>>() {
            let body = value.block.map_or_else(String::new, |block| format!(" of {}", self.names(None).block(block)));
            self.line(&format!("value {}{body}", declaration(id, value, None)));
        }
    }

    fn names(&self, block: Option<BlockId>) -> Names<'g> {
        Names { graph: self.graph, block }
    }
}

/// On which rows an operator runs, and where.
pub(super) struct Spot {
    pub(super) range: Option<Range>,
    pub(super) stream: Option<StreamId>,
    pub(super) share: Option<f32>,
}

/// `v4 = Linear(x: n1, weight: w2) @ 0..1 on compute 0.4`.
pub(super) fn launch_text(outputs: &[String], op: &str, spot: Spot, names: Names<'_>) -> String {
    let Spot { range, stream, share } = spot;
    let mut text = outputs.join(", ");
    text += if outputs.is_empty() { "" } else { " = " };
    text += op;
    if let Some(Range { from, to }) = range {
        let _ = write!(text, " @ {}..{}", from.index(), to.index());
    }
    if let Some(stream) = stream {
        let _ = write!(text, " on {}", names.stream(stream));
    }
    if let Some(share) = share {
        let _ = write!(text, " {share}");
    }
    text
}

fn declaration(id: ValueId, value: &Value, implied: Option<&str>) -> String {
    let name = if implied == Some(&value.name) { String::new() } else { format!(" {}", word(&value.name)) };
    format!("{id}{name}{}", tensor(&value.ty))
}

fn tensor(ty: &TensorType) -> String {
    match ty.element {
        Element::Model => shape(&ty.shape),
        Element::I32 => format!("{} i32", shape(&ty.shape)),
    }
}

fn weight(weight: &Weight, names: Names<'_>) -> String {
    let block = weight.block.map_or_else(String::new, |block| format!(" of {}", names.block(block)));
    let pieces = weight.pieces.iter().map(|piece| {
        let tied = piece.tied.as_ref().map_or_else(String::new, |tied| format!(" or {tied:?}"));
        let has_own = piece.columns != weight.columns;
        let own = if has_own { format!(", {}", piece.columns) } else { String::new() };
        format!("{:?}[{}{own}]{tied}{}", piece.tensor, piece.rows, stored::print(&piece.stored))
    });
    let pieces: Vec<_> = pieces.collect();
    let part = match weight.part {
        Part::Whole => "",
        Part::Rows => " by rows",
        Part::Columns => " by columns",
    };
    let experts = weight.experts.as_ref().map_or_else(String::new, |experts| format!("{experts}, "));
    format!("{:?}[{experts}{}]{block}{part} from {}", weight.role, weight.columns, pieces.join(", "))
}

fn point(point: &Point) -> String {
    match point {
        Point::Share(share) => format!("share {share}"),
        Point::Tokens(tokens) => format!("tokens {tokens}"),
        Point::DecodeShare(share) => format!("decode {share}"),
    }
}

pub(super) fn literal(literal: &Literal) -> String {
    match literal {
        Literal::None => "None".to_owned(),
        Literal::Any => "Any".to_owned(),
        Literal::Bool(value) => value.to_string(),
        Literal::Number(value) => value.to_string(),
        Literal::Text(value) => format!("{value:?}"),
        Literal::List(values) => format!("[{}]", values.iter().map(self::literal).collect::<Vec<_>>().join(", ")),
    }
}

/// The word for a stage.
pub(super) fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Loaded => "loaded",
        Stage::Lowered => "lowered",
        Stage::Split => "split",
        Stage::Grouped => "grouped",
        Stage::Scheduled => "scheduled",
    }
}
