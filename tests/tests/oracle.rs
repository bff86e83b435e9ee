//! The oracle itself: against Hugging Face transformers, and as the judge of the passes that rewrite graphs.

use std::path::Path;

use serde_json::Value;
use trefoil_ir::bind::{Bound, bind};
use trefoil_ir::graph::{Graph, Literal};
use trefoil_tests::goldens::{self, MODELS};
use trefoil_tests::oracle::{Oracle, Tensors};

const LLAMA: &str = include_str!("../../models/graphs/llama.ron");

fn config(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("config.json")).expect("a config.json");
    serde_json::from_str(&text).expect("JSON")
}

fn sizes(graph: &Graph, config: &Value) -> Bound {
    let lookup = |key: &str| match key.split('.').try_fold(config, |value, key| value.get(key))? {
        Value::Bool(value) => Some(Literal::Bool(*value)),
        Value::Number(value) => value.as_f64().map(Literal::Number),
        Value::String(value) => Some(Literal::Text(value.clone())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    bind(graph, &lookup).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The largest relative difference from the golden logits over all sequences of a model.
fn worst(graph: &Graph, model: &str) -> f32 {
    let folder = goldens::folder(model);
    let config = config(&folder);
    let tensors = Tensors::of_folder(&folder, |name| name.starts_with("model"));
    let tied = config["tie_word_embeddings"] == Value::Bool(true);
    let oracle = Oracle::new(graph, sizes(graph, &config), tied, &tensors);
    let differences = goldens::sequences(model, "logits").into_iter().map(|sequence| {
        let logits = oracle.logits(&sequence.tokens);
        let rows = logits.rows().enumerate().map(|(position, row)| {
            let row: Vec<f32> = row.iter().map(|&logit| logit as f32).collect();
            goldens::relative_difference(&row, sequence.row(position))
        });
        rows.fold(0f32, f32::max)
    });
    differences.fold(0f32, f32::max)
}

#[test]
fn the_oracle_agrees_with_transformers() {
    let graph = trefoil_ir::load::load("llama", LLAMA).expect("llama.ron loads");
    for model in MODELS {
        let worst = worst(&graph, model);
        println!("{model}: {worst:.1e}");
        assert!(worst < 2e-5, "{model} differs by {worst:.1e}");
    }
}

#[test]
fn a_wrong_graph_is_noticed() {
    let wrong = [
        ("n2\": RmsNorm(x: \"h1\"", "n2\": RmsNorm(x: \"h\""),
        ("by: Silu", "by: Gelu"),
        ("rope_low\", high", "rope_high\", high"),
    ];
    for (right, wrong) in wrong {
        let text = LLAMA.replace(right, wrong);
        assert_ne!(text, LLAMA);
        let graph = trefoil_ir::load::load("wrong", &text).expect("still a graph");
        let worst = worst(&graph, "llama3_1");
        assert!(worst > 1e-3, "{wrong}: {worst}");
    }
}
