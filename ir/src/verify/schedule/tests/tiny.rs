//! A model of one small attention layer, and schedules for it in a few letters:
//! `c a#1 1..2` launches nano-batch 1 of `a` on stream c, `c > e0` records, `m < e0` waits.

use crate::diag::Place;
use crate::dim::Dim;
use crate::graph::{Block, Cache, Graph, Node, Point, Range, SEQS, Split, Stage, TOKENS, Value};
use crate::ids::{BlockId, EventId, Id, ParamId, PointId, StreamId, Table, ValueId, WeightId};
use crate::op::{Mask, Op, Pattern, Score};
use crate::schedule::{Group, Launch, Schedule, Section, Step, Stream};
use crate::types::{Element, TensorType};

/// Two nano-batches; the decode attention of one beside the products of the other.
pub(super) const OVERLAP: &str = "
    c a#0 0..1
    c kv#0 0..1
    c > e0
    m < e0
    m dec#0 0..1
    m > e1
    c a#1 1..2
    c kv#1 1..2
    c > e2
    m < e2
    m dec#1 1..2
    m > e3
    c pre#0 0..1
    c pre#1 1..2
    c < e1
    c g#0 0..1
    c < e3
    c g#1 1..2
";

pub(super) const EMBED: &str = "c emb#0 0..2";
pub(super) const HEAD: &str = "
    c rows#0 0..2
    c logits#0 0..2
";

/// The model with one kind of layer, and its schedule.
pub(super) fn tiny(embed: &str, layer: &str, head: &str) -> Graph {
    tiny_of(embed, &[layer], head)
}

/// The model with as many kinds of layer as there are texts.
pub(super) fn tiny_of(embed: &str, layers: &[&str], head: &str) -> Graph {
    let mut graph = model(layers.len());
    let blocks = layers.iter().enumerate().map(|(number, text)| {
        let block = BlockId::new(number);
        (block, parse(&graph, Some(block), text))
    });
    let blocks: Vec<_> = blocks.collect();
    let sections = vec![
        Section::Once(parse(&graph, None, embed)),
        Section::Repeat { blocks, times: Dim::name("layers") },
        Section::Once(parse(&graph, None, head)),
    ];
    let num_events = 10;
    graph.schedule = Some(Schedule { sections, num_events, buffers: Table::default(), homes: Table::default() });
    graph
}

/// The codes of all that is wrong, without repetition.
pub(super) fn codes(graph: &Graph) -> Vec<&'static str> {
    let mut codes: Vec<_> = super::super::hazards(graph).iter().map(|mistake| mistake.code).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// All that is wrong, a line each.
pub(super) fn messages(graph: &Graph) -> String {
    super::super::hazards(graph).iter().map(|mistake| format!("{}: {}\n", mistake.code, mistake.message)).collect()
}

/// The value of this name in a block or the main body.
pub(super) fn value_of(graph: &Graph, block: Option<usize>, name: &str) -> ValueId {
    let block = block.map(BlockId::new);
    let found = graph.values.iter().find(|(_, value)| value.block == block && value.name == name);
    found.unwrap_or_else(|| panic!("no value `{name}`")).0
}

fn model(num_blocks: usize) -> Graph {
    let stream = |name: &str, group| Stream { name: name.to_owned(), group, share: 1.0 };
    let mut graph = Graph {
        name: "tiny".to_owned(),
        stage: Stage::Scheduled,
        serves: vec![],
        expects: vec![],
        dims: Table::default(),
        params: Table::default(),
        context: None,
        prefixes: vec![],
        ignores: vec![],
        weights: Table::default(),
        caches: Table::default(),
        values: Table::default(),
        blocks: Table::default(),
        inputs: vec![],
        nodes: vec![],
        gives: ValueId::new(0),
        split: Some(Split { points: vec![Point::Share(0.5)], multiple_of: 1 }),
        streams: Some(Table::from_iter([stream("compute", Group::Compute), stream("memory", Group::Memory)])),
        schedule: None,
    };
    let ids = value(&mut graph, None, "ids", TOKENS, None);
    let last = value(&mut graph, None, "last", SEQS, None);
    graph.inputs = vec![ids, last];
    for number in 0..num_blocks {
        block(&mut graph, BlockId::new(number));
    }
    let weight = WeightId::new(0);
    let emb = give(&mut graph, None, "emb", TOKENS, Op::Embed { ids, weight });
    let (blocks, pattern) = (graph.blocks.ids().collect(), Pattern::in_turn(num_blocks));
    let repeat = Op::Repeat { blocks, pattern, times: Dim::name("layers"), with: emb };
    let out = give(&mut graph, None, "out", TOKENS, repeat);
    let rows = give(&mut graph, None, "rows", SEQS, Op::Rows { x: out, at: last });
    graph.gives = give(&mut graph, None, "logits", SEQS, Op::Linear { x: rows, weight, bias: None });
    graph
}

