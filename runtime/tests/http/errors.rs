//! Requests that must be refused, and some that look bad but must not be.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::harness::{MAX_MODEL_LEN, Server, Setup, merged};

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

fn prompt(more: Value) -> Value {
    merged(&json!({"model": "tiny", "prompt": "hi", "max_tokens": 4}), more)
}

fn chat(more: Value) -> Value {
    merged(&json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}), more)
}

fn says(content: Value) -> Value {
    chat(json!({"messages": [{"role": "user", "content": content}]}))
}

/// Sends `body` and checks the status, the code and the parameter; the message must be short and name no internals.
async fn refused(server: &Server, path: &str, body: Value, status: u16, code: &str, param: &str) {
    let response = server.send(path, &body).await;
    let got = response.status();
    let answer: Value = response.json().await.unwrap();
    let error = &answer["error"];
    let shown: String = body.to_string().chars().take(200).collect();
    assert_eq!((got.as_u16(), &error["code"]), (status, &json!(code)), "{shown}: {answer}");
    assert_eq!(error["param"].as_str().unwrap_or(""), param, "{shown}: {answer}");
    let message = error["message"].as_str().unwrap();
    assert!(message.len() < 500 && !message.contains("0x") && !message.contains("trefoil_"), "{message}");
    assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{answer}");
}

#[tokio::test]
async fn completions_are_refused_by_field() {
    let server = Server::start().await;
    let long = "x".repeat(MAX_MODEL_LEN);
    let rows = [
        (json!({"model": "tiny"}), "missing_field", "prompt"),
        (prompt(json!({"prompt": null})), "missing_field", "prompt"),
        (prompt(json!({"prompt": 7})), "invalid_type", "prompt"),
        (prompt(json!({"prompt": ""})), "empty_prompt", "prompt"),
        (prompt(json!({"prompt": []})), "empty_prompt", "prompt"),
        (prompt(json!({"prompt": [1, "a"]})), "invalid_type", "prompt[1]"),
        (prompt(json!({"prompt": [[1], "a", [[1]]]})), "invalid_type", "prompt[2][0]"),
        (prompt(json!({"prompt": [1.5]})), "invalid_type", "prompt[0]"),
        (prompt(json!({"prompt": [-1]})), "invalid_token_id", "prompt[0]"),
        (prompt(json!({"prompt": [257]})), "invalid_token_id", "prompt"),
        (prompt(json!({"prompt": [4_294_967_296_u64]})), "invalid_token_id", "prompt[0]"),
        (prompt(json!({"prompt": vec!["hi"; 257]})), "value_out_of_range", "prompt"),
        (prompt(json!({"prompt": long})), "context_length_exceeded", "prompt"),
        (prompt(json!({"prompt": "x".repeat(1 << 20)})), "context_length_exceeded", "prompt"),
        (prompt(json!({"max_tokens": MAX_MODEL_LEN})), "context_length_exceeded", "max_tokens"),
        (prompt(json!({"max_tokens": 0})), "value_out_of_range", "max_tokens"),
        (prompt(json!({"max_tokens": -1})), "invalid_type", "max_tokens"),
        (prompt(json!({"max_tokens": "16"})), "invalid_type", "max_tokens"),
        (prompt(json!({"max_tokens": 2.5})), "invalid_type", "max_tokens"),
        (prompt(json!({"n": 0})), "value_out_of_range", "n"),
        (prompt(json!({"n": 129})), "value_out_of_range", "n"),
        (prompt(json!({"temperature": -0.1})), "value_out_of_range", "temperature"),
        (prompt(json!({"temperature": "hot"})), "invalid_type", "temperature"),
        (prompt(json!({"temperature": 1e300})), "value_out_of_range", "temperature"),
        (prompt(json!({"top_p": 0})), "value_out_of_range", "top_p"),
        (prompt(json!({"top_k": -2})), "value_out_of_range", "top_k"),
        (prompt(json!({"min_p": 1.5})), "value_out_of_range", "min_p"),
        (prompt(json!({"presence_penalty": 3})), "value_out_of_range", "presence_penalty"),
        (prompt(json!({"frequency_penalty": -2.5})), "value_out_of_range", "frequency_penalty"),
        (prompt(json!({"repetition_penalty": 0})), "value_out_of_range", "repetition_penalty"),
        (prompt(json!({"seed": 9_223_372_036_854_775_808_u64})), "invalid_type", "seed"),
        (prompt(json!({"seed": "x"})), "invalid_type", "seed"),
        (prompt(json!({"logit_bias": {"abc": 1}})), "invalid_token_id", "logit_bias"),
        (prompt(json!({"logit_bias": {"257": 1}})), "invalid_token_id", "logit_bias"),
        (prompt(json!({"logit_bias": {"5": 1e9}})), "value_out_of_range", "logit_bias"),
        (prompt(json!({"logit_bias": {"5": null}})), "invalid_type", "logit_bias.5"),
        (prompt(json!({"logit_bias": [5]})), "invalid_type", "logit_bias"),
        (prompt(json!({"stop": ""})), "value_out_of_range", "stop"),
        (prompt(json!({"stop": ["a", ""]})), "value_out_of_range", "stop"),
        (prompt(json!({"stop": vec!["a"; 17]})), "value_out_of_range", "stop"),
        (prompt(json!({"stop": "x".repeat(1025)})), "value_out_of_range", "stop"),
        (prompt(json!({"stop": [1]})), "invalid_type", "stop"),
        (prompt(json!({"stop_token_ids": [-1]})), "invalid_token_id", "stop_token_ids[0]"),
        (prompt(json!({"stop_token_ids": [300], "min_tokens": 1})), "invalid_token_id", "stop_token_ids"),
        (prompt(json!({"min_tokens": 5})), "value_out_of_range", "min_tokens"),
        (prompt(json!({"stream": "yes"})), "invalid_type", "stream"),
        (prompt(json!({"stream_options": {}})), "conflicting_parameters", "stream_options"),
        (
            prompt(json!({"stream": true, "stream_options": {"include_usage": 1}})),
            "invalid_type",
            "stream_options.include_usage",
        ),
        (prompt(json!({"logprobs": 21})), "value_out_of_range", "logprobs"),
        (prompt(json!({"logprobs": -1})), "invalid_type", "logprobs"),
        (prompt(json!({"logprobs": 1, "echo": true})), "unsupported_parameter", "echo"),
        (prompt(json!({"echo": "no"})), "invalid_type", "echo"),
    ];
    for (body, code, param) in rows {
        refused(&server, COMPLETIONS, body, 400, code, param).await;
    }
    server.settles().await;
}

