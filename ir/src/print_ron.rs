//! Writes a loaded graph as a porter would: the text that [`crate::load`] reads.

use std::fmt::Write;

use crate::dim::Dim;
use crate::graph::{Definition, Graph, Literal, Node, Slice, Stored, Value};
use crate::ids::{BlockId, CacheId, ParamId, Table, ValueId, WeightId};
use crate::op::{Function, Op, Pattern, RopeScaling, Score, Switch};

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
    for (field, texts) in [("prefixes", &graph.prefixes), ("ignores", &graph.ignores)] {
        if !texts.is_empty() {
            let _ = writeln!(text, "    {field}: [{}],", texts.iter().map(quoted).collect::<Vec<_>>().join(", "));
        }
    }
    if let Some(context) = &graph.context {
        let _ = writeln!(text, "    context: \"{context}\",");
    }
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
        .map(|cache| {
            let value = cache.value.as_ref().map_or_else(String::new, |value| format!(", value: {}", size(value)));
            let sizes = format!("heads: {}, head: {}{value}", size(&cache.kv_heads), size(&cache.head));
            (&cache.name, format!("KvCache({sizes})"))
        })
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
        Literal::Any => "Any".to_owned(),
        Literal::Bool(value) => value.to_string(),
        Literal::Number(value) => format!("{value:?}"),
        Literal::Text(value) => quoted(value),
        Literal::List(values) => format!("[{}]", values.iter().map(self::literal).collect::<Vec<_>>().join(", ")),
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
            Op::RmsNorm { weight, eps, group, .. } => fields.extend(self.norm((*weight, None), *eps, group.as_ref())),
            Op::LayerNorm { weight, bias, eps, group, .. } => {
                fields.extend(self.norm((*weight, *bias), *eps, group.as_ref()));
            }
            Op::Linear { weight, bias, .. } => fields.extend(self.linear(*weight, *bias)),
            Op::Rope { head, theta, rotary, pairs, scaling, .. } => {
                fields.push(("head", size(head)));
                fields.push(("theta", self.param(*theta)));
                fields.extend(rotary.as_ref().map(|rotary| ("rotary", size(rotary))));
                fields.push(("pairs", format!("{pairs:?}")));
                fields.extend(scaling.map(|scaling| ("scaling", self.scaling(scaling))));
            }
            Op::Attention { cache, mask, score, .. } => {
                fields.push(("cache", self.cache(*cache)));
                fields.push(("mask", format!("{mask:?}")));
                fields.extend(self.score(*score));
            }
            Op::Route { top_k, scoring, renormalize, bias, groups, .. } => {
                fields.push(("top_k", size(top_k)));
                fields.push(("scoring", format!("{scoring:?}")));
                let renormalize = match renormalize {
                    Switch::On => "true".to_owned(),
                    Switch::Off => "false".to_owned(),
                    Switch::Setting(param) => self.param(*param),
                };
                fields.push(("renormalize", renormalize));
                fields.extend(bias.map(|bias| ("bias", self.weight(bias))));
                fields.extend(groups.iter().map(|groups| {
                    let (name, [(_, of), (_, top)]) = groups.parts();
                    ("groups", format!("{name}(of: {}, top: {})", size(of), size(top)))
                }));
            }
            Op::ExpertLinear { weight, bias, .. } => {
                let matrices = &self.graph.weights[*weight];
                fields.push(("weight", self.weight(*weight)));
                fields.push(("num_experts", size(&matrices.experts.clone().unwrap_or_default())));
                fields.push(("out", size(&matrices.rows())));
                fields.extend(bias.map(|bias| ("bias", self.weight(bias))));
            }
            Op::GatedMul { by, limit, shift, .. } => {
                fields.push(("by", self.function(*by)));
                fields.extend(limit.map(|limit| ("limit", self.param(limit))));
                fields.extend(shift.map(|shift| ("shift", self.param(shift))));
            }
            Op::Join { heads, .. } => fields.push(("heads", size(heads))),
            Op::Apply { by, .. } => fields.push(("by", self.function(*by))),
            Op::Repeat { blocks, pattern, times, with } => fields = self.repeat(blocks, pattern, times, *with),
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
        let bias = bias.map(|bias| ("bias", self.weight(bias)));
        let named = [("weight", self.weight(weight)), ("out", size(&matrix.rows()))];
        named.into_iter().chain(bias).chain(tied).collect()
    }

    fn norm(
        &self,
        (weight, bias): (Option<WeightId>, Option<WeightId>),
        eps: ParamId,
        group: Option<&Dim>,
    ) -> Vec<(&'static str, String)> {
        let weight = weight.map(|weight| ("weight", self.weight(weight)));
        let bias = bias.map(|bias| ("bias", self.weight(bias)));
        let group = group.map(|group| ("group", size(group)));
        weight.into_iter().chain(bias).chain([("eps", self.param(eps))]).chain(group).collect()
    }

    fn score(&self, score: Score) -> Vec<(&'static str, String)> {
        let Score { scale, softcap, window, sinks, alibi } = score;
        let params = [("scale", scale), ("softcap", softcap), ("window", window)];
        let params = params.into_iter().filter_map(|(field, param)| Some((field, self.param(param?))));
        let sinks = sinks.map(|sinks| ("sinks", self.weight(sinks)));
        params.chain(sinks).chain(alibi.then(|| ("alibi", "true".to_owned()))).collect()
    }

    fn function(&self, function: Function) -> String {
        match function.parts() {
            (name, None) => name.to_owned(),
            (name, Some(param)) => format!("{name}({})", self.param(param)),
        }
    }

    fn scaling(&self, scaling: RopeScaling) -> String {
        let (name, settings) = scaling.parts();
        let settings: Vec<_> =
            settings.into_iter().map(|(field, param)| format!("{field}: {}", self.param(param))).collect();
        format!("{name}({})", settings.join(", "))
    }

    fn repeat(&self, blocks: &[BlockId], pattern: &Pattern, times: &Dim, with: ValueId) -> Vec<(&'static str, String)> {
        let name = |at: &usize| quoted(&self.graph.blocks[blocks[*at]].name);
        let names: Vec<_> = pattern.cycle.iter().map(name).collect();
        let taken = blocks.first().map_or_else(String::new, |&block| self.value(self.graph.blocks[block].takes));
        let with = format!("{{ {taken}: {} }}", self.value(with));
        let mut fields = vec![("blocks", format!("[{}]", names.join(", "))), ("times", size(times)), ("with", with)];
        if !pattern.keys.is_empty() {
            let keys: Vec<_> = pattern.keys.iter().map(|key| format!("config.{key}")).collect();
            let are = pattern.kinds.iter().map(|(kind, at)| format!("{}: {}", literal(kind), name(at)));
            let are: Vec<_> = are.collect();
            fields.push(("kinds", format!("Kinds(of: \"{}\", are: {{ {} }})", keys.join(" ?? "), are.join(", "))));
        }
        fields
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

    /// What a node calls the weight: without the block's prefix and the ending that all have, or exactly and with how
    /// it is stored where that says more.
    fn weight(&self, weight: WeightId) -> String {
        let weight = &self.graph.weights[weight];
        let Some(piece) = weight.pieces.first() else { return quoted("") };
        let prefix = self.block.map_or_else(String::new, |block| format!("{}.", self.graph.blocks[block].weights));
        let name = piece.tensor.strip_prefix(&prefix).unwrap_or(&piece.tensor);
        match name.strip_suffix(".weight") {
            Some(stem) if piece.stored == Stored::default() => quoted(stem),
            Some(_) | None => stored(name, &piece.stored),
        }
    }
}

fn stored(name: &str, stored: &Stored) -> String {
    let mut fields = vec![format!("tensor: {}", quoted(name))];
    if stored.transposed {
        fields.push("transposed: true".to_owned());
    }
    if let Some(Slice { of, from, stride }) = &stored.slice {
        let stride = stride.iter().map(|(take, every)| format!(", take: {}, every: {}", size(take), size(every)));
        fields.push(format!("rows: Slice(of: {}, from: {}{})", size(of), size(from), stride.collect::<String>()));
    }
    if stored.plus != 0.0 {
        fields.push(format!("plus: {:?}", stored.plus));
    }
    format!("Stored({})", fields.join(", "))
}

fn size(size: &Dim) -> String {
    format!("\"{size}\"")
}
