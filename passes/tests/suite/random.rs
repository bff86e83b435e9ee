//! Graphs and plans drawn at random: whatever a plan says, the schedule has no race, and no wait that is not needed.
//!
//! The driver verifies after every pass, so a schedule that comes out has passed the verifier, which knows nothing of
//! how it was made. Orders are those of the text, those found, and orders drawn from all that the dependencies allow.

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use trefoil_ir::depend;
use trefoil_ir::graph::Graph;
use trefoil_ir::verify::schedule::needless_waits;
use trefoil_passes::pipeline;
use trefoil_passes::plan::Plan;

/// What a layer is made of.
#[derive(Debug, Clone)]
struct Layer {
    has_attention: bool,
    has_bias: bool,
    is_gated: bool,
    has_experts: bool,
    adds_residual_last: bool,
}

impl Layer {
    fn text(&self, number: usize) -> String {
        let bias = if self.has_bias { ", bias: true" } else { "" };
        let keeps =
            if self.has_attention { "keeps: { \"kv\": KvCache(heads: \"kv_heads\", head: \"head\") }," } else { "" };
        let (attention, mlp) = (self.attention(bias), self.mlp());
        format!(
            "\"b{number}\": Block(weights: \"b{number}.{{layer}}\", \
             takes: {{ \"h\": Tensor(model, [\"tokens\", \"hidden\"]) }}, {keeps} \
             nodes: {{ {attention} {mlp} }}, gives: \"h2\"),\n"
        )
    }

    fn attention(&self, bias: &str) -> String {
        let add = if self.adds_residual_last { "a: \"o\", b: \"h\"" } else { "a: \"h\", b: \"o\"" };
        let mixing = format!(
            "\"q\": Linear(x: \"n1\", weight: \"q\", out: \"heads * head\"{bias}), \
             \"k\": Linear(x: \"n1\", weight: \"k\", out: \"kv_heads * head\"{bias}), \
             \"v\": Linear(x: \"n1\", weight: \"v\", out: \"kv_heads * head\"), \
             \"qr\": Rope(x: \"q\", pos: \"pos\", head: \"head\", theta: \"theta\"), \
             \"kr\": Rope(x: \"k\", pos: \"pos\", head: \"head\", theta: \"theta\"), \
             \"attn\": Attention(q: \"qr\", k: \"kr\", v: \"v\", cache: \"kv\", mask: Causal), \
             \"o\": Linear(x: \"attn\", weight: \"o\", out: \"hidden\"),"
        );
        let without = format!("\"o\": Linear(x: \"n1\", weight: \"o\", out: \"hidden\"{bias}),");
        let inner = if self.has_attention { mixing } else { without };
        format!("\"n1\": RmsNorm(x: \"h\", weight: \"n1\", eps: \"eps\"), {inner} \"h1\": Add({add}),")
    }

    fn mlp(&self) -> String {
        let [router, up, down] = [
            "\"logits\": Linear(x: \"n2\", weight: \"router\", out: \"experts\"), \
             \"route\": Route(x: \"logits\", top_k: \"top_k\", scoring: Softmax, renormalize: true),",
            "\"up\": ExpertLinear(x: \"n2\", experts: \"route.experts\", weight: \"{expert}.up\", \
             num_experts: \"experts\", out: \"ffn\"),",
            "\"parts\": ExpertLinear(x: \"up\", experts: \"route.experts\", weight: \"{expert}.down\", \
             num_experts: \"experts\", out: \"hidden\"), \
             \"down\": Combine(x: \"parts\", shares: \"route.shares\"), \"h2\": Add(a: \"h1\", b: \"down\"),",
        ];
        if self.has_experts {
            return format!("\"n2\": RmsNorm(x: \"h1\", weight: \"n2\", eps: \"eps\"), {router} {up} {down}");
        }
        let inner = if self.is_gated {
            "\"gate\": Linear(x: \"n2\", weight: \"gate\", out: \"ffn\"), \
             \"up\": Linear(x: \"n2\", weight: \"up\", out: \"ffn\"), \
             \"act\": GatedMul(gate: \"gate\", up: \"up\", by: Silu),"
        } else {
            "\"act\": Linear(x: \"n2\", weight: \"act\", out: \"ffn\"),"
        };
        format!(
            "\"n2\": RmsNorm(x: \"h1\", weight: \"n2\", eps: \"eps\"), {inner} \
             \"down\": Linear(x: \"act\", weight: \"down\", out: \"hidden\"), \"h2\": Add(a: \"h1\", b: \"down\"),"
        )
    }
}

