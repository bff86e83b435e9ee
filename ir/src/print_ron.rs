//! Writes a loaded graph as a porter would: the text that [`crate::load`] reads.

use std::fmt::Write;

use crate::graph::{Definition, Graph, Literal, Node, Value};
use crate::ids::{BlockId, CacheId, ParamId, Table, ValueId, WeightId};
use crate::op::{Op, RopeScaling};

/// The graph in RON. One of stage Loaded loads to an equal graph; later stages have no such form, so that what passes
/// have made of a graph is only hinted at ([`crate::text`] has it all).
pub fn print_ron(graph: &Graph) -> String {
    let mut text = String::from("Model(\n");
    let serves: Vec<_> = graph.serves.iter().map(quoted).collect();
    let _ = writeln!(text, "    serves: [{}],", serves.join(", "));
    entries(
        &mut text,
        1,
        "expects",
        graph.expects.iter().map(|expectation| (&expectation.key, choices(&expectation.one_of))),
    );
    entries(&mut text, 1, "dims", definitions(&graph.dims));
    entries(&mut text, 1, "params", definitions(&graph.params));
    entries(&mut text, 1, "inputs", graph.inputs.iter().map(|&input| tensor(&graph.values[input])));
    text += "    blocks: {\n";
    for id in graph.blocks.ids() {
        block(&mut text, graph, id);
    }
    text += "    },\n";
    let printer = Printer { graph, block: None };
    entries(&mut text, 1, "nodes", graph.nodes.iter().map(|node| printer.node(node)));
    let _ = writeln!(text, "    gives: {},\n)", quoted(&graph.values[graph.gives].name));
    text
}

fn block(text: &mut String, graph: &Graph, id: BlockId) {
    let block = &graph.blocks[id];
    let printer = Printer { graph, block: Some(id) };
    let (name, takes) = tensor(&graph.values[block.takes]);
    let _ = writeln!(text, "        {}: Block(", quoted(&block.name));
    let _ = writeln!(text, "            weights: {},", quoted(&block.weights));
    let _ = writeln!(text, "            takes: {{ {}: {takes} }},", quoted(name));
    let caches = graph.caches.values().filter(|cache| cache.block == id);
    let caches: Vec<_> = caches
        .map(|cache| (&cache.name, format!("KvCache(heads: \"{}\", head: \"{}\")", cache.kv_heads, cache.head)))
        .collect();
    if !caches.is_empty() {
        entries(text, 3, "keeps", caches.into_iter());
    }
    entries(text, 3, "nodes", block.nodes.iter().map(|node| printer.node(node)));
    let _ = writeln!(text, "            gives: {},\n        ),", quoted(&graph.values[block.gives].name));
}

fn entries<'n>(text: &mut String, depth: usize, field: &str, entries: impl Iterator<Item = (&'n String, String)>) {
    let indent = "    ".repeat(depth);
    let _ = writeln!(text, "{indent}{field}: {{");
    for (name, value) in entries {
        let _ = writeln!(text, "{indent}    {}: {value},", quoted(name));
    }
    let _ = writeln!(text, "{indent}}},");
}

fn definitions<I: crate::ids::Id>(table: &Table<I, Definition>) -> impl Iterator<Item = (&String, String)> {
    table.values().map(|definition| (&definition.name, format!("\"{}\"", definition.value)))
}

fn tensor(value: &Value) -> (&String, String) {
    let sizes: Vec<_> = value.ty.shape.iter().map(|size| format!("\"{size}\"")).collect();
    (&value.name, format!("Tensor({}, [{}])", value.ty.element, sizes.join(", ")))
}

fn choices(literals: &[Literal]) -> String {
    match literals {
        [only] => literal(only),
        several => format!("OneOf([{}])", several.iter().map(literal).collect::<Vec<_>>().join(", ")),
    }
}

fn literal(literal: &Literal) -> String {
    match literal {
        Literal::None => "None".to_owned(),
        Literal::Bool(value) => value.to_string(),
        Literal::Number(value) => format!("{value:?}"),
        Literal::Text(value) => quoted(value),
    }
}

fn quoted(text: impl AsRef<str>) -> String {
    format!("{:?}", text.as_ref())
}

struct Printer<'g> {
    graph: &'g Graph,
    block: Option<BlockId>,
}

