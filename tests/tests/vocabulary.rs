//! The whole language through the oracle: what passes make of it means the same, and so do weights however they are
//! stored and on however many ranks.

use serde_json::{Value, json};
use trefoil_ir::graph::Graph;
use trefoil_passes::pipeline::run_until;
use trefoil_passes::plan::Plan;
use trefoil_tests::oracle::{Matrix, Oracle, Tensors};
use trefoil_tests::random::Random;

const SEQUENTIAL: &str = include_str!("../../models/plans/sequential.ron");
const EVERYTHING: &str = include_str!("../files/graphs/everything.ron");
const TOKENS: [u32; 7] = [3, 0, 19, 7, 7, 11, 2];

fn loaded(text: &str) -> Graph {
    let show = |mistakes: Vec<_>| panic!("{}", trefoil_ir::diag::render_all(&mistakes, "graph", text));
    trefoil_ir::load::load("graph", text).unwrap_or_else(show)
}

fn logits(graph: &Graph, config: &Value, tensors: &Tensors) -> Matrix {
    Oracle::new(graph, config, tensors).logits(&TOKENS)
}

/// A configuration of everything, with these keys beside.
fn everything_at(keys: Value) -> Value {
    let mut config = json!({
        "vocab_size": 20, "n_embd": 24, "n_layer": 4, "n_head": 6, "n_kv_head": 2, "n_experts": 4, "top_k": 2,
        "n_positions": 16, "window_pattern": [], "one": [false],
    });
    let (Value::Object(all), Value::Object(keys)) = (&mut config, keys) else { panic!("a map") };
    all.extend(keys);
    config
}

#[test]
fn passes_keep_the_meaning_of_everything() {
    let sequential = Plan::load("sequential", SEQUENTIAL).expect("sequential.ron loads");
    let (graph, mut random) = (loaded(EVERYTHING), Random::fresh());
    for keys in [
        json!({}),
        json!({ "window": 3, "softcap": 2.5, "norm_topk_prob": true, "query_scalar": 2 }),
        json!({ "layer_types": ["full_attention", true, 1, "full_attention"], "rope_scaling": { "factor": 4.0 } }),
    ] {
        let config = everything_at(keys);
        let tensors = Tensors::random(&graph, &config, &mut random);
        let expected = logits(&graph, &config, &tensors);
        for pass in ["lower", "fuse"] {
            let rewritten = run_until(graph.clone(), &sequential, pass).expect("the pass takes the graph");
            let apart = expected.largest_difference(&logits(&rewritten, &config, &tensors));
            assert!(apart < 1e-9, "{random}: after {pass}: {apart:e}");
        }
    }
}

#[test]
fn settings_of_everything_matter() {
    let (graph, mut random) = (loaded(EVERYTHING), Random::fresh());
    let plain = everything_at(json!({ "softcap": 2.5 }));
    let tensors = Tensors::random(&graph, &plain, &mut random);
    let expected = logits(&graph, &plain, &tensors);
    for keys in [
        json!({ "softcap": 0.5 }),
        json!({ "softcap": 2.5, "window": 2 }),
        json!({ "softcap": 2.5, "query_scalar": 0.1 }),
        json!({ "softcap": 2.5, "norm_topk_prob": true }),
        json!({ "softcap": 2.5, "rope_scaling": { "factor": 8.0 } }),
        json!({ "softcap": 2.5, "rope_theta": 10.0 }),
        json!({ "softcap": 2.5, "window": 2, "attention": { "kinds": ["full_attention", 1, 1, 1] } }),
    ] {
        let apart = expected.largest_difference(&logits(&graph, &everything_at(keys.clone()), &tensors));
        assert!(apart > 1e-6, "{random}: {keys} changes nothing: {apart:e}");
    }
}

