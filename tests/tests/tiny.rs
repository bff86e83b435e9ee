//! The shipped model as a user meets it: its tokenizer, chat template, logits and greedy text, as transformers has them.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::{Map, Value};
use trefoil_runtime::checkpoint::Checkpoint;
use trefoil_runtime::engine::{Engine, EngineConfig, Event};
use trefoil_runtime::request::{Draft, Request, Sampling, Stopping};
use trefoil_runtime::weights::WeightDtype;
use trefoil_tests::goldens;
use trefoil_tests::steps::{self, Cut, Setting};

fn folder() -> PathBuf {
    goldens::folder("../../models/tiny")
}

fn checkpoint() -> Checkpoint {
    Checkpoint::open(&folder()).expect("the shipped model")
}

fn golden() -> Value {
    let text = std::fs::read_to_string(goldens::folder("tiny").join("golden.json")).expect("tests/parity/tiny");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty());
    list
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().expect("a list of ids").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[test]
fn texts_become_the_same_tokens_and_come_back() {
    let tokenizer = checkpoint().tokenizer;
    for case in list(&golden()["tokenizer"]) {
        let given = text(&case["text"]);
        let tokens = tokenizer.encode(given, true).expect("tokens");
        assert_eq!(tokens, ids(&case["tokens"]), "{given:?}");
        let plain = tokenizer.encode(given, false).expect("tokens");
        assert_eq!(plain, ids(&case["tokens_without_special"]), "{given:?}");
        assert_eq!(tokenizer.decode(&plain, false).expect("a text"), text(&case["decoded"]));
        assert_eq!(tokenizer.decode(&tokens, true).expect("a text"), text(&case["decoded_skip_special"]));
    }
}

#[test]
fn conversations_become_the_same_text() {
    let checkpoint = checkpoint();
    let template = checkpoint.template.expect("a chat template");
    for case in list(&golden()["chat_template"]) {
        let prompt = case["add_generation_prompt"] == Value::Bool(true);
        let rendered = template.render(list(&case["messages"]), prompt, &Map::new()).expect("a text");
        assert_eq!(rendered, text(&case["text"]));
        assert_eq!(checkpoint.tokenizer.encode(&rendered, false).expect("tokens"), ids(&case["tokens"]));
    }
}

/// The best tokens of each position with their logits: `[positions, 20]` twice.
fn best(prompt: usize) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(goldens::folder("tiny").join("golden.safetensors")).expect("tests/parity/tiny");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let words = |name: &str| -> Vec<[u8; 4]> {
        let view = file.tensor(&format!("{name}.{prompt}")).expect("a tensor");
        view.data().chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]).collect()
    };
    let tokens = words("top_tokens").into_iter().map(u32::from_le_bytes).collect();
    (tokens, words("top_logits").into_iter().map(f32::from_le_bytes).collect())
}

#[test]
fn logits_are_those_of_transformers() {
    let golden = golden();
    let mut executor =
        steps::executor(&folder(), &Setting { dtype: WeightDtype::Float32, ..Setting::plain("overlap-2") });
    for (number, case) in list(&golden["continuations"]).iter().enumerate() {
        let found = steps::logits(&mut executor, &[Cut::whole(&ids(&case["tokens"]))]).concat();
        let (tokens, logits) = best(number);
        let num_positions = ids(&case["tokens"]).len();
        let (vocab, width) = (found.len() / num_positions, tokens.len() / num_positions);
        for (index, (token, logit)) in tokens.iter().zip(&logits).enumerate() {
            let own = found[index / width * vocab + *token as usize];
            assert!((own - logit).abs() <= 1e-4 * logits[index / width * width].abs(), "{own} for {logit}");
        }
    }
}

#[test]
fn the_engine_continues_as_transformers_does() {
    let setting = Setting { dtype: WeightDtype::Float32, ..Setting::plain("overlap-2") };
    let engine = Engine::start(steps::executor(&folder(), &setting), EngineConfig::default()).expect("an engine");
    for case in list(&golden()["continuations"]) {
        let expected = ids(&case["greedy"]);
        let draft = Draft {
            prompt: ids(&case["tokens"]),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            stopping: Stopping { max_tokens: Some(expected.len()), ..Stopping::default() },
            num_logprobs: None,
        };
        let request = Request::new(draft, engine.bounds()).expect("a request");
        let mut stream = engine.submit(request).expect("a place in the queue");
        let tokens: Vec<u32> = std::iter::from_fn(|| stream.blocking_next())
            .filter_map(|event| match event {
                Event::Token(sampled) => Some(sampled.token),
                Event::Finished { .. } => None,
                Event::Failed(failure) => panic!("{failure}"),
            })
            .collect();
        assert_eq!(tokens, expected);
    }
}
