//! `/v1/chat/completions`.

use serde_json::{Value, json};

use crate::harness::{MAX_MODEL_LEN, Server, Setup, content_of, merged, pieces};

const PATH: &str = "/v1/chat/completions";

fn greedy(max_tokens: usize) -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": max_tokens,
        "temperature": 0, "ignore_eos": true})
}

#[tokio::test]
async fn events_carry_the_same_message_as_the_whole() {
    let server = Server::start().await;
    let whole = server.post(PATH, &greedy(30)).await;
    assert_eq!(whole["object"], "chat.completion");
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    // "<user>Hi\n<assistant>"
    assert_eq!(whole["usage"], json!({"prompt_tokens": 20, "total_tokens": 50, "completion_tokens": 30}));

    let events = server.events(PATH, &merged(&greedy(30), json!({"stream_options": {"include_usage": true}}))).await;
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(pieces(&events, 0).skip(1).all(|choice| choice["delta"].get("role").is_none()));
    assert_eq!(content_of(&events, 0), message["content"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
}

#[tokio::test]
async fn the_prompt_is_the_rendered_template() {
    let server = Server::start().await;
    let chat = server.post(PATH, &greedy(10)).await;
    let body = json!({"prompt": "<user>Hi\n<assistant>", "max_tokens": 10, "temperature": 0, "ignore_eos": true});
    let completion = server.post("/v1/completions", &body).await;
    assert_eq!(chat["choices"][0]["message"]["content"], completion["choices"][0]["text"]);
    let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]});
    let in_parts = server.post(PATH, &merged(&greedy(10), parts)).await;
    assert_eq!(in_parts["choices"][0]["message"], chat["choices"][0]["message"]);
}

#[tokio::test]
async fn the_last_message_can_be_continued() {
    let server = Server::start().await;
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I am"}]);
    let body = merged(&greedy(10), json!({"messages": messages, "continue_final_message": true}));
    let continued = server.post(PATH, &body).await;
    let body = json!({"prompt": "<user>Hi\n<assistant>I am", "max_tokens": 10, "temperature": 0, "ignore_eos": true});
    let completion = server.post("/v1/completions", &body).await;
    assert_eq!(continued["choices"][0]["message"]["content"], completion["choices"][0]["text"]);
}

#[tokio::test]
async fn without_a_length_an_answer_goes_to_the_end_of_the_context() {
    let server = Server::start().await;
    let mut body = greedy(1);
    body["max_tokens"] = Value::Null;
    let answer = server.post(PATH, &body).await;
    assert_eq!(answer["usage"]["total_tokens"], MAX_MODEL_LEN);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let answer = server.post(PATH, &merged(&body, json!({"max_completion_tokens": 7}))).await;
    assert_eq!(answer["usage"]["completion_tokens"], 7);

    let mut setup = Setup::default();
    setup.defaults.max_new_tokens = Some(9);
    let server = Server::with(setup).await;
    assert_eq!(server.post(PATH, &body).await["usage"]["completion_tokens"], 9);
}

#[tokio::test]
async fn logprobs_give_bytes_and_alternatives() {
    let server = Server::start().await;
    let body = merged(&greedy(6), json!({"logprobs": true, "top_logprobs": 2}));
    let answer = server.post(PATH, &body).await;
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(content.len(), 6);
    for token in &content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(
            (&top[0]["bytes"], &top[0]["logprob"]),
            (&token["bytes"], &token["logprob"]),
            "greedy takes the first"
        );
        assert!(top[1]["logprob"].as_f64() <= top[0]["logprob"].as_f64());
    }
    let events = server.events(PATH, &body).await;
    let streamed: Vec<_> =
        pieces(&events, 0).filter_map(|choice| choice["logprobs"]["content"].as_array()).flatten().cloned().collect();
    assert_eq!(streamed, content);
    let answer = server.post(PATH, &merged(&greedy(6), json!({"logprobs": true}))).await;
    assert_eq!(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test]
async fn several_answers_open_and_end_each() {
    let server = Server::start().await;
    let events = server.events(PATH, &merged(&greedy(5), json!({"n": 3}))).await;
    for index in 0..3 {
        let choices: Vec<_> = pieces(&events, index).collect();
        assert_eq!(choices.first().unwrap()["delta"]["role"], "assistant");
        assert_eq!(choices.last().unwrap()["finish_reason"], "length");
    }
    assert_eq!(content_of(&events, 0), content_of(&events, 2));
}

#[tokio::test]
async fn template_arguments_reach_the_template() {
    let server =
        Server::with(Setup { template: Some("{{ mood }}{{ messages[0].content }}"), ..Setup::default() }).await;
    let body = merged(&greedy(4), json!({"chat_template_kwargs": {"mood": "sad"}}));
    assert_eq!(server.post(PATH, &body).await["usage"]["prompt_tokens"], 5);
    assert_eq!(server.post(PATH, &greedy(4)).await["usage"]["prompt_tokens"], 2);
}
