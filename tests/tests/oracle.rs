//! The oracle itself: against Hugging Face transformers, and as the judge of the passes that rewrite graphs.

use trefoil_ir::graph::Graph;
use trefoil_passes::pipeline::run_until;
use trefoil_passes::plan::Plan;
use trefoil_tests::goldens::{self, MODELS};
use trefoil_tests::oracle::{Oracle, Tensors};

const SEQUENTIAL: &str = include_str!("../../models/plans/sequential.ron");

/// The largest relative difference from the golden logits over all sequences of a model.
fn worst(graph: &Graph, model: &str) -> f32 {
    let folder = goldens::folder(model);
    let tensors = Tensors::of_folder(&folder, |name| name.starts_with("model"));
    let oracle = Oracle::new(graph, &goldens::config(&folder), &tensors);
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
    for model in MODELS {
        let worst = worst(&goldens::graph(model), model);
        println!("{model}: {worst:.1e}");
        assert!(worst < 2e-5, "{model} differs by {worst:.1e}");
    }
}

#[test]
fn passes_that_rewrite_keep_the_meaning() {
    let sequential = Plan::load("sequential", SEQUENTIAL).expect("sequential.ron loads");
    for pass in ["lower", "fuse"] {
        for model in MODELS {
            let rewritten = run_until(goldens::graph(model), &sequential, pass).expect("the pass takes the graph");
            let worst = worst(&rewritten, model);
            assert!(worst < 2e-5, "after {pass}, {model} differs by {worst:.1e}");
        }
    }
}

#[test]
fn a_wrong_graph_is_noticed() {
    let wrong = [
        ("llama3_1", "n2\": RmsNorm(x: \"h1\"", "n2\": RmsNorm(x: \"h\""),
        ("llama3_1", "by: Silu", "by: Gelu"),
        ("llama3_1", "rope_low\", high", "rope_high\", high"),
        ("qwen2", "v_proj\", out: \"kv_heads * head\", bias: true", "v_proj\", out: \"kv_heads * head\""),
        ("mixtral", "renormalize: true", "renormalize: false"),
        ("mixtral", "scoring: Softmax", "scoring: Sigmoid"),
        ("mixtral", "gate: \"gate\", up: \"up\"", "gate: \"up\", up: \"gate\""),
    ];
    for (model, right, wrong) in wrong {
        let name = goldens::graph(model).name;
        let (_, source) = trefoil::graphs::GRAPH_SOURCES.iter().find(|(own, _)| **own == name).expect("its source");
        let text = source.replace(right, wrong);
        assert_ne!(text, *source);
        let graph = trefoil_ir::load::load("wrong", &text).expect("still a graph");
        let worst = worst(&graph, model);
        assert!(worst > 1e-3, "{model}, {wrong}: {worst}");
    }
}