prop_compose! {
    fn layer()(has_attention in prop::bool::weighted(0.8), flags in any::<[bool; 4]>()) -> Layer {
        let [has_bias, is_gated, has_experts, adds_residual_last] = flags;
        Layer { has_attention, has_bias, is_gated, has_experts, adds_residual_last }
    }
}

/// A model of one or two repeats over these layers.
fn graph(layers: &[Layer], has_two_repeats: bool) -> Graph {
    let blocks: String = layers.iter().enumerate().map(|(number, layer)| layer.text(number)).collect();
    let names: Vec<_> = (0..layers.len()).map(|number| format!("\"b{number}\"")).collect();
    let repeat = |name: &str, with: &str, blocks: &[String]| {
        format!(
            "\"{name}\": Repeat(blocks: [{}], times: \"layers\", with: {{ \"h\": \"{with}\" }}),",
            blocks.join(", ")
        )
    };
    let repeats = match names.split_first() {
        Some((first, others)) if has_two_repeats && !others.is_empty() => {
            repeat("h0", "emb", std::slice::from_ref(first)) + &repeat("h", "h0", others)
        }
        Some(_) | None => repeat("h", "emb", &names),
    };
    let source = format!(
        "Model(serves: [\"Random\"], dims: {{ \"vocab\": \"config.v\", \"hidden\": \"config.h\", \"ffn\": \"config.f\", \
         \"layers\": \"config.l\", \"heads\": \"config.a\", \"kv_heads\": \"config.k\", \"head\": \"config.d\", \
         \"experts\": \"config.n\", \"top_k\": \"config.m\", \
         \"tokens\": \"step\", \"seqs\": \"step\" }}, params: {{ \"eps\": \"config.e\", \"theta\": \"config.t\" }}, \
         inputs: {{ \"ids\": Tensor(i32, [\"tokens\"]), \"pos\": Tensor(i32, [\"tokens\"]), \"last\": Tensor(i32, [\"seqs\"]) }}, \
         blocks: {{ {blocks} }}, nodes: {{ \"emb\": Embed(ids: \"ids\", weight: \"emb\", rows: \"vocab\", out: \"hidden\"), {repeats} \
         \"norm\": RmsNorm(x: \"h\", weight: \"norm\", eps: \"eps\"), \"rows\": Rows(x: \"norm\", at: \"last\"), \
         \"logits\": Linear(x: \"rows\", weight: \"head\", out: \"vocab\") }}, gives: \"logits\")"
    );
    trefoil_ir::load::load("random", &source)
        .unwrap_or_else(|mistakes| panic!("{}", trefoil_ir::diag::render_all(&mistakes, "random", &source)))
}

const PLACEABLE: [&str; 15] = [
    "Embed",
    "RmsNorm",
    "Linear",
    "Rope",
    "Add",
    "GatedMul",
    "Route",
    "ExpertLinear",
    "Combine",
    "Rows",
    "KvWrite",
    "DecodeAttention",
    "PrefillAttention",
    "AddRmsNorm",
    "logits",
];

#[derive(Debug, Clone)]
enum DrawnOrder {
    AsWritten,
    Overlap,
    Any(Vec<Index>),
}

