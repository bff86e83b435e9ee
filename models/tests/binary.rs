//! The binary from the outside: its commands, its exit codes and its traces.

mod common;

use std::fs;
use std::path::Path;

use common::{Folder, done, failed};
use serde_json::{Value, json};

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

/// Standard error of `check` and of loading the folder, both refused; the folder's config is `changes` on a good one.
fn refused_config(folder: &Folder, graph: &str, changes: &Value) -> [String; 2] {
    let mut config = config();
    config["architectures"] = json!([if graph == "qwen2" { "Qwen2ForCausalLM" } else { "LlamaForCausalLM" }]);
    for (key, value) in changes.as_object().expect("changes by key") {
        config[key] = value.clone();
    }
    let path = folder.file("config.json", &config.to_string());
    let load = ["bench", "throughput", folder.path(), "--dummy-weights", "--num-prompts", "1"];
    [vec!["check", graph, "--config", &path], load.to_vec()].map(|arguments| {
        let (code, said) = failed(&arguments);
        assert_eq!(code, 3, "{said}");
        said
    })
}

#[test]
fn keys_that_change_the_mathematics_must_be_read() {
    let folder = Folder::new("unread");
    let changes =
        json!({"final_logit_softcapping": 30.0, "sliding_window": 128, "logit_scale": 0.0625, "qk_layernorm": true});
    for said in refused_config(&folder, "llama", &changes) {
        for part in
            ["`final_logit_softcapping` is 30.0", "absent or 0", "`sliding_window` is 128", "`logit_scale` is 0.0625"]
        {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert!(said.contains("`qk_layernorm` is true") && said.contains("expects"), "{said}");
    }
    // The same keys at values that change nothing.
    let mut neutral = config();
    neutral["final_logit_softcapping"] = json!(null);
    neutral["sliding_window"] = json!(512);
    neutral["logit_scale"] = json!(1.0);
    neutral["attention_dropout"] = json!(0.1);
    neutral["a_new_key"] = json!({"inside": 1});
    let path = folder.file("config.json", &neutral.to_string());
    let said = done(&["check", "llama", "--config", &path]);
    assert!(said.contains("note:") && said.contains("a_new_key.inside") && !said.contains("dropout"), "{said}");
}

#[test]
fn contradictions_of_a_config_come_all_at_once() {
    let folder = Folder::new("contradictions");
    let changes = json!({"num_attention_heads": 6, "num_key_value_heads": 4, "head_dim": 8, "intermediate_size": "x"});
    for said in refused_config(&folder, "llama", &changes) {
        for part in ["intermediate_size", "multiple", "heads", "is 6", "is 4"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
    for said in refused_config(&folder, "llama", &json!({"num_attention_heads": 6})) {
        assert!(said.contains("64 / 6") || said.contains("not a whole number"), "{said}");
    }
    let mut listed = config();
    listed["layer_types"] = json!(["full_attention"]);
    let (_, said) = failed(&["check", "gemma3", "--config", &folder.file("config.json", &listed.to_string())]);
    assert!(said.contains("`layer_types` has 1 entries"), "{said}");
}

#[test]
fn tensors_of_a_checkpoint_are_compared_by_their_headers() {
    let folder = Folder::new("tensors");
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/olmo2");
    let said = done(&["check", "olmo2", "--config", checkpoint]);
    assert!(said.contains("tensors: 25 in the checkpoint"), "{said}");
    let wrong = include_str!("../graphs/olmo2.ron")
        .replace("post_feedforward_layernorm", "post_ff_norm")
        .replace("\"self_attn.k_norm\", eps: \"eps\"", "\"self_attn.k_norm\", eps: \"eps\", group: \"head\"");
    let (code, said) = failed(&["check", &folder.file("wrong.ron", &wrong), "--config", checkpoint]);
    assert_eq!(code, 3);
    for part in ["k_norm.weight` is [16], the model needs [8]", "post_ff_norm.weight` is missing", "are not read"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn older_and_newer_keys_of_rotary_positions_say_the_same() {
    let folder = Folder::new("rotary-keys");
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64});
    let mut older = config();
    older["rope_theta"] = json!(500_000.0);
    older["rope_scaling"] = llama3.clone();
    let mut newer = config();
    newer.as_object_mut().expect("an object").remove("rope_theta");
    newer["rope_parameters"] = llama3;
    newer["rope_parameters"]["rope_theta"] = json!(500_000.0);
    let [older, newer] = [older, newer]
        .map(|config| done(&["check", "llama", "--config", &folder.file("config.json", &config.to_string())]));
    assert_eq!(older, newer);
    assert!(older.contains("theta 500000"), "{older}");
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

#[test]
fn a_plan_is_sought_for_experts_and_simulated() {
    let folder = Folder::new("search-experts");
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../bench/configs/mixtral-8x7b");
    let device = ["--device", "a100-80g-x8", "--tp", "8", "--workload", "1024:512", "--batch", "6144"];
    let subject = [&["mixtral", "--config", config], &device[..]].concat();
    done(&[&["search"], &subject[..], &["--judgements", "20000", "--out", folder.path()]].concat());
    let plan = format!("{}/a100-80g-x8-tp8-6144.ron", folder.path());
    let said = done(&[&["simulate"], &subject[..], &["--plan", &plan]].concat());
    for part in ["a100-80g-x8-tp8-6144", "gate", "moe_sum"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
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
fn plans_are_explained_batch_by_batch() {
    let folder = Folder::new("explain");
    let config = folder.file("config.json", &large_config().to_string());
    let overlap = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/overlap-2.ron"));
    let overlap = overlap.expect("the shipped plan");
    let small = "suits: (min_tokens: 256, max_tokens: 1024, min_decode: 32)";
    let own = overlap.replace("suits: (max_tokens: Some(0))", small);
    assert_ne!(own, overlap);
    let own = folder.file("own.ron", &own);
    let elsewhere = folder.file("elsewhere.ron", &overlap.replace("order:", "device: \"h200-141g\", ranks: 8, order:"));
    let files = ["--plan", &own, "--plan", &elsewhere];
    let arguments = ["explain", "llama", "--config", &config, "--device", "a100-80g-x8", "--workload", "512:1024"];
    let said = done(&[&arguments[..], &files].concat());
    let line = |start: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        said.lines()
            .map(words)
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{start} is not in {said}"))
    };
    assert_eq!(line("own"), "own 256 to 1024 tokens, at least 32 decode rows");
    assert_eq!(line("not here: elsewhere"), "not here: elsewhere is for 8 × h200-141g");
    assert_eq!(line("128 "), "128 sequential sequential sequential sequential sequential");
    let at_256 = line("256 sequential");
    assert_eq!(at_256.matches("own ").count(), 4, "{at_256}");
    assert_eq!(at_256.matches(" %").count(), 4, "{at_256}");
    assert!(line("1024 ").ends_with(" -"), "more sequences than memory holds: {said}");
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

/// The result of `simulate-serving` as JSON, for Llama 3 8B on one A100.
fn served(folder: &Folder, arguments: &[&str]) -> Value {
    let json = folder.file("served.json", "");
    let common = ["simulate-serving", "llama", "--config", folder.path(), "--device", "a100-80g-x8"];
    done(&[&common, arguments, &["--output-json", &json]].concat());
    serde_json::from_str(&fs::read_to_string(&json).expect("a file that the command wrote")).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_trace_is_served_on_a_device_profile() {
    let folder = Folder::new("serving");
    folder.file("config.json", &large_config().to_string());
    // Two requests that never meet, and one that no context holds.
    let trace = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0,512,4\n2023-11-16 18:00:30.5,512,4\n\
                 2023-11-16 18:00:31.0,9000,4\n";
    let trace = folder.file("trace.csv", trace);
    let result = served(&folder, &["--workload", &trace]);
    let (report, latency) = (&result["report"], &result["report"]["latency"]);
    assert_eq!((&report["num_requests"], &result["num_skipped"]), (&json!(2), &json!(1)));
    // A prompt is a step, and so is each of the other three tokens.
    assert_eq!(report["steps"]["count"], json!(4), "of the first request: the window ends with the last arrival");
    assert_eq!(
        report["plans"][0],
        json!({"name": "sequential", "num_steps": 8, "seconds": report["plans"][0]["seconds"]})
    );
    let (ttft, tpot) = (number(&latency["ttft_seconds"]["mean"]), number(&latency["tpot_seconds"]["mean"]));
    let end_to_end = number(&latency["end_to_end_seconds"]["mean"]);
    assert!((ttft + 3.0 * tpot - end_to_end).abs() < 1e-9 && tpot < ttft, "{latency}");
    assert!((number(&latency["normalized_seconds"]["mean"]) - end_to_end / 4.0).abs() < 1e-9);
    assert!((ttft - number(&report["steps"]["seconds"]["max"])).abs() < 1e-9, "TTFT is the step of the prompt");
    let spreads = ["ttft_seconds", "tpot_seconds"].map(|name| &latency[name]);
    assert!(spreads.iter().all(|spread| (number(&spread["max"]) - number(&spread["p50"])).abs() < 1e-9), "{latency}");
    assert!((number(&report["seconds"]) - 30.5 - end_to_end).abs() < 1e-9);
    // Twice the rate, half the time between.
    let doubled = served(&folder, &["--workload", &trace, "--rate", "0.0655737704918032786885"]);
    assert!((number(&doubled["report"]["seconds"]) - 15.25 - end_to_end).abs() < 1e-6);
}

#[test]
fn a_full_service_runs_by_the_plans_that_suit_and_predicts_well() {
    let folder = Folder::new("offline");
    folder.file("config.json", &large_config().to_string());
    let svg = folder.file("served.svg", "");
    let arguments =
        ["--workload", "64:128", "--num-requests", "3000", "--max-num-batched-tokens", "1024", "--svg", &svg];
    let result = served(&folder, &arguments);
    let report = &result["report"];
    assert_eq!(report["steps"]["rows"]["max"], json!(1024.0));
    let steps_by = |name: &str| {
        let mut plans = report["plans"].as_array().expect("a list of plans").iter();
        plans.find(|plan| plan["name"] == name).map_or(0.0, |plan| number(&plan["num_steps"]))
    };
    assert!(steps_by("sequential") > 0.0 && steps_by("a100-8b") > 0.0, "{}", report["plans"]);
    assert!(steps_by("overlap-2") == 0.0 && number(&report["num_plan_switches"]) > 0.0);
    assert!(number(&result["prediction"]["largest_error"]) < 0.02, "{}", result["prediction"]);
    assert!(number(&result["prediction"]["error"]).abs() < 0.01, "{}", result["prediction"]);
    let drawn = fs::read_to_string(&svg).expect("a picture");
    assert!(drawn.starts_with("<svg") && drawn.contains("rows per step") && drawn.contains("a100-8b"));
    assert_eq!(result, served(&folder, &arguments), "the same requests, the same run");
    let alone = served(&folder, &["--workload", "64:128", "--num-requests", "100", "--plan", "sequential"]);
    assert_eq!(alone["report"]["plans"].as_array().map(Vec::len), Some(1));
    let seeded = |seed| served(&folder, &["--workload", "64:8", "--num-requests", "20", "--rate", "9", "--seed", seed]);
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1")["report"], seeded("2")["report"]);
}

#[test]
fn services_that_cannot_be_simulated_are_refused() {
    let folder = Folder::new("refused");
    folder.file("config.json", &large_config().to_string());
    let common = ["simulate-serving", "llama", "--config", folder.path(), "--device", "a100-80g"];
    let refused = |arguments: &[&str], code: i32, word: &str| {
        let (found, said) = failed(&[&common, arguments].concat());
        assert!(found == code && said.contains(word), "{arguments:?}: {found}, {said}");
    };
    let timeless = folder.file("timeless.csv", "input_len,output_len\n9,2\n");
    refused(&["--workload", &timeless], 2, "--rate inf");
    done(&[&common[..], &["--workload", &timeless, "--rate", "inf"]].concat());
    let long = folder.file("long.csv", "input_len,output_len\n9000,2\n8192,1\n");
    refused(&["--workload", &long, "--rate", "inf"], 2, "no request");
    refused(&["--workload", "512.5:3"], 2, "whole numbers");
    refused(&["--workload", "8:8", "--num-requests", "0"], 2, "--num-requests");
    refused(&["--workload", "8:8", "--num-requests", "3", "--num-warmups", "3"], 2, "--num-warmups");
    refused(&["--workload", "8:8", "--max-num-seqs", "0"], 2, "max_num_seqs");
    refused(&["--workload", "8:8", "--rate", "0"], 2, "requests per second");
    refused(&["--workload", "8:8", "--plan", "overlap-3"], 2, "overlap-2");
    let text = include_str!("../plans/overlap-2.ron").replace("points:", "device: \"h200-141g\", points:");
    refused(&["--workload", "8:8", "--plan", &folder.file("other.ron", &text)], 3, "T1506");
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
