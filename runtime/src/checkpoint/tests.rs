//! Small files as they are found in checkpoints, and as they should not be.

use std::fs;

use tempfile::TempDir;

use super::*;

const TOKENIZER: &str = r#"{"version": "1.0", "added_tokens": [
    {"id": 2, "content": "<s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
    {"id": 3, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}"#;

/// A checkpoint of the given files; `config.json` and `tokenizer.json` are there unless given.
fn checkpoint(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let defaults = [("config.json", r#"{"architectures": ["X"], "eos_token_id": 3}"#), ("tokenizer.json", TOKENIZER)];
    for (name, text) in defaults.iter().chain(files) {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn open(files: &[(&str, &str)]) -> Result<Checkpoint, String> {
    Checkpoint::open(checkpoint(files).path()).map_err(|error| error.to_string())
}

#[test]
fn two_files_are_enough() {
    let opened = open(&[]).unwrap();
    assert_eq!(opened.config.architectures().unwrap(), ["X"]);
    assert_eq!(opened.eos().unwrap(), [3]);
    assert_eq!(opened.generation, GenerationConfig::default());
    assert!(opened.template.is_none());
}

#[test]
fn end_tokens_come_from_all_files() {
    let generation = ("generation_config.json", r#"{"eos_token_id": [1, 0]}"#);
    let tokenizer = ("tokenizer_config.json", r#"{"eos_token": {"content": "</s>", "lstrip": false}}"#);
    assert_eq!(open(&[generation, tokenizer]).unwrap().eos().unwrap(), [1, 0, 3]);
}

#[test]
fn sampling_defaults_are_read() {
    let text = r#"{"temperature": 0.6, "top_p": 0.9, "top_k": -1, "min_p": null, "max_new_tokens": 20, "repetition_penalty": 1.1}"#;
    let read = open(&[("generation_config.json", text)]).unwrap().generation;
    assert_eq!((read.temperature, read.top_p, read.top_k), (Some(0.6), Some(0.9), Some(0)));
    assert_eq!((read.min_p, read.max_new_tokens, read.repetition_penalty), (None, Some(20), Some(1.1)));
}

#[test]
fn the_template_file_comes_before_the_key() {
    let key = ("tokenizer_config.json", r#"{"chat_template": "key"}"#);
    let render =
        |files: &[(&str, &str)]| open(files).unwrap().template.unwrap().render(&[], false, &Default::default());
    assert_eq!(render(&[key]).unwrap(), "key");
    assert_eq!(render(&[key, ("chat_template.jinja", "file")]).unwrap(), "file");
}

#[test]
fn of_several_templates_the_default_is_taken() {
    let text = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    let template = open(&[("tokenizer_config.json", text)]).unwrap().template.unwrap();
    assert_eq!(template.render(&[], false, &Default::default()).unwrap(), "d");
}

#[test]
fn conversations_with_tools_have_their_own_template() {
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    let dir = checkpoint(&[("tokenizer_config.json", list)]);
    let rendered = |dir: &TempDir| {
        let template = Checkpoint::open(dir.path()).unwrap().template.unwrap();
        [serde_json::json!({}), serde_json::json!({"tools": []}), serde_json::json!({"tools": null})].map(|extra| {
            template
                .render(&[serde_json::json!({"role": "user", "content": ""})], true, extra.as_object().unwrap())
                .unwrap()
        })
    };
    assert_eq!(rendered(&dir), ["d", "t", "d"]);
    fs::create_dir(dir.path().join("additional_chat_templates")).unwrap();
    fs::write(dir.path().join("additional_chat_templates/tool_use.jinja"), "file t").unwrap();
    fs::write(dir.path().join("chat_template.jinja"), "file d").unwrap();
    assert_eq!(rendered(&dir), ["file d", "file t", "file d"]);
    fs::remove_file(dir.path().join("additional_chat_templates/tool_use.jinja")).unwrap();
    assert_eq!(rendered(&dir), ["file d", "file d", "file d"]);
}

#[test]
fn the_first_token_follows_tokenizer_config() {
    let encode = |text: &str| open(&[("tokenizer_config.json", text)]).unwrap().tokenizer.encode("ab", true).unwrap();
    assert_eq!(encode(r#"{"bos_token": "<s>"}"#), [0, 1]);
    assert_eq!(encode(r#"{"bos_token": "<s>", "add_bos_token": true}"#), [2, 0, 1]);
    assert_eq!(encode(r#"{"bos_token": null, "add_bos_token": true}"#), [0, 1]);
}

#[test]
fn errors_name_file_key_value_and_remedy() {
    let cases = [
        (
            ("generation_config.json", r#"{"top_p": 1.5}"#),
            vec!["generation_config.json", "`top_p` is 1.5", "at most 1"],
        ),
        (("generation_config.json", r#"{"eos_token_id": [1, "x"]}"#), vec!["`eos_token_id` is [1,\"x\"]", "token ids"]),
        (("tokenizer_config.json", r#"{"bos_token": 7}"#), vec!["tokenizer_config.json", "`bos_token` is 7"]),
        (("tokenizer_config.json", r#"{"add_bos_token": "yes"}"#), vec!["`add_bos_token` is \"yes\"", "true or false"]),
        (("tokenizer_config.json", r#"{"chat_template": []}"#), vec!["`chat_template` is []", "default"]),
        (("tokenizer.json", "{}"), vec!["tokenizer.json", "not a tokenizer"]),
        (("config.json", "[]"), vec!["config.json", "not a JSON object"]),
        (("config.json", "{"), vec!["config.json", "not JSON", "line 1"]),
        (("config.json", "version https://git-lfs.github.com/spec/v1"), vec!["Git LFS", "git lfs pull"]),
        (("chat_template.jinja", "{% if %}"), vec!["chat_template.jinja", "cannot be parsed"]),
    ];
    for (file, expected) in cases {
        let error = open(&[file]).map(|_| ()).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    let dir = checkpoint(&[]);
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("save_pretrained"), "{error}");
    let error = Checkpoint::open(&dir.path().join("config.json")).unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");
}

#[test]
fn config_paths_skip_nulls() {
    let config = Config::from_json(r#"{"a": {"b": {"c": 1}, "n": null}, "architectures": []}"#).unwrap();
    assert_eq!(config.get("a.b.c"), Some(&1.into()));
    assert_eq!(config.get("a.n"), None);
    assert_eq!(config.get("a.b.c.d"), None);
    assert!(config.architectures().unwrap_err().to_string().contains("LlamaForCausalLM"));
}
