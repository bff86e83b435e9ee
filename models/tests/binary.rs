//! The binary from the outside: its commands, its exit codes and its traces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn trefoil(arguments: &[&str]) -> Output {
    // A caller's environment must not stand in for flags.
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("TREFOIL_"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_trefoil"));
    for (name, _) in variables {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a run that ends well.
fn done(arguments: &[&str]) -> String {
    let output = trefoil(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Exit code and standard error of a run that does not.
fn failed(arguments: &[&str]) -> (i32, String) {
    let output = trefoil(arguments);
    assert!(!output.status.success(), "{arguments:?} was to fail");
    (output.status.code().unwrap_or(-1), text(&output.stderr))
}

/// A folder of its own for one test, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trefoil-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path.display().to_string()
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind is untidy, not wrong.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "vocab_size": 500, "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 512, "rope_theta": 10000.0,
    })
}

#[test]
fn a_graph_is_checked_with_a_config() {
    let folder = Folder::new("check");
    let path = folder.file("config.json", &config().to_string());
    let said = done(&["check", "llama", "--config", &path]);
    for part in ["plan sequential", "plan overlap-2", "head 16", "KV cache: 192 elements per token"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn a_config_that_does_not_go_with_the_graph_is_refused_by_key() {
    let folder = Folder::new("refuse");
    let mut wrong = config();
    wrong["hidden_act"] = json!("gelu");
    wrong["num_attention_heads"] = json!(7);
    let path = folder.file("config.json", &wrong.to_string());
    let (code, said) = failed(&["check", "llama", "--config", &path]);
    assert_eq!(code, 3);
    assert!(said.contains("hidden_act") && said.contains("gelu") && said.contains("not a whole number"), "{said}");
}

#[test]
fn mistakes_of_a_graph_are_shown_with_their_lines() {
    let folder = Folder::new("mistakes");
    let graph = include_str!("../graphs/llama.ron").replace("RmsNorm(x: \"h1\"", "RmsNorm(x: \"h7\"");
    let path = folder.file("mine.ron", &graph);
    let (code, said) = failed(&["check", &path]);
    assert_eq!(code, 3);
    assert!(said.contains("mine.ron:") && said.contains("`h7`") && said.contains("^^"), "{said}");
}

#[test]
fn any_pass_can_be_looked_at() {
    let passes = ["load", "lower", "fuse", "nano_batch", "stream_groups", "order", "sync", "memory", "emit"];
    for pass in passes {
        let said = done(&["dump", "llama", "--plan", "overlap-2", "--after", pass]);
        let has_fused = said.contains("gate_up") || said.contains("GATE_UP");
        assert_eq!(has_fused, !["load", "lower"].contains(&pass), "after {pass}");
    }
    assert!(done(&["dump", "llama", "--format", "dot"]).starts_with("digraph"));
    let (code, said) = failed(&["dump", "llama", "--after", "fues"]);
    assert_eq!(code, 3);
    assert!(said.contains("fuse"), "{said}");
}

#[test]
fn a_wrong_command_line_has_its_own_code() {
    assert_eq!(failed(&["serve", "--prot", "8000"]).0, 2);
    assert_eq!(failed(&["check", "no-such-graph"]).0, 2);
    assert_eq!(failed(&["generate", "--plan", "no-such-plan", "--prompt", "x"]).0, 2);
    let (code, said) = failed(&["generate", "/no/such/folder", "--prompt", "x"]);
    assert_eq!(code, 3);
    assert!(said.contains("/no/such/folder"), "{said}");
}

#[test]
fn the_shipped_model_continues_a_prompt_the_same_way_every_time() {
    let arguments = ["generate", "--prompt", "It was a", "--max-tokens", "24", "--seed", "7", "--plan"];
    let sequential = done(&[&arguments[..], &["sequential", "--threads", "1"]].concat());
    assert!(sequential.starts_with("It was a") && sequential.len() > 20, "{sequential:?}");
    assert_eq!(done(&[&arguments[..], &["sequential", "--threads", "2"]].concat()), sequential);
    assert_eq!(done(&[&arguments[..], &["overlap-2"]].concat()), sequential);
}

#[test]
fn dummy_weights_need_no_more_than_a_config() {
    let folder = Folder::new("dummy");
    folder.file("config.json", &config().to_string());
    let json = folder.file("result.json", "");
    let arguments = ["bench", "throughput", folder.path(), "--dummy-weights", "--num-prompts", "6"];
    let more = ["--input-len", "20", "--output-len", "10", "--output-json", &json];
    done(&[&arguments[..], &more].concat());
    let result: Value = serde_json::from_str(&fs::read_to_string(&json).expect("a result")).expect("JSON");
    assert_eq!(result["total_num_tokens"], json!(6 * 30));
    assert!(result["tokens_per_second"].as_f64().is_some_and(|speed| speed > 0.0));
    let (code, _) = failed(&["bench", "throughput", folder.path()]);
    assert_eq!(code, 3, "without weights and without --dummy-weights");
}

#[test]
fn a_trace_shows_streams_launches_and_nano_batches() {
    let folder = Folder::new("trace");
    folder.file("config.json", &config().to_string());
    let trace = folder.file("trace.json", "");
    let arguments = ["bench", "throughput", folder.path(), "--dummy-weights", "--plan", "overlap-2", "--trace", &trace];
    done(&[&arguments[..], &["--num-prompts", "8", "--input-len", "40", "--output-len", "8"]].concat());
    let trace: Value = serde_json::from_str(&fs::read_to_string(Path::new(&trace)).expect("a trace")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let lanes: Vec<_> =
        events.iter().filter(|event| event["name"] == "thread_name").map(|event| &event["args"]["name"]).collect();
    assert!(lanes.contains(&&json!("compute")) && lanes.contains(&&json!("memory")), "{lanes:?}");
    let attention =
        events.iter().filter(|event| event["name"].as_str().is_some_and(|name| name.starts_with("attn_decode")));
    let nano_batches: std::collections::BTreeSet<_> =
        attention.map(|event| event["args"]["nano_batch"].as_u64()).collect();
    assert_eq!(nano_batches.len(), 2, "{nano_batches:?}");
}

const LLAMA_70B: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/configs/llama-2-70b");

/// `trefoil analyze` of LLaMA-2-70B on A100s.
fn analyze<'a>(ranks: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let subject = ["analyze", "llama", "--config", LLAMA_70B, "--device", "a100-80g-x8", "--tp", ranks];
    [&subject, more].concat()
}

#[test]
fn a_model_is_analyzed_on_a_device() {
    let folder = Folder::new("analyze");
    let json = folder.file("result.json", "");
    let said = done(&analyze("8", &["--workload", "512:1024", "--output-json", &json]));
    for part in ["68.98 billion parameters", "1,496 running sequences", "27,488", "bound by     compute"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let result: Value = serde_json::from_str(&fs::read_to_string(&json).expect("a result")).expect("JSON");
    assert_eq!(result["batch"]["decode"], json!(1365));
    let operators = result["operators"].as_array().expect("a list of operators");
    let decode = operators.iter().find(|operator| operator["name"] == "attn_decode").expect("decode attention");
    assert_eq!(decode["times"]["bound_by"], json!("memory"));
}

#[test]
fn a_trace_and_a_batch_are_analyzed() {
    let folder = Folder::new("analyze-trace");
    let trace = folder.file("trace.csv", "input_len,output_len\n100,300\n300,100\n");
    let said = done(&analyze("8", &["--workload", &trace, "--batch", "1000000"]));
    assert!(said.contains("1,000,000 tokens (more than the"), "{said}");
}

#[test]
fn what_cannot_be_analyzed_is_refused() {
    let (code, said) = failed(&analyze("1", &[]));
    assert!(code == 4 && said.contains("T1503") && said.contains("--tp 2 is enough"), "{said}");
    let (code, said) = failed(&analyze("3", &[]));
    assert!(code == 2 && said.contains("T1504"), "{said}");
    let (code, said) = failed(&analyze("8", &["--workload", "4000:4000"]));
    assert!(code == 3 && said.contains("T1501"), "{said}");
    let (code, said) = failed(&["analyze", "lama", "--config", LLAMA_70B, "--device", "a100-80g"]);
    assert!(code == 2 && said.contains("`llama`"), "{said}");
    let (code, said) = failed(&["analyze", "llama", "--config", LLAMA_70B, "--device", "a100-80"]);
    assert!(code == 2 && said.contains("`a100-80g`"), "{said}");
}

#[test]
fn the_comparison_with_the_paper_is_the_one_in_docs() {
    let written = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/paper.md")).expect("docs/paper.md");
    assert!(done(&["paper"]) == written, "docs/paper.md is of another day: trefoil paper --out docs/paper.md");
}

/// Llama 3 8B.
fn large_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "vocab_size": 128256, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 8192, "rope_theta": 500000.0,
    })
}

#[test]
fn a_plan_is_simulated_on_a_device_profile() {
    let folder = Folder::new("simulate");
    folder.file("config.json", &large_config().to_string());
    let [svg, html, trace, json] = ["s.svg", "s.html", "s.json", "r.json"].map(|name| folder.file(name, ""));
    let arguments =
        ["simulate", "llama", "--config", folder.path(), "--device", "a100-80g-x8", "--workload", "512:1024"];
    let files = ["--layers", "3..5", "--svg", &svg, "--html", &html, "--trace", &trace, "--output-json", &json];
    let said = done(&[&arguments[..], &["--plan", "overlap-2"], &files].concat());
    for part in ["overlap-2", "sequential", "rows per second", "compute used", "attn_decode", "gate_up", "critical"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let read = |path: &str| fs::read_to_string(path).expect("a file that the command wrote");
    let result: Value = serde_json::from_str(&read(&json)).expect("JSON");
    assert!(result["report"]["overlap_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(result["sequential"]["overlap_seconds"], json!(0.0));
    assert_eq!(result["report"]["tokens"], json!(result["memory"]["largest_batch"].as_f64().map(|most| most as u64)));
    assert!(read(&svg).starts_with("<svg") && read(&svg).contains("layers 3 to 4 of 32"));
    assert!(read(&html).starts_with("<!doctype html>") && read(&html).contains("Critical path"));
    assert!(serde_json::from_str::<Value>(&read(&trace)).is_ok_and(|trace| trace["traceEvents"].is_array()));
}

#[test]
fn a_batch_that_memory_cannot_hold_is_refused_with_the_most_that_fits() {
    let folder = Folder::new("capacity");
    let config = folder.file("config.json", &large_config().to_string());
    let arguments = ["simulate", "llama", "--config", &config, "--device", "a100-80g-x8", "--workload", "512:1024"];
    let (code, said) = failed(&[&arguments[..], &["--batch", "4096"]].concat());
    assert_eq!(code, 4);
    assert!(said.contains("T1502") && said.contains("at most 714 rows"), "{said}");
    done(&[&arguments[..], &["--batch", "714"]].concat());
    let (code, said) = failed(&[&arguments[..], &["--layers", "31..33"]].concat());
    assert_eq!(code, 2);
    assert!(said.contains("32 layers"), "{said}");
}

#[test]
fn only_measured_profiles_are_overwritten() {
    let folder = Folder::new("profile");
    let path = folder.file("mine.ron", "Device(about: \"Specification\")");
    let (code, said) = failed(&["profile", "--quick", "--out", &path]);
    assert!(code == 2 && said.contains("not overwritten"), "{code}: {said}");
    let nowhere = format!("{}/no/such/folder.ron", folder.path());
    let (code, said) = failed(&["profile", "--quick", "--out", &nowhere]);
    assert!(code == 2 && said.contains("cannot write"), "{code}: {said}");
    assert_eq!(failed(&["profile", "--device", "abacus"]).0, 2);
    assert_eq!(failed(&["profile", "--quick", "--check", folder.path()]).0, 3);
}
