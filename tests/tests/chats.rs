//! Chat templates render as transformers renders them.
//!
//! `tests/parity/make_chats.py` has written the expected texts of `tests/parity/chat/`. To compare other templates,
//! have it write theirs and name the folder:
//!
//! ```text
//! python tests/parity/make_chats.py --folder FOLDER
//! TREFOIL_CHATS=FOLDER cargo test -p trefoil-tests --test chats
//! ```

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use trefoil_runtime::checkpoint::SpecialTokens;
use trefoil_runtime::text::{ChatTemplate, TemplateError};

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parity/chat")
}

fn json(path: &Path) -> Map<String, Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tokens that make_chats.py gives its tokenizer.
fn special() -> SpecialTokens {
    let token = |text: &str| Some(text.to_owned());
    SpecialTokens {
        bos: token("<s>"),
        eos: token("</s>"),
        unk: token("<unk>"),
        pad: token("<pad>"),
        ..SpecialTokens::default()
    }
}

fn render(template: &ChatTemplate, case: &Value, add_generation_prompt: bool) -> Result<String, TemplateError> {
    let mut extra = case.get("kwargs").and_then(Value::as_object).cloned().unwrap_or_default();
    for key in ["tools", "documents"] {
        extra.extend(case.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    let messages = case["messages"].as_array().expect("a case has messages");
    if case.get("continue").is_some() {
        return template.render_continued(messages, &extra);
    }
    template.render(messages, add_generation_prompt, &extra)
}

/// Whether the case is one on which transformers and we mean to agree: it hands content to the template as it comes,
/// we as text or as parts, whichever the template can read.
fn is_comparable(template: &ChatTemplate, case: &Value, expected: &Value) -> bool {
    let has = |is: fn(&Value) -> bool| {
        case["messages"].as_array().into_iter().flatten().any(|message| message.get("content").is_some_and(is))
    };
    match expected {
        Value::String(_) => !(template.wants_parts() && has(Value::is_string)),
        Value::Object(_) => !has(Value::is_array) && !template.wants_parts(),
        _ => false,
    }
}

fn difference(name: &str, expected: &Value, got: &Result<String, TemplateError>) -> Option<String> {
    let is_equal = match (expected, got) {
        (Value::String(expected), Ok(got)) => expected == got,
        (Value::Object(_), Err(TemplateError::Refused(words))) => expected["refused"] == words.as_str(),
        _ => false,
    };
    (!is_equal).then(|| format!("case {name:?}\n  transformers: {expected:?}\n  ours:         {got:?}\n"))
}

fn differences(path: &Path, cases: &Map<String, Value>) -> (usize, Vec<String>) {
    let source = std::fs::read_to_string(path).expect("a template is readable");
    let template = match ChatTemplate::new(&source, &special()) {
        Ok(template) => template,
        Err(error) => return (1, vec![error.to_string()]),
    };
    let (mut num_compared, mut differences) = (0, vec![]);
    for (name, expected) in &json(&path.with_extension("json")) {
        let (case, add_generation_prompt) = name.strip_suffix(" +").map_or((name.as_str(), false), |case| (case, true));
        let case = &cases[case];
        if is_comparable(&template, case, expected) {
            num_compared += 1;
            differences.extend(difference(name, expected, &render(&template, case, add_generation_prompt)));
        }
    }
    (num_compared, differences)
}

#[test]
fn templates_render_as_in_transformers() {
    let folder = std::env::var_os("TREFOIL_CHATS").map_or_else(committed, PathBuf::from);
    let cases = json(&committed().join("conversations.json"));
    let entries = std::fs::read_dir(&folder).expect("the folder of templates is readable");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry is readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jinja"));
    paths.sort();
    assert!(!paths.is_empty(), "{} holds no templates", folder.display());
    let (mut num_equal, mut report) = (0, String::new());
    for path in &paths {
        let (num_compared, differences) = differences(path, &cases);
        num_equal += usize::from(num_compared > 0 && differences.is_empty());
        if num_compared == 0 {
            report += &format!("{}: transformers has no text for any case\n", path.display());
        }
        if !differences.is_empty() {
            let (name, all) = (path.file_stem().unwrap_or_default().display(), differences.concat());
            report += &format!("{name}: {} of {num_compared} cases differ\n{all}", differences.len());
        }
    }
    assert!(report.is_empty(), "{num_equal} of {} templates are equal\n{report}", paths.len());
}