/// Grouped attention and experts, every weight a tensor of its own.
const PLAIN: &str = r#"
Model(
    serves: ["StoredForCausalLM"],
    prefixes: ["", "transformer."],
    dims: {
        "vocab": "20", "hidden": "8", "ffn": "6", "layers": "2", "heads": "4", "kv_heads": "2", "head": "4",
        "experts": "4", "top_k": "2", "tokens": "step", "seqs": "step",
    },
    params: { "eps": "1e-5" },
    inputs: { "ids": Tensor(i32, ["tokens"]), "last": Tensor(i32, ["seqs"]) },
    blocks: {
        "decoder": Block(
            weights: "h.{layer}",
            takes: { "h": Tensor(model, ["tokens", "hidden"]) },
            keeps: { "kv": KvCache(heads: "kv_heads", head: "head") },
            nodes: {
                "n1": RmsNorm(x: "h", weight: "ln_1", eps: "eps"),
                "q": Linear(x: "n1", weight: "q", out: "heads * head", bias: true),
                "k": Linear(x: "n1", weight: "k", out: "kv_heads * head", bias: true),
                "v": Linear(x: "n1", weight: "v", out: "kv_heads * head", bias: true),
                "attn": Attention(q: "q", k: "k", v: "v", cache: "kv", mask: Causal, sinks: "sinks"),
                "o": Linear(x: "attn", weight: "o", out: "hidden"),
                "h1": Add(a: "h", b: "o"),
                "n2": RmsNorm(x: "h1", weight: "ln_2", eps: "eps"),
                "router": Linear(x: "n2", weight: "router", out: "experts"),
                "route": Route(x: "router", top_k: "top_k", scoring: Softmax, renormalize: true),
                "gate": ExpertLinear(x: "n2", experts: "route.experts", weight: "e.{expert}.gate", bias: true, num_experts: "experts", out: "ffn"),
                "up": ExpertLinear(x: "n2", experts: "route.experts", weight: "e.{expert}.up", bias: true, num_experts: "experts", out: "ffn"),
                "act": GatedMul(gate: "gate", up: "up", by: Silu),
                "down": ExpertLinear(x: "act", experts: "route.experts", weight: "e.{expert}.down", num_experts: "experts", out: "hidden"),
                "moe": Combine(x: "down", shares: "route.shares"),
                "h2": Add(a: "h1", b: "moe"),
            },
            gives: "h2",
        ),
    },
    nodes: {
        "emb": Embed(ids: "ids", weight: "wte", rows: "vocab", out: "hidden"),
        "deep": Repeat(blocks: ["decoder"], times: "layers", with: { "h": "emb" }),
        "rows": Rows(x: "deep", at: "last"),
        "logits": Linear(x: "rows", weight: "head", out: "vocab"),
    },
    gives: "logits",
)
"#;

const HIDDEN: usize = 8;
const HEAD: usize = 4;
const FFN: usize = 6;
const EXPERTS: usize = 4;

/// `PLAIN` with other texts in place of some.
fn stored_as(changes: &[(&str, &str)]) -> Graph {
    let replace = |text: String, (old, new): &(&str, &str)| {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text.replace(old, new)
    };
    loaded(&changes.iter().fold(PLAIN.to_owned(), replace))
}

