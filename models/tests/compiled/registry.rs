//! Which compiled model serves a checkpoint.

use trefoil::registry::{all, find};
use trefoil_runtime::checkpoint::Config;

use crate::recorder::Recorder;

fn found(config: &str, graph: Option<&str>) -> Result<&'static str, String> {
    let model = find::<Recorder>(&Config::from_json(config).unwrap(), graph);
    model.map(|model| model.name).map_err(|error| error.to_string())
}

#[test]
fn the_architecture_chooses() {
    assert_eq!(found(r#"{"architectures": ["LlamaForCausalLM"]}"#, None), Ok("llama"));
    assert_eq!(found(r#"{"architectures": ["Unheard", "LlamaForCausalLM"]}"#, None), Ok("llama"));
}

#[test]
fn a_name_overrules_the_architecture() {
    assert_eq!(found(r#"{"architectures": ["Unheard"]}"#, Some("llama")), Ok("llama"));
    let error = found("{}", Some("lama")).unwrap_err();
    assert!(
        error.starts_with("no graph is named lama; there are ") && error.contains("did you mean llama?"),
        "{error}"
    );
}

#[test]
fn an_unknown_architecture_is_told_with_the_nearest_one() {
    let error = found(r#"{"architectures": ["LlamaForCasualLM"]}"#, None).unwrap_err();
    assert!(error.starts_with("no graph serves LlamaForCasualLM; served are "), "{error}");
    assert!(error.ends_with("(did you mean LlamaForCausalLM?)"), "{error}");
    let error = found(r#"{"architectures": ["Mamba"]}"#, None).unwrap_err();
    assert!(!error.contains("did you mean"), "{error}");
}

#[test]
fn every_model_falls_back_to_the_sequential_plan() {
    for model in all::<Recorder>() {
        assert_eq!(model.plans[0].name, "sequential", "{}", model.name);
        assert_eq!(model.plans[0].suits, Default::default(), "{}", model.name);
    }
}

#[test]
fn a_checkpoint_is_served_by_a_model_for_one_rank() {
    for model in all::<Recorder>() {
        let config = format!("{{\"architectures\": [\"{}\"]}}", model.serves[0]);
        let found = find::<Recorder>(&Config::from_json(&config).unwrap(), None).unwrap();
        assert_eq!(found.ranks, 1, "{}", model.name);
    }
}