#[tokio::test]
async fn fields_that_would_change_the_output_are_refused_by_name() {
    let server = Server::start().await;
    let fields = json!({
        "suffix": "x", "best_of": 2, "use_beam_search": true, "guided_json": {"type": "object"}, "prompt_logprobs": 5,
        "prompt_embeds": "AAAA", "response_format": {"type": "json_object"}, "cache_salt": "s", "bad_words": ["x"],
        "truncate_prompt_tokens": 4, "kv_transfer_params": {"a": 1}, "length_penalty": 0.5,
    });
    for (name, value) in fields.as_object().unwrap() {
        refused(&server, COMPLETIONS, prompt(json!({name: value})), 400, "unsupported_parameter", name).await;
    }
    let fields = json!({
        "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required",
        "chat_template": "{{ 1 }}", "functions": [{}], "modalities": ["audio"],
        "response_format": {"type": "json_schema"},
    });
    for (name, value) in fields.as_object().unwrap() {
        refused(&server, CHAT, chat(json!({name: value})), 400, "unsupported_parameter", name).await;
    }
}

#[tokio::test]
async fn conversations_are_refused_by_field() {
    let server = Server::start().await;
    let system = json!({"role": "system", "content": "s"});
    let rows = [
        (json!({"model": "tiny"}), "missing_field", "messages"),
        (chat(json!({"messages": []})), "value_out_of_range", "messages"),
        (chat(json!({"messages": "hi"})), "invalid_type", "messages"),
        (chat(json!({"messages": [7]})), "invalid_type", "messages[0]"),
        (chat(json!({"messages": vec![system.clone(); 2049]})), "value_out_of_range", "messages"),
        (chat(json!({"messages": [{"role": "root", "content": "x"}]})), "invalid_value", "messages[0].role"),
        (chat(json!({"messages": [{"content": "x"}]})), "invalid_value", "messages[0].role"),
        (chat(json!({"messages": [{"role": "user"}]})), "invalid_type", "messages[0].content"),
        (chat(json!({"messages": [{"role": "assistant", "content": null}]})), "invalid_type", "messages[0].content"),
        (says(json!([])), "value_out_of_range", "messages[0].content"),
        (says(json!([{}])), "invalid_type", "messages[0].content[0]"),
        (says(json!([{"type": "text", "text": 7}])), "invalid_type", "messages[0].content[0]"),
        (
            says(json!([{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/"}}])),
            "unsupported_parameter",
            "messages[0].content[0]",
        ),
        (chat(json!({"messages": [system, system]})), "template_error", "messages"),
        (chat(json!({"top_logprobs": 5})), "conflicting_parameters", "top_logprobs"),
        (chat(json!({"logprobs": true, "top_logprobs": 21})), "value_out_of_range", "logprobs"),
        (chat(json!({"chat_template_kwargs": {"messages": []}})), "unsupported_parameter", "chat_template_kwargs"),
        (chat(json!({"chat_template_kwargs": {"tokenize": true}})), "unsupported_parameter", "chat_template_kwargs"),
        (
            chat(json!({"continue_final_message": true, "add_generation_prompt": true})),
            "conflicting_parameters",
            "continue_final_message",
        ),
    ];
    for (body, code, param) in rows {
        refused(&server, CHAT, body, 400, code, param).await;
    }
    let server = Server::with(Setup { template: None, ..Setup::default() }).await;
    refused(&server, CHAT, chat(json!({})), 400, "template_error", "").await;
}

#[tokio::test]
async fn unknown_models_are_not_found() {
    let server = Server::start().await;
    for path in [COMPLETIONS, CHAT] {
        let body = merged(&prompt(json!({"model": "gpt-4"})), chat(json!({"model": "gpt-4"})));
        refused(&server, path, body, 404, "model_not_found", "model").await;
    }
    refused(&server, COMPLETIONS, prompt(json!({"model": "x".repeat(100_000)})), 404, "model_not_found", "model").await;
    refused(&server, COMPLETIONS, prompt(json!({"model": 7})), 400, "invalid_type", "model").await;
}

#[tokio::test]
async fn what_looks_bad_but_is_not_is_answered() {
    let server = Server::start().await;
    let more = [
        json!({"model": null}),
        json!({"model": "alias"}),
        json!({"prompt": "a\u{0}b"}),
        json!({"prompt": "<|end|>"}),
        json!({"temperature": 1e-300}),
        json!({"temperature": -0.0}),
        json!({"seed": -1}),
        json!({"top_k": -1}),
        json!({"top_k": 4_294_967_297_u64}),
        json!({"logprobs": null, "seed": null, "stop": null, "n": null, "max_tokens": null, "stream": null}),
        json!({"no_such_field": {"a": [1]}, "user": "u", "no_stop_trim": true}),
        json!({"best_of": 1, "suffix": null, "guided_json": null, "use_beam_search": false, "tools": []}),
        json!({"response_format": {"type": "text"}, "tool_choice": "none"}),
        json!({"repetition_penalty": 1.3, "presence_penalty": 2, "frequency_penalty": -2, "min_p": 0.1, "top_p": 0.5}),
    ];
    for more in more {
        server.post(COMPLETIONS, &prompt(more)).await;
    }
    server.post(CHAT, &chat(json!({"stop": ["x"], "logprobs": false, "top_logprobs": 0}))).await;
}

async fn send_raw(server: &Server, content_type: Option<&str>, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
    let mut request = server.client.post(format!("{}{COMPLETIONS}", server.base)).body(body);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn malformed_bodies_are_refused() {
    let server = Server::start().await;
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"prompt\": \"x\", \"metadata\": {}1{}}}", "[".repeat(200), "]".repeat(200));
    let rows: [&[u8]; 10] = [
        b"",
        b"{",
        b"[1,2]",
        b"null",
        b"\"x\"",
        deep.as_bytes(),
        nested.as_bytes(),
        b"{\"prompt\": \"\xff\xfe\"}",
        b"{\"prompt\": \"\\ud800\"}",
        b"{\"prompt\": \"a\", \"prompt\": \"b\"}",
    ];
    for body in rows {
        let (status, answer) = send_raw(&server, Some("application/json"), body.to_vec()).await;
        assert_eq!((status.as_u16(), &answer["error"]["code"]), (400, &json!("invalid_json")), "{answer}");
    }
    for number in ["NaN", "Infinity", "1e999"] {
        let body = format!("{{\"prompt\": \"x\", \"temperature\": {number}}}");
        assert_eq!(send_raw(&server, Some("application/json"), body).await.0, 400);
    }
    let body = || prompt(json!({})).to_string();
    assert_eq!(send_raw(&server, Some("text/plain"), body()).await.0, 415);
    assert_eq!(send_raw(&server, Some("application/json; charset=utf-8"), body()).await.0, 200);
    assert_eq!(send_raw(&server, None, body()).await.0, 200);
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused() {
    let mut setup = Setup::default();
    setup.config.body_limit_bytes = 1000;
    let server = Server::with(setup).await;
    let spaces = |number: usize| format!("{}{}", prompt(json!({})), " ".repeat(number));
    let (status, answer) = send_raw(&server, None, spaces(1000)).await;
    assert_eq!((status.as_u16(), &answer["error"]["code"]), (413, &json!("payload_too_large")));
    assert_eq!(send_raw(&server, None, spaces(900)).await.0, 200);
}

#[tokio::test]
async fn unknown_routes_and_methods_have_error_bodies() {
    let server = Server::start().await;
    for path in ["/nowhere", "/v1/embeddings", "/v1//completions", "/v1/models/"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "not_found");
    }
    let response = server.get(COMPLETIONS).await;
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "method_not_allowed");
}
