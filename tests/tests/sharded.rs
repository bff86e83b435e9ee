//! Graphs that are divided among ranks mean what they meant before.

use serde_json::{Value, json};
use trefoil::config::lookup;
use trefoil_ir::bind::bind;
use trefoil_ir::graph::Graph;
use trefoil_ir::ids::{BlockId, ValueId};
use trefoil_ir::op::Op;
use trefoil_passes::pipeline::{PassError, run_until};
use trefoil_passes::plan::Plan;
use trefoil_tests::goldens::{self, MODELS};
use trefoil_tests::oracle::{Matrix, Oracle, Tensors};
use trefoil_tests::random::Random;

const LLAMA: &str = include_str!("../../models/graphs/llama.ron");
const TOKENS: [u32; 7] = [3, 0, 19, 7, 7, 11, 2];

/// As few elements as four ranks can share.
fn config() -> Value {
    json!({
        "hidden_act": "silu", "vocab_size": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4, "rms_norm_eps": 1e-5,
    })
}

fn loaded(text: &str) -> Graph {
    trefoil_ir::load::load("llama", text).expect("a graph")
}

/// The graph as each of so many ranks runs it, by a plan with these fields beside.
fn sharded(graph: &Graph, ranks: u32, points: &str, fields: &str) -> Graph {
    try_sharded(graph, ranks, points, fields).unwrap_or_else(|error| panic!("{error}"))
}

fn try_sharded(graph: &Graph, ranks: u32, points: &str, fields: &str) -> Result<Graph, PassError> {
    let text = format!(
        "Plan(suits: (), points: {points}, streams: [Stream(name: \"compute\", group: Compute, share: 1.0)], \
         order: AsWritten, ranks: {ranks}, {fields})"
    );
    let plan = Plan::load("sharded", &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    run_until(graph.clone(), &plan, "stream_groups")
}

fn logits(graph: &Graph, tensors: &Tensors) -> Matrix {
    Oracle::new(graph, &config(), tensors).logits(&TOKENS)
}

/// Runs a graph whole and divided by each plan, and says how far the logits lie apart.
fn check(text: &str, plans: &[(&str, &str)]) {
    let mut random = Random::fresh();
    let graph = loaded(text);
    let tensors = Tensors::random(&graph, &config(), &mut random);
    let whole = logits(&graph, &tensors);
    for ranks in [1, 2, 4] {
        for (points, fields) in plans {
            let apart = whole.largest_difference(&logits(&sharded(&graph, ranks, points, fields), &tensors));
            assert!(apart < 1e-9, "{random}: {ranks} ranks, {points}, {fields}: {apart:e}");
        }
    }
}

#[test]
fn ranks_give_what_one_device_gives() {
    check(
        LLAMA,
        &[
            ("[]", ""),
            ("[]", r#"gather: { "o": [0] }"#),
            ("[]", r#"gather: { "o": [0], "down": [0] }"#),
            ("[Share(0.5)]", r#"cuts: { "*": [1] }"#),
        ],
    );
}

/// Two ranks, with the checkpoints of all families: what each rank has of packed, strided and stacked tensors, too.
#[test]
fn ranks_give_what_one_device_gives_in_every_family() {
    let tokens: Vec<u32> = (0..9).map(|position| position * 11 % 97 + 3).collect();
    let mut undivided = vec![];
    for model in MODELS {
        let (folder, graph) = (goldens::folder(model), goldens::graph(model));
        let config = goldens::config(&folder);
        let Ok(divided) = try_sharded(&graph, 2, "[Share(0.5)]", r#"cuts: { "*": [1] }"#) else {
            undivided.push(*model);
            continue;
        };
        if bind(&divided, &|key: &str| lookup(&config, key)).is_err() {
            undivided.push(*model);
            continue;
        }
        let tensors = Tensors::of_folder(&folder, |name| name.starts_with("model"));
        let logits = |graph: &Graph| Oracle::new(graph, &config, &tensors).logits(&tokens);
        let apart = logits(&graph).largest_difference(&logits(&divided));
        assert!(apart < 1e-9, "{model}: {apart:e}");
    }
    println!("not divided: {undivided:?}");
    assert!(undivided.len() * 4 < MODELS.len(), "too many are not divided: {undivided:?}");
}

#[test]
fn nano_operations_of_one_product_may_differ_in_form() {
    check(
        LLAMA,
        &[
            ("[Share(0.5)]", r#"cuts: { "*": [1] }, gather: { "o": [0] }"#),
            ("[Share(0.3), Tokens(5)]", r#"cuts: { "*": [1, 2] }, gather: { "o": [1], "down": [0, 2] }"#),
            ("[Share(0.5)]", r#"cuts: { "*": [1], "AllReduce": [] }, gather: { "down": [1] }"#),
        ],
    );
}

#[test]
fn biases_are_added_once() {
    let text = LLAMA
        .replace(
            "weight: \"self_attn.q_proj\", out: \"heads * head\"",
            "weight: \"self_attn.q_proj\", out: \"heads * head\", bias: true",
        )
        .replace(
            "weight: \"self_attn.o_proj\", out: \"hidden\"",
            "weight: \"self_attn.o_proj\", out: \"hidden\", bias: true",
        );
    assert_ne!(text, LLAMA);
    check(&text, &[("[]", ""), ("[Share(0.5)]", r#"cuts: { "*": [1] }"#)]);
}

#[test]
fn a_sum_that_is_left_out_is_noticed() {
    let mut random = Random::fresh();
    let graph = loaded(LLAMA);
    let tensors = Tensors::random(&graph, &config(), &mut random);
    let whole = logits(&graph, &tensors);
    for name in ["o_sum", "down_sum"] {
        let mut divided = sharded(&graph, 2, "[]", "");
        let block = divided.blocks.ids().next().expect("a block");
        without_sum(&mut divided, block, name);
        let apart = whole.largest_difference(&logits(&divided, &tensors));
        assert!(apart > 1e-3, "{random}: without {name} the logits are {apart:e} apart");
    }
}

/// Takes a collective away: what it completed is read as the product gives it.
fn without_sum(graph: &mut Graph, block: BlockId, name: &str) {
    let nodes = graph.body_mut(Some(block));
    let at = nodes.iter().position(|node| node.name == name).expect("the collective");
    let sum = nodes.remove(at);
    let Op::AllReduce { x, .. } = sum.op else { panic!("{name} is {}", sum.op.name()) };
    let is_part = |output: &&mut ValueId| **output == x;
    nodes.iter_mut().flat_map(|node| &mut node.outputs).filter(is_part).for_each(|output| *output = sum.outputs[0]);
}
