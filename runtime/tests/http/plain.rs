//! The small routes.

use serde_json::{Value, json};

use crate::harness::{MAX_MODEL_LEN, NUM_PAGES, Server};

async fn json_of(server: &Server, path: &str) -> Value {
    let response = server.get(path).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let server = Server::start().await;
    let list = json_of(&server, "/v1/models").await;
    assert_eq!(list["object"], "list");
    let first = &list["data"][0];
    assert_eq!(
        (&first["id"], &first["object"], &first["owned_by"]),
        (&json!("tiny"), &json!("model"), &json!("trefoil"))
    );
    assert_eq!((&first["root"], &first["max_model_len"]), (&json!("/models/tiny"), &json!(MAX_MODEL_LEN)));
    assert_eq!(list["data"][1]["id"], "alias");
    assert_eq!(json_of(&server, "/v1/models/tiny").await, *first);
    assert_eq!(server.get("/v1/models/other").await.status(), 404);
    assert_eq!(server.get("/v1/models/org/other").await.status(), 404);
}

#[tokio::test]
async fn texts_become_tokens_and_tokens_texts() {
    let server = Server::start().await;
    let text = "hé <|end|>";
    let answer = server.post("/tokenize", &json!({"prompt": text, "return_token_strs": true})).await;
    assert_eq!(answer["tokens"], json!([104, 195, 169, 32, 256]));
    assert_eq!((&answer["count"], &answer["max_model_len"]), (&json!(5), &json!(MAX_MODEL_LEN)));
    assert_eq!(answer["token_strs"], json!(["h", "Ã", "©", "Ġ", "<|end|>"]));
    let back = server.post("/detokenize", &json!({"tokens": answer["tokens"]})).await;
    assert_eq!(back, json!({"prompt": text}));
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let answer = server.post("/tokenize", &json!({"messages": messages, "add_generation_prompt": false})).await;
    assert_eq!((&answer["count"], &answer["token_strs"]), (&json!("<user>Hi\n".len()), &Value::Null));
    assert_eq!(server.send("/detokenize", &json!({"tokens": [-1]})).await.status(), 400);
    assert_eq!(server.send("/tokenize", &json!({})).await.status(), 400);
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = Server::start().await;
    let made = server.get("/nowhere").await;
    assert_eq!(made.headers()["x-request-id"].len(), 32);
    for (given, kept) in [("mine-1", true), (&*"x".repeat(200), false)] {
        let request = server.client.get(format!("{}/health", server.base)).header("x-request-id", given);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["x-request-id"] == given, kept, "{given}");
    }
}

#[tokio::test]
async fn monitors_get_what_they_ask_for() {
    let server = Server::start().await;
    for path in ["/health", "/live", "/ping", "/ready"] {
        json_of(&server, path).await;
    }
    assert!(json_of(&server, "/version").await["version"].is_string());
    assert_eq!(json_of(&server, "/load").await, json!({"server_load": 0}));
    let loads = json_of(&server, "/v1/loads").await;
    assert_eq!(loads["loads"][0]["max_total_num_tokens"], NUM_PAGES * 8);
}

/// The value of a sample, found by the start of its line.
fn sample(text: &str, start: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(start));
    let line = line.unwrap_or_else(|| panic!("no sample {start} in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_have_vllm_s_names_and_labels() {
    let server = Server::start().await;
    let body = json!({"prompt": "hello", "max_tokens": 10, "n": 2, "ignore_eos": true});
    server.post("/v1/completions", &body).await;
    let a = json!({"prompt": "hello", "max_tokens": 10, "logit_bias": {"97": 100}, "stop": "aa"});
    server.post("/v1/completions", &a).await;
    server.settles().await;
    let response = server.get("/metrics").await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text().await.unwrap();
    let labels = "model_name=\"tiny\",engine=\"0\"";
    for gauge in ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc"] {
        assert_eq!(sample(&text, &format!("vllm:{gauge}{{{labels}}}")), 0.0);
    }
    assert_eq!(sample(&text, &format!("vllm:prompt_tokens_total{{{labels}}}")), 15.0);
    assert!(sample(&text, &format!("vllm:generation_tokens_total{{{labels}}}")) >= 22.0);
    let success =
        |reason: &str| sample(&text, &format!("vllm:request_success_total{{{labels},finished_reason=\"{reason}\"}}"));
    assert_eq!((success("length"), success("stop"), success("abort")), (2.0, 1.0, 0.0));
    assert_eq!(sample(&text, &format!("vllm:time_to_first_token_seconds_count{{{labels}}}")), 3.0);
    assert_eq!(sample(&text, &format!("vllm:e2e_request_latency_seconds_bucket{{{labels},le=\"1920\"}}")), 3.0);
    assert_eq!(sample(&text, &format!("vllm:request_params_n_bucket{{{labels},le=\"1\"}}")), 1.0);
    assert_eq!(
        sample(&text, &format!("vllm:cache_config_info{{{labels},block_size=\"8\",num_gpu_blocks=\"64\"}}")),
        1.0
    );
    let http = format!("http_requests_total{{{labels},handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"}}");
    assert_eq!(sample(&text, &http), 2.0);
    assert!(text.contains("# TYPE vllm:time_to_first_token_seconds histogram"));
    assert!(text.contains("# HELP vllm:time_to_first_token_seconds "));
}
