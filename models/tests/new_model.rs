//! `trefoil new-model`: which family is nearest, what there is to decide, and that the result loads.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Folder, done, failed, text, trefoil};
use serde_json::{Value, json};

const PARITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity");

/// What the command writes to a file, and what it says of it.
fn begin(from: &str, out: &str, more: &[&str]) -> (String, String) {
    let output = trefoil(&[&["new-model", "--from", from, "--out", out][..], more].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{from}: {said}");
    (fs::read_to_string(out).unwrap_or_default(), said)
}

fn llama_like() -> Value {
    json!({
        "architectures": ["TrifoliumForCausalLM"], "model_type": "trifolium", "hidden_act": "silu", "vocab_size": 500,
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "rope_theta": 10000.0,
    })
}

/// The lines of a text that have something to be decided, each with all that it goes on to and the line below it.
fn decisions(graph: &str) -> Vec<String> {
    let lines: Vec<_> = graph.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("// DECIDE"));
    starts
        .map(|(at, _)| {
            let whole = lines[at + 1..].iter().take_while(|line| line.trim_start().starts_with("//  "));
            let end = at + 2 + whole.count();
            lines[at..end.min(lines.len())]
                .iter()
                .map(|line| line.trim_start_matches([' ', '/']))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// A checkpoint of the parity goldens with an architecture that nobody serves and with changes to its configuration.
fn renamed(model: &Path, folder: &Folder, change: impl FnOnce(&mut Value)) {
    let config = fs::read_to_string(model.join("config.json")).expect("a config.json");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["architectures"] = json!(["TrifoliumForCausalLM"]);
    change(&mut config);
    folder.file("config.json", &config.to_string());
    for file in fs::read_dir(model).expect("a folder").map(|file| file.expect("a file").path()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("model") {
            fs::copy(&file, folder.0.join(name)).expect("a copy of the weights");
        }
    }
}

fn models() -> Vec<PathBuf> {
    let all = fs::read_dir(PARITY).expect("the parity goldens").map(|entry| entry.expect("an entry").path());
    all.filter(|path| path.join("config.json").is_file()).collect()
}

/// The graph that serves what a configuration names.
fn family(model: &Path) -> &'static str {
    let config: Value =
        serde_json::from_str(&fs::read_to_string(model.join("config.json")).expect("a config")).expect("JSON");
    let architecture = config["architectures"][0].as_str().expect("an architecture").to_owned();
    let graphs = trefoil::registry::GRAPH_SOURCES.iter();
    let mut serving = graphs.filter(|(name, text)| {
        trefoil_ir::load::load(name, text).expect("a graph that loads").serves.contains(&architecture)
    });
    serving.next().expect("a graph that serves it").0
}

#[test]
fn every_family_is_nearest_to_its_own_models_by_what_they_are_and_not_by_their_names() {
    let all = models();
    assert!(all.len() >= 49, "the parity goldens have moved: {}", all.len());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let known_by_name: usize = std::thread::scope(|scope| {
        let count = |models: &[PathBuf]| models.iter().filter(|model| !is_nearest_to_its_own(model)).count();
        let chunks = all.chunks(all.len().div_ceil(threads));
        let running: Vec<_> = chunks.map(|models| scope.spawn(move || count(models))).collect();
        running.into_iter().map(|counting| counting.join().expect("no model is far from its own")).sum()
    });
    assert!(known_by_name * 10 < all.len(), "{known_by_name} of {} are known by their names alone", all.len());
}

/// Whether its family is found without its names. Some families differ in mathematics that no key and no tensor shows,
/// such as which elements of a head turn together: those must be found by `model_type`.
fn is_nearest_to_its_own(model: &Path) -> bool {
    let name = model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = Folder::new(&format!("nearest-{name}"));
    let family = format!("  1. {}: ", family(model));
    let nearest = |change: &dyn Fn(&mut Value)| {
        renamed(model, &folder, change);
        begin(folder.path(), &folder.file("new.ron", ""), &["--force"])
    };
    let nameless = nearest(&|config| drop(config.as_object_mut().expect("an object").remove("model_type")));
    let by_nature = nameless.1.contains(&family);
    let (graph, said) = if by_nature { nameless } else { nearest(&|_| ()) };
    assert!(said.contains(&family), "{name} is not of {family}{said}");
    assert_eq!(decisions(&graph), <[String; 0]>::default(), "{name} is served as it is");
    assert!(graph.contains("serves: [\"TrifoliumForCausalLM\"]"), "{name}");
    by_nature
}

#[test]
fn a_graph_with_nothing_to_decide_is_as_good_as_the_one_it_comes_from() {
    let folder = Folder::new("nothing-to-decide");
    renamed(&Path::new(PARITY).join("qwen3"), &folder, |_| ());
    let out = folder.0.join("mine.ron").display().to_string();
    let (_, said) = begin(folder.path(), &out, &[]);
    assert!(said.contains("1. qwen3: ") && said.contains("14 of its 14 tensors"), "{said}");
    let checked = done(&["check", &out, "--config", folder.path()]);
    assert!(checked.contains("serves TrifoliumForCausalLM") && !checked.contains("note:"), "{checked}");
}

#[test]
fn keys_that_are_not_read_and_values_that_are_not_served_are_to_be_decided() {
    let folder = Folder::new("decide-config");
    let mut config = llama_like();
    for (key, value) in [
        ("hidden_act", json!("gelu")),
        ("use_qk_norm", json!(true)),
        ("final_logit_softcapping", json!(30.0)),
        ("never_heard_of", json!(1)),
    ] {
        config[key] = value;
    }
    config.as_object_mut().expect("an object").remove("rms_norm_eps");
    let from = folder.file("config.json", &config.to_string());
    let out = folder.0.join("mine.ron").display().to_string();
    let (graph, said) = begin(&from, &out, &["--graph", "llama"]);
    let found = decisions(&graph);
    let expected = [
        ("`hidden_act` is \"gelu\"", "\"hidden_act\": \"silu\""),
        ("`use_qk_norm` is true", "norms of queries and keys"),
        ("`final_logit_softcapping` is 30.0", "`SoftCap` on the logits"),
        ("lacks `rms_norm_eps`", "\"eps\": \"config.rms_norm_eps\""),
    ];
    assert_eq!(found.len(), expected.len(), "{graph}");
    for (what, beside) in expected {
        assert!(found.iter().any(|line| line.contains(what) && line.contains(beside)), "{what}, {beside}: {graph}");
    }
    assert!(graph.contains("nothing reads them: never_heard_of"), "{graph}");
    assert!(said.contains("4 lines to decide") && said.contains("trefoil check"), "{said}");
    done(&["check", &out]);
}

#[test]
fn a_config_with_the_keys_of_gpt_neox_begins_from_it() {
    let folder = Folder::new("decide-neox");
    let config = json!({
        "architectures": ["TrifoliumForCausalLM"], "model_type": "trifolium", "hidden_act": "gelu", "vocab_size": 500,
        "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "rotary_pct": 0.5,
        "rotary_emb_base": 20000, "layer_norm_eps": 1e-5, "use_parallel_residual": false, "max_position_embeddings": 512,
    });
    let from = folder.file("config.json", &config.to_string());
    let output = trefoil(&["new-model", "--from", &from, "--out", "-"]);
    let (graph, said) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("1. gpt_neox: ") && said.contains("1 line to decide"), "{said}");
    assert!(decisions(&graph)[0].contains("`use_parallel_residual` is false"), "{graph}");
}

#[test]
fn tensors_are_compared_by_name_and_shape() {
    let folder = Folder::new("decide-tensors");
    renamed(&Path::new(PARITY).join("qwen3"), &folder, |config| config["intermediate_size"] = json!(100));
    let out = folder.0.join("mine.ron").display().to_string();
    let (graph, said) = begin(folder.path(), &out, &["--graph", "llama"]);
    let found = decisions(&graph);
    let all = [
        ("nothing here reads `model.layers.{0..1}.self_attn.k_norm.weight` (2 tensors, [16])", ""),
        ("nothing here reads `model.layers.{0..1}.self_attn.q_norm.weight` (2 tensors, [16])", "\"n1\": RmsNorm"),
        (
            "`model.layers.{0..1}.mlp.up_proj.weight` is [96, 48] in the checkpoint, and here [100, 48]",
            "\"up\": Linear",
        ),
    ];
    for (what, beside) in all {
        assert!(found.iter().any(|line| line.contains(what) && line.contains(beside)), "{what}, {beside}: {graph}");
    }
    assert!(said.contains("1. qwen3: ") && said.contains("begun from llama"), "{said}");
    let (graph, _) = begin(folder.path(), &out, &["--graph", "olmo2", "--force"]);
    let missing = "the checkpoint has no `model.layers.{0..1}.post_feedforward_layernorm.weight`";
    assert!(decisions(&graph).iter().any(|line| line.contains(missing) && line.contains("\"dn\": RmsNorm")), "{graph}");
    done(&["check", &out]);
}

#[test]
fn nothing_is_written_over_or_where_a_graph_serves_the_model() {
    let folder = Folder::new("new-model-refusals");
    let out = folder.file("mine.ron", "mine");
    let from = folder.file("config.json", &llama_like().to_string());
    let (code, said) = failed(&["new-model", "--from", &from, "--out", &out]);
    assert!(code == 2 && said.contains("--force"), "{said}");
    let served = Path::new(PARITY).join("qwen3").display().to_string();
    let (graph, said) = begin(&served, &out, &[]);
    assert!(graph == "mine" && said.contains("qwen3 serves this model as it is"), "{said}");
    let (code, said) = failed(&["new-model", "--from", &from, "--graph", "lama", "--out", "-"]);
    assert!(code == 2 && said.contains("`llama`"), "{said}");
    let mut nameless = llama_like();
    nameless["architectures"] = json!(null);
    let from = folder.file("config.json", &nameless.to_string());
    let (code, said) = failed(&["new-model", "--from", &from]);
    assert!(code == 3 && said.contains("architectures"), "{said}");
    assert_eq!(failed(&["new-model", "--from", "/no/such/folder"]).0, 3);
}