/// All tensors of the plain graph, and for each layer those that `of_layer` makes of them.
fn made_of(plain: &Tensors, of_layer: impl Fn(&dyn Fn(&str) -> Matrix) -> Vec<(&'static str, Matrix)>) -> Tensors {
    let make = |layer: usize| {
        let get = |name: &str| {
            let elements = plain.get(&format!("h.{layer}.{name}")).to_vec();
            let columns = if name.ends_with(".bias") { 1 } else { width(name) };
            Matrix::new(elements.len() / columns, columns, elements)
        };
        let made = of_layer(&get);
        made.into_iter().map(move |(name, tensor)| (format!("h.{layer}.{name}"), tensor.elements().to_vec()))
    };
    let made: Vec<_> = (0..2).flat_map(make).collect();
    plain.iter().chain(made).collect()
}

/// Columns of a tensor of the plain graph.
fn width(name: &str) -> usize {
    match name {
        "o.weight" => 4 * HEAD,
        name if name.ends_with("down.weight") => FFN,
        name if name.starts_with("ln") => 1,
        _ => HIDDEN,
    }
}

fn below(parts: &[Matrix]) -> Matrix {
    let columns = parts[0].num_columns();
    let elements: Vec<f64> = parts.iter().flat_map(|part| part.elements().to_vec()).collect();
    Matrix::new(elements.len() / columns, columns, elements)
}

/// What a graph with other weights gives is what the plain one gives, whole and divided among two ranks.
fn check(graph: &Graph, tensors: impl Fn(&Tensors) -> Tensors) {
    let mut random = Random::fresh();
    let plain = loaded(PLAIN);
    let own = Tensors::random(&plain, &json!({}), &mut random);
    let expected = logits(&plain, &json!({}), &own);
    let stored = tensors(&own);
    let apart = expected.largest_difference(&logits(graph, &json!({}), &stored));
    assert!(apart < 1e-12, "{random}: {apart:e}");
    let plan = "Plan(suits: (), points: [], streams: [Stream(name: \"compute\", group: Compute, share: 1.0)], \
                order: AsWritten, ranks: 2)";
    let plan = Plan::load("sharded", plan).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let divided = run_until(graph.clone(), &plan, "stream_groups").unwrap_or_else(|error| panic!("{error}"));
    let num_parts = divided.weights.values().filter(|weight| weight.part != Default::default()).count();
    assert!(num_parts > 4, "nothing is divided");
    let apart = expected.largest_difference(&logits(&divided, &json!({}), &stored));
    assert!(apart < 1e-9, "{random}: two ranks: {apart:e}");
}

#[test]
fn plain_weights() {
    check(&loaded(PLAIN), |plain| plain.iter().collect());
}

#[test]
fn one_tensor_below_the_other_and_transposed() {
    let product = |from: &str| {
        format!(
            "Stored(tensor: \"c_attn.weight\", transposed: true, rows: Slice(of: \"(heads + 2 * kv_heads) * head\", from: \"{from}\"))"
        )
    };
    let [q, k, v] = ["0", "heads * head", "(heads + kv_heads) * head"].map(product);
    let graph = stored_as(&[
        ("\"q\", out", &format!("{q}, out")),
        ("\"k\", out", &format!("{k}, out")),
        ("\"v\", out", &format!("{v}, out")),
    ]);
    check(&graph, |plain| {
        made_of(plain, |get| {
            let weight = below(&["q.weight", "k.weight", "v.weight"].map(get)).transposed();
            vec![("c_attn.weight", weight), ("c_attn.bias", below(&["q.bias", "k.bias", "v.bias"].map(get)))]
        })
    });
}

#[test]
fn rows_of_each_group_of_heads_together() {
    let product = |from: &str, take: &str| {
        format!(
            "Stored(tensor: \"qkv.weight\", rows: Slice(of: \"kv_heads * 4 * head\", from: \"{from}\", take: \"{take}\", every: \"4 * head\"))"
        )
    };
    let (q, k, v) = (product("0", "2 * head"), product("2 * head", "head"), product("3 * head", "head"));
    let graph = stored_as(&[
        ("\"q\", out", &format!("{q}, out")),
        ("\"k\", out", &format!("{k}, out")),
        ("\"v\", out", &format!("{v}, out")),
    ]);
    check(&graph, |plain| {
        made_of(plain, |get| {
            let fused = |[q, k, v]: [&str; 3]| {
                let groups = (0..2).flat_map(|group| {
                    let one = |name, from: usize, take: usize| get(name).stretch(from * HEAD..(from + take) * HEAD);
                    [one(q, 2 * group, 2), one(k, group, 1), one(v, group, 1)]
                });
                below(&groups.collect::<Vec<_>>())
            };
            vec![
                ("qkv.weight", fused(["q.weight", "k.weight", "v.weight"])),
                ("qkv.bias", fused(["q.bias", "k.bias", "v.bias"])),
            ]
        })
    });
}

#[test]
fn experts_stacked_transposed_and_interleaved() {
    let part = |tensor: &str, transposed: &str, from: usize| {
        format!(
            "Stored(tensor: \"{tensor}\"{transposed}, rows: Slice(of: \"2 * ffn\", from: \"{from}\", take: \"1\", every: \"2\"))"
        )
    };
    let product = |from| {
        let bias = part("e.gate_up_bias", "", from);
        format!("{}, bias: {bias}", part("e.gate_up", ", transposed: true", from))
    };
    let graph = stored_as(&[
        ("\"e.{expert}.gate\", bias: true", &product(0)),
        ("\"e.{expert}.up\", bias: true", &product(1)),
        ("\"e.{expert}.down\"", "Stored(tensor: \"e.down_proj\")"),
    ]);
    check(&graph, |plain| {
        made_of(plain, |get| {
            let all = |of_one: &dyn Fn(usize) -> Matrix| below(&(0..EXPERTS).map(of_one).collect::<Vec<_>>());
            let interleaved = |expert: usize, what: &str| {
                let [gate, up] = ["gate", "up"].map(|part| get(&format!("e.{expert}.{part}.{what}")));
                let rows = (0..FFN).flat_map(|row| [gate.stretch(row..row + 1), up.stretch(row..row + 1)]);
                below(&rows.collect::<Vec<_>>())
            };
            vec![
                ("e.gate_up", all(&|expert| interleaved(expert, "weight").transposed())),
                ("e.gate_up_bias", all(&|expert| interleaved(expert, "bias"))),
                ("e.down_proj", all(&|expert| get(&format!("e.{expert}.down.weight")))),
            ]
        })
    });
}

#[test]
fn a_number_is_added_to_what_is_stored() {
    let graph = stored_as(&[("\"ln_1\"", "Stored(tensor: \"less_one\", plus: 1.0)")]);
    check(&graph, |plain| made_of(plain, |get| vec![("less_one", get("ln_1.weight").map(|weight| weight - 1.0))]));
}

#[test]
fn tensors_are_found_under_the_prefix_that_most_have() {
    check(&loaded(PLAIN), |plain| {
        let prefixed = plain.iter().map(|(name, tensor)| (format!("transformer.{name}"), tensor));
        // Of the other prefix there is one tensor, which is not read.
        prefixed.chain([("wte.weight".to_owned(), vec![9.0; 20 * HIDDEN])]).collect()
    });
}
