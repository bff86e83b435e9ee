//! `/v1/completions`.

use serde_json::{Value, json};

use crate::harness::{END, MAX_MODEL_LEN, Server, Setup, merged, pieces, text_of};

const PATH: &str = "/v1/completions";

fn greedy(max_tokens: usize) -> Value {
    json!({"model": "tiny", "prompt": "hello", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true})
}

/// The characters from `start` to `end`.
fn characters(text: &str, start: usize, end: usize) -> String {
    text.chars().skip(start).take(end - start).collect()
}

#[tokio::test]
async fn events_carry_the_same_text_as_the_whole() {
    let server = Server::start().await;
    let whole = server.post(PATH, &greedy(40)).await;
    assert_eq!(whole["object"], "text_completion");
    assert!(whole["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"], json!({"prompt_tokens": 5, "total_tokens": 45, "completion_tokens": 40}));

    let events = server.events(PATH, &merged(&greedy(40), json!({"stream_options": {"include_usage": true}}))).await;
    assert_eq!(text_of(&events, 0), whole["choices"][0]["text"].as_str().unwrap());
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    let finishes: Vec<_> = pieces(&events, 0).map(|choice| &choice["finish_reason"]).collect();
    assert_eq!(finishes.last().unwrap().as_str(), Some("length"));
    assert_eq!(finishes.iter().filter(|finish| !finish.is_null()).count(), 1);
    server.settles().await;
}

#[tokio::test]
async fn usage_comes_in_events_only_when_asked_for() {
    let server = Server::start().await;
    let events = server.events(PATH, &greedy(4)).await;
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[tokio::test]
async fn prompts_come_as_texts_or_tokens_one_or_many() {
    let server = Server::start().await;
    let ids: Vec<u32> = "hello".bytes().map(u32::from).collect();
    let single = server.post(PATH, &greedy(8)).await["choices"][0]["text"].clone();
    for prompt in [json!(ids), json!(["hello"]), json!([ids])] {
        let answer = server.post(PATH, &merged(&greedy(8), json!({"prompt": prompt}))).await;
        assert_eq!(answer["choices"][0]["text"], single);
    }
    let answer = server.post(PATH, &merged(&greedy(8), json!({"prompt": ["other", "hello"], "n": 2}))).await;
    let texts: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!((texts.len(), texts[2], texts[3]), (4, &single, &single));
    assert_ne!(texts[0], texts[2]);
    assert_eq!(answer["usage"], json!({"prompt_tokens": 10, "total_tokens": 42, "completion_tokens": 32}));
    let indices: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| choice["index"].clone()).collect();
    assert_eq!(json!(indices), json!([0, 1, 2, 3]));
}

#[tokio::test]
async fn seeds_decide_and_further_answers_take_the_next_ones() {
    let server = Server::start().await;
    let sampled = |more| merged(&greedy(24), merged(&json!({"temperature": 1.5}), more));
    let three = server.post(PATH, &sampled(json!({"seed": 5, "n": 3}))).await;
    let texts: Vec<_> = three["choices"].as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect();
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    for (seed, text) in [(5, &texts[0]), (6, &texts[1]), (7, &texts[2])] {
        assert_eq!(&server.post(PATH, &sampled(json!({"seed": seed}))).await["choices"][0]["text"], text);
    }
    let events = server.events(PATH, &sampled(json!({"seed": 5, "n": 3}))).await;
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(&json!(text_of(&events, index)), text);
    }
    let unseeded = |answer: Value| answer["choices"][0]["text"].clone();
    let (a, b) = (server.post(PATH, &sampled(json!({}))).await, server.post(PATH, &sampled(json!({}))).await);
    assert_ne!(unseeded(a), unseeded(b), "without a seed every request differs");
}

#[tokio::test]
async fn echo_puts_the_prompt_first() {
    let server = Server::start().await;
    let plain = server.post(PATH, &greedy(6)).await;
    let ids: Vec<u32> = "hello".bytes().map(u32::from).collect();
    for prompt in [json!("hello"), json!(ids)] {
        let body = merged(&greedy(6), json!({"echo": true, "prompt": prompt}));
        let echoed = format!("hello{}", plain["choices"][0]["text"].as_str().unwrap());
        assert_eq!(server.post(PATH, &body).await["choices"][0]["text"], echoed);
        assert_eq!(text_of(&server.events(PATH, &body).await, 0), echoed);
    }
}

#[tokio::test]
async fn stop_strings_end_the_text_wherever_events_are_cut() {
    let server = Server::start().await;
    let free = server.post(PATH, &greedy(40)).await["choices"][0]["text"].as_str().unwrap().to_owned();
    for (start, end) in [(0, 1), (3, 6), (10, 18), (20, 21)] {
        let stop = characters(&free, start, end);
        let at = free.find(&stop).unwrap();
        let body = merged(&greedy(40), json!({"stop": ["never comes", stop]}));
        let whole = &server.post(PATH, &body).await["choices"][0];
        assert_eq!(whole["text"], free[..at]);
        assert_eq!((&whole["finish_reason"], &whole["stop_reason"]), (&json!("stop"), &json!(stop)));
        let events = server.events(PATH, &body).await;
        assert_eq!(text_of(&events, 0), free[..at]);
        assert_eq!(pieces(&events, 0).last().unwrap()["stop_reason"], json!(stop));
        let body = merged(&body, json!({"include_stop_str_in_output": true}));
        assert_eq!(server.post(PATH, &body).await["choices"][0]["text"], free[..at + stop.len()]);
    }
    server.settles().await;
}

