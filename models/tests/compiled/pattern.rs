//! Three kinds of layer in two repeats.

use trefoil_runtime::checkpoint::Config;
use trefoil_runtime::launch::StepRows;
use trefoil_runtime::model::BoundModel;

use crate::recorder::{Recorder, run};
use crate::script;

trefoil_macro::compile_model!("tests/graphs/pattern.ron", plans: ["plans/sequential.ron", "plans/overlap-2.ron"]);

const CONFIG: &str = r#"{"vocab_size": 20, "hidden_size": 8, "heads": 2, "firsts": 2, "others": 5}"#;
const ROWS: StepRows = StepRows { tokens: 40, decode: 33, seqs: 34 };

fn bound() -> BoundModel {
    pattern::bind(&Config::from_json(CONFIG).unwrap()).unwrap()
}

#[test]
fn each_kind_has_its_layers() {
    let bound = bound();
    assert_eq!(bound.num_layers, 7);
    let of_tensor = |tensor: &str| {
        let made_of =
            |weight: &&trefoil_runtime::model::WeightSpec| weight.pieces.iter().any(|piece| piece.tensor == tensor);
        bound.weights.iter().find(made_of).unwrap().layers.clone().unwrap()
    };
    assert_eq!(of_tensor("first.{layer}.norm.weight"), [0, 1]);
    assert_eq!(of_tensor("other.{layer}.q.weight"), [2, 4, 5]);
    assert_eq!(of_tensor("other.{layer}.down.weight"), [3, 6]);
    let caches: Vec<_> = bound.caches.iter().map(|cache| (cache.kv_heads, &cache.layers[..])).collect();
    assert_eq!(caches, [(2, &[0, 1][..]), (1, &[2, 4, 5][..])]);
    assert_eq!(bound.params, [1e-5, 200.0]);
}

#[test]
fn the_layers_take_turns_as_the_schedule_says() {
    let (graph, plans) = (
        include_str!("../graphs/pattern.ron"),
        [
            ("sequential", include_str!("../../plans/sequential.ron")),
            ("overlap-2", include_str!("../../plans/overlap-2.ron")),
        ],
    );
    let compiled = trefoil_codegen::compile("pattern", graph, &plans).unwrap();
    let (model, bound) = (pattern::compiled::<Recorder>(), bound());
    for (plan, planned) in model.plans.iter().zip(&compiled.plans) {
        let whole = run(plan, &bound, ROWS, &[0..7]);
        assert_eq!(script::heard(&whole), script::of(&planned.graph, &[&[0, 0], &[0, 1, 0, 0, 1]]), "{}", plan.name);
        assert_eq!(whole, run(plan, &bound, ROWS, &[0..2, 2..4, 4..7]), "{}", plan.name);
    }
}