impl Printer<'_> {
    fn node<'n>(&self, node: &'n Node) -> (&'n String, String) {
        let fields: Vec<_> =
            self.fields(&node.op).into_iter().map(|(field, value)| format!("{field}: {value}")).collect();
        (&node.name, format!("{}({})", node.op.name(), fields.join(", ")))
    }

    fn fields(&self, op: &Op) -> Vec<(&'static str, String)> {
        let mut fields = self.operands(op);
        match op {
            Op::Embed { weight, .. } => {
                let table = &self.graph.weights[*weight];
                fields.push(("weight", self.weight(*weight)));
                fields.push(("rows", size(&table.rows())));
                fields.push(("out", size(&table.columns)));
            }
            Op::RmsNorm { weight, eps, .. } => {
                fields.push(("weight", self.weight(*weight)));
                fields.push(("eps", self.param(*eps)));
            }
            Op::Linear { weight, bias, .. } => fields.extend(self.linear(*weight, *bias)),
            Op::Rope { head, theta, scaling, .. } => {
                fields.push(("head", size(head)));
                fields.push(("theta", self.param(*theta)));
                fields.extend(scaling.map(|scaling| ("scaling", self.scaling(scaling))));
            }
            Op::Attention { cache, mask, .. } => {
                fields.push(("cache", self.cache(*cache)));
                fields.push(("mask", format!("{mask:?}")));
            }
            Op::Route { top_k, scoring, renormalize, .. } => {
                fields.push(("top_k", size(top_k)));
                fields.push(("scoring", format!("{scoring:?}")));
                fields.push(("renormalize", renormalize.to_string()));
            }
            Op::ExpertLinear { weight, .. } => {
                let matrices = &self.graph.weights[*weight];
                fields.push(("weight", self.weight(*weight)));
                fields.push(("num_experts", size(&matrices.experts.clone().unwrap_or_default())));
                fields.push(("out", size(&matrices.rows())));
            }
            Op::GatedMul { by, .. } => fields.push(("by", format!("{by:?}"))),
            Op::Repeat { blocks, times, with } => fields = self.repeat(blocks, times, *with),
            Op::Add { .. }
            | Op::Combine { .. }
            | Op::Rows { .. }
            | Op::KvWrite { .. }
            | Op::DecodeAttention { .. }
            | Op::PrefillAttention { .. }
            | Op::Columns { .. }
            | Op::AddRmsNorm { .. }
            | Op::AllReduce { .. }
            | Op::AllGather { .. } => {}
        }
        fields
    }

    fn operands(&self, op: &Op) -> Vec<(&'static str, String)> {
        op.operands().into_iter().map(|(field, value)| (field, self.value(value))).collect()
    }

    fn linear(&self, weight: WeightId, bias: Option<WeightId>) -> Vec<(&'static str, String)> {
        let matrix = &self.graph.weights[weight];
        let tied = matrix.pieces.first().and_then(|piece| piece.tied.as_deref());
        let tied = tied.map(|tied| ("tied", quoted(tied.strip_suffix(".weight").unwrap_or(tied))));
        let bias = bias.map(|_| ("bias", "true".to_owned()));
        let named = [("weight", self.weight(weight)), ("out", size(&matrix.rows()))];
        named.into_iter().chain(bias).chain(tied).collect()
    }

    fn scaling(&self, scaling: RopeScaling) -> String {
        match scaling {
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => format!(
                "Llama3(factor: {}, low_freq_factor: {}, high_freq_factor: {}, original_context: {})",
                self.param(factor),
                self.param(low_freq_factor),
                self.param(high_freq_factor),
                self.param(original_context)
            ),
        }
    }

    fn repeat(&self, blocks: &[BlockId], times: &crate::dim::Dim, with: ValueId) -> Vec<(&'static str, String)> {
        let names: Vec<_> = blocks.iter().map(|&block| quoted(&self.graph.blocks[block].name)).collect();
        let taken = blocks.first().map_or_else(String::new, |&block| self.value(self.graph.blocks[block].takes));
        let with = format!("{{ {taken}: {} }}", self.value(with));
        vec![("blocks", format!("[{}]", names.join(", "))), ("times", size(times)), ("with", with)]
    }

    fn value(&self, value: ValueId) -> String {
        quoted(&self.graph.values[value].name)
    }

    fn param(&self, param: ParamId) -> String {
        quoted(&self.graph.params[param].name)
    }

    fn cache(&self, cache: CacheId) -> String {
        quoted(&self.graph.caches[cache].name)
    }

    /// What a node calls the weight: without the block's prefix and the ending that all have.
    fn weight(&self, weight: WeightId) -> String {
        let tensor = self.graph.weights[weight].pieces.first().map_or("", |piece| &piece.tensor);
        let prefix = self.block.map_or_else(String::new, |block| format!("{}.", self.graph.blocks[block].weights));
        let name = tensor.strip_prefix(&prefix).unwrap_or(tensor);
        quoted(name.strip_suffix(".weight").unwrap_or(name))
    }
}

fn size(size: &crate::dim::Dim) -> String {
    format!("\"{size}\"")
}