#[tokio::test]
async fn stop_strings_do_not_count_before_min_tokens() {
    let server = Server::start().await;
    let body = merged(&greedy(9), json!({"logit_bias": {"97": 100}, "stop": "aa", "min_tokens": 4}));
    let answer = server.post(PATH, &body).await;
    assert_eq!(answer["choices"][0]["text"], "aaaa");
    assert_eq!(answer["usage"]["completion_tokens"], 6);
}

#[tokio::test]
async fn stop_tokens_end_the_text() {
    let server = Server::start().await;
    let body = merged(&greedy(9), json!({"logit_bias": {"65": 100}, "stop_token_ids": [65]}));
    let answer = server.post(PATH, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["stop_reason"]), (&json!(""), &json!(65)));
    let body = merged(&body, json!({"include_stop_str_in_output": true}));
    assert_eq!(server.post(PATH, &body).await["choices"][0]["text"], "A");
}

#[tokio::test]
async fn the_model_s_own_end_is_counted_but_not_shown() {
    let server = Server::start().await;
    let body = merged(&greedy(9), json!({"logit_bias": {END.to_string(): 100}, "ignore_eos": false}));
    let answer = server.post(PATH, &body).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["stop_reason"]), (&json!("stop"), &Value::Null));
    assert_eq!((&choice["text"], &answer["usage"]["completion_tokens"]), (&json!(""), &json!(1)));
    let answer = server.post(PATH, &merged(&body, json!({"min_tokens": 3}))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn special_tokens_show_when_asked_for() {
    let server = Server::start().await;
    let body = merged(&greedy(2), json!({"logit_bias": {END.to_string(): 100}}));
    assert_eq!(server.post(PATH, &body).await["choices"][0]["text"], "");
    let body = merged(&body, json!({"skip_special_tokens": false}));
    assert_eq!(server.post(PATH, &body).await["choices"][0]["text"], "<|end|><|end|>");
}

#[tokio::test]
async fn broken_characters_are_replaced_once_they_are_certain() {
    let server = Server::start().await;
    let body = merged(&greedy(3), json!({"logit_bias": {"240": 100}}));
    let whole = server.post(PATH, &body).await["choices"][0]["text"].clone();
    assert_eq!(whole, "\u{FFFD}\u{FFFD}\u{FFFD}");
    assert_eq!(json!(text_of(&server.events(PATH, &body).await, 0)), whole);
}

#[tokio::test]
async fn logprobs_are_parallel_lists() {
    let server = Server::start().await;
    let body = merged(&greedy(12), json!({"logprobs": 3, "temperature": 1.0, "seed": 1}));
    let answer = server.post(PATH, &body).await;
    let lists = &answer["choices"][0]["logprobs"];
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(lists[name].as_array().unwrap().len(), 12, "{name}");
    }
    for place in 0..12 {
        let top = lists["top_logprobs"][place].as_object().unwrap();
        assert!((3..=4).contains(&top.len()), "three and perhaps the chosen one");
        let token = lists["tokens"][place].as_str().unwrap();
        assert_eq!(top[token], lists["token_logprobs"][place]);
        assert!(lists["token_logprobs"][place].as_f64().unwrap() <= 0.0);
        assert_eq!(lists["text_offset"][place], place, "every token shows as one character");
    }
    let events = server.events(PATH, &body).await;
    let streamed: Vec<_> =
        pieces(&events, 0).filter_map(|choice| choice["logprobs"]["tokens"].as_array()).flatten().cloned().collect();
    assert_eq!(json!(streamed), lists["tokens"]);
    let offsets: Vec<_> = pieces(&events, 0)
        .filter_map(|choice| choice["logprobs"]["text_offset"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(json!(offsets), lists["text_offset"]);
}

#[tokio::test]
async fn logprobs_of_zero_show_the_chosen_token_only() {
    let server = Server::start().await;
    let answer = server.post(PATH, &merged(&greedy(2), json!({"logprobs": 0, "logit_bias": {"97": 100}}))).await;
    let lists = &answer["choices"][0]["logprobs"];
    assert_eq!(lists["tokens"], json!(["a", "a"]));
    assert_eq!(lists["top_logprobs"][0].as_object().unwrap().len(), 1);
    let answer = server.post(PATH, &merged(&greedy(2), json!({"logprobs": false}))).await;
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn sixteen_tokens_are_the_default_as_far_as_there_is_room() {
    let server = Server::start().await;
    let body = json!({"prompt": "hello", "ignore_eos": true});
    assert_eq!(server.post(PATH, &body).await["usage"]["completion_tokens"], 16);
    let body = json!({"prompt": "x".repeat(MAX_MODEL_LEN - 5), "ignore_eos": true});
    assert_eq!(server.post(PATH, &body).await["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn the_checkpoint_s_settings_are_defaults_that_requests_override() {
    let mut setup = Setup::default();
    setup.defaults.temperature = Some(0.0);
    let server = Server::with(setup).await;
    let body = |temperature: Value| json!({"prompt": "hello", "max_tokens": 12, "ignore_eos": true, "temperature": temperature});
    let greedy = server.post(PATH, &body(json!(0))).await["choices"][0]["text"].clone();
    assert_eq!(server.post(PATH, &body(Value::Null)).await["choices"][0]["text"], greedy);
    assert_ne!(server.post(PATH, &body(json!(2.0))).await["choices"][0]["text"], greedy);
}