fn block(graph: &mut Graph, id: BlockId) {
    let wide = Some(Dim::name("hidden"));
    let (place, block, weight) = (Place::default(), Some(id), WeightId::new(0));
    let takes = value(graph, block, "h", TOKENS, wide);
    let (weights, head) = (String::new(), Dim::name("head"));
    graph.blocks.push(Block { name: id.to_string(), weights, takes, nodes: vec![], gives: takes, place });
    let (name, kv_heads) = ("kv".to_owned(), Dim::constant(1));
    let cache = graph.caches.push(Cache { name, block: id, kv_heads, head, value: None, place });
    let a = give(graph, block, "a", TOKENS, Op::Linear { x: takes, weight, bias: None });
    node(graph, block, "kv", vec![], Op::KvWrite { k: a, v: a, cache });
    let (mask, score) = (Mask::Causal, Score::default());
    let b = give(graph, block, "dec", TOKENS, Op::DecodeAttention { q: a, cache, mask, score });
    node(graph, block, "pre", vec![b], Op::PrefillAttention { q: a, cache, mask, score });
    let (weight, eps) = (Some(weight), ParamId::new(0));
    give(graph, block, "side", TOKENS, Op::RmsNorm { x: a, weight, eps, group: None });
    let gives = give(graph, block, "g", TOKENS, Op::Add { a: takes, b });
    graph.blocks[id].gives = gives;
}

fn value(graph: &mut Graph, block: Option<BlockId>, name: &str, rows: &str, columns: Option<Dim>) -> ValueId {
    let shape = [Some(Dim::name(rows)), columns].into_iter().flatten().collect();
    let ty = TensorType { element: Element::Model, shape };
    graph.values.push(Value { name: name.to_owned(), block, ty, place: Place::default() })
}

fn give(graph: &mut Graph, block: Option<BlockId>, name: &str, rows: &str, op: Op) -> ValueId {
    let output = value(graph, block, name, rows, Some(Dim::name("hidden")));
    node(graph, block, name, vec![output], op);
    output
}

fn node(graph: &mut Graph, block: Option<BlockId>, name: &str, outputs: Vec<ValueId>, op: Op) {
    let node =
        Node { name: name.to_owned(), op, outputs, range: None, stream: None, share: None, place: Place::default() };
    graph.body_mut(block).push(node);
}

fn parse(graph: &Graph, block: Option<BlockId>, text: &str) -> Vec<Step> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| parse_step(graph, block, line)).collect()
}

fn parse_step(graph: &Graph, block: Option<BlockId>, line: &str) -> Step {
    let words: Vec<&str> = line.split_whitespace().collect();
    let stream = StreamId::new(["c", "m", "nowhere"].iter().position(|name| *name == words[0]).unwrap());
    let event = || EventId::new(words[2].trim_start_matches('e').parse().unwrap());
    match words[1] {
        ">" => Step::Record { stream, event: event() },
        "<" => Step::Wait { stream, event: event() },
        launch => Step::Launch(parse_launch(graph, block, launch, words[2], stream)),
    }
}

fn parse_launch(graph: &Graph, block: Option<BlockId>, name: &str, range: &str, stream: StreamId) -> Launch {
    let (name, nano) = name.split_once('#').unwrap();
    let (from, to) = range.split_once("..").unwrap();
    let cut = |text: &str| PointId::new(text.parse().unwrap());
    let node = graph.body(block).iter().find(|node| node.name == name).unwrap_or_else(|| panic!("no node `{name}`"));
    Launch {
        node: name.to_owned(),
        nano: nano.parse().unwrap(),
        op: node.op.clone(),
        outputs: node.outputs.clone(),
        range: Range { from: cut(from), to: cut(to) },
        stream,
        share: None,
    }
}