#[derive(Debug, Clone)]
struct DrawnPlan {
    num_points: usize,
    cuts: Vec<(&'static str, Vec<usize>)>,
    num_streams: usize,
    place: Vec<(&'static str, Index)>,
    order: DrawnOrder,
}

impl DrawnPlan {
    fn text(&self, order: &str) -> String {
        let points: Vec<_> = (0..self.num_points).map(|number| format!("Tokens({})", 8 * (number + 1))).collect();
        let cuts: Vec<_> = self.cuts.iter().map(|(name, cuts)| format!("\"{name}\": {cuts:?}")).collect();
        let groups = ["Compute", "Memory", "Network", "Copy"];
        let streams = (0..self.num_streams).zip(groups);
        let streams: Vec<_> =
            streams.map(|(number, group)| format!("Stream(name: \"s{number}\", group: {group}, share: 1.0)")).collect();
        let stream = |index: &Index| index.index(self.num_streams);
        let place: Vec<_> =
            self.place.iter().map(|(name, index)| format!("\"{name}\": \"s{}\"", stream(index))).collect();
        format!(
            "Plan(suits: (), points: [{}], cuts: {{ {} }}, streams: [{}], place: {{ {} }}, order: {order})",
            points.join(", "),
            cuts.join(", "),
            streams.join(", "),
            place.join(", ")
        )
    }

    fn plan(&self, order: &str) -> Plan {
        let source = self.text(order);
        Plan::load("random", &source)
            .unwrap_or_else(|mistakes| panic!("{}", trefoil_ir::diag::render_all(&mistakes, "random", &source)))
    }

    fn compile(&self, graph: Graph) -> Graph {
        let order = match &self.order {
            DrawnOrder::AsWritten => "AsWritten".to_owned(),
            DrawnOrder::Overlap => "Overlap".to_owned(),
            DrawnOrder::Any(choices) => {
                let grouped = pipeline::run_until(graph.clone(), &self.plan("AsWritten"), "stream_groups");
                listed(&grouped.unwrap_or_else(|error| panic!("{error}")), choices)
            }
        };
        let plan = self.plan(&order);
        pipeline::compile(graph, &plan).unwrap_or_else(|error| panic!("{}\n{error}", self.text(&order)))
    }
}

/// An order of each block's launches that the dependencies allow, by the choices drawn.
fn listed(graph: &Graph, choices: &[Index]) -> String {
    let mut choices = choices.iter().cycle();
    let lists = graph.blocks.iter().map(|(id, block)| {
        let dependencies = depend::dependencies(graph, Some(id));
        let mut left: Vec<_> = dependencies.node_indices().filter(|node| dependencies[*node].op.launches()).collect();
        let mut names = vec![];
        while !left.is_empty() {
            let is_ready = |at: &usize| {
                dependencies
                    .neighbors_directed(left[*at], petgraph::Direction::Incoming)
                    .all(|own| !left.contains(&own))
            };
            let ready: Vec<_> = (0..left.len()).filter(is_ready).collect();
            let next = left.remove(ready[choices.next().map_or(0, |choice| choice.index(ready.len()))]);
            let earlier = block.nodes[..next.index()].iter().filter(|node| node.name == dependencies[next].name);
            names.push(format!("\"{}#{}\"", dependencies[next].name, earlier.count()));
        }
        format!("\"{}\": [{}]", block.name, names.join(", "))
    });
    format!("Listed({{ {} }})", lists.collect::<Vec<_>>().join(", "))
}

prop_compose! {
    fn plan()(num_points in 0..4usize)(
        everywhere in subsequence((1..=num_points).collect::<Vec<_>>(), 0..=num_points),
        linears in prop::option::of(subsequence((1..=num_points).collect::<Vec<_>>(), 0..=num_points)),
        attention in prop::option::of(subsequence((1..=num_points).collect::<Vec<_>>(), 0..=num_points)),
        norms in prop::option::of(subsequence((1..=num_points).collect::<Vec<_>>(), 0..=num_points)),
        num_streams in 1..=4usize,
        place in prop::collection::btree_map(prop::sample::select(PLACEABLE.to_vec()), any::<Index>(), 0..6),
        order in prop_oneof![
            Just(DrawnOrder::AsWritten),
            Just(DrawnOrder::Overlap),
            prop::collection::vec(any::<Index>(), 16).prop_map(DrawnOrder::Any),
        ],
        num_points in Just(num_points),
    ) -> DrawnPlan {
        let special = [("Linear", linears), ("DecodeAttention", attention), ("RmsNorm", norms)];
        let special = special.into_iter().filter_map(|(name, cuts)| Some((name, cuts?)));
        let cuts = std::iter::once(("*", everywhere)).chain(special).collect();
        DrawnPlan { num_points, cuts, num_streams, place: place.into_iter().collect(), order }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_plan_of_any_graph_gives_a_schedule_without_races_or_needless_waits(
        layers in prop::collection::vec(layer(), 1..=2),
        has_two_repeats in any::<bool>(),
        plan in plan(),
    ) {
        let compiled = plan.compile(graph(&layers, has_two_repeats));
        prop_assert_eq!(needless_waits(&compiled), vec![]);
    }
}
