//! Clients that go away, full queues, devices that fail, and the end of the server.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use trefoil_runtime::device::simulated::{Behavior, Fault};
use trefoil_runtime::engine::Phase;

use crate::harness::{Server, Setup, data_lines, merged, slow};

const PATH: &str = "/v1/completions";
const STEP: Duration = Duration::from_millis(20);

/// Some 80 steps of work.
fn long() -> Value {
    json!({"prompt": "hello", "max_tokens": 80, "temperature": 0, "ignore_eos": true})
}

fn running(server: &Server) -> usize {
    server.engine.stats().num_running
}

/// Sends a request and drops the connection once the engine runs as many sequences.
async fn abandon(server: &Server, body: &Value, num_running: usize) {
    let request = server.client.post(format!("{}{PATH}", server.base)).json(body).send();
    tokio::select! {
        _ = request => panic!("the answer should take longer"),
        () = server.until("runs", |server| running(server) == num_running) => {}
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let server = Server::with(slow(STEP)).await;
    let began = Instant::now();
    abandon(&server, &long(), 1).await;
    server.settles().await;
    abandon(&server, &merged(&long(), json!({"n": 3})), 3).await;
    server.settles().await;
    assert!(began.elapsed() < STEP * 70, "the requests were cancelled, not finished");
    let text = server.get("/metrics").await.text().await.unwrap();
    assert!(text.lines().any(|line| line.contains("finished_reason=\"abort\"") && line.ends_with(" 4")), "{text}");
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_cancels_its_request() {
    let server = Server::with(slow(STEP)).await;
    for more in [json!({"stream": true}), json!({"stream": true, "n": 2})] {
        let response = server.send(PATH, &merged(&long(), more)).await;
        let mut bytes = response.bytes_stream();
        assert!(bytes.next().await.unwrap().unwrap().starts_with(b"data: "));
        assert!(running(&server) > 0);
        drop(bytes);
        server.settles().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_cancels_its_request() {
    let server = Server::with(Setup { max_num_seqs: 1, ..slow(STEP) }).await;
    let first = server.send(PATH, &merged(&long(), json!({"stream": true}))).await;
    let request = server.client.post(format!("{}{PATH}", server.base)).json(&long()).send();
    tokio::select! {
        _ = request => panic!("the answer should take longer"),
        () = server.until("waits", |server| server.engine.stats().num_waiting == 1) => {}
    }
    server.until("waits no more", |server| server.engine.stats().num_waiting == 0).await;
    assert_eq!(running(&server), 1, "the other one is not touched");
    drop(first);
    server.settles().await;
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    let server = Server::with(Setup { max_num_seqs: 1, max_num_queued_reqs: 1, ..slow(STEP) }).await;
    let first = server.send(PATH, &merged(&long(), json!({"stream": true}))).await;
    let response = server.send(PATH, &merged(&long(), json!({"n": 3}))).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let answer: Value = response.json().await.unwrap();
    assert_eq!((&answer["error"]["code"], &answer["error"]["type"]), (&json!("overloaded"), &json!("server_error")));
    let text = server.get("/metrics").await.text().await.unwrap();
    assert!(text.lines().any(|line| line.contains("reason=\"max_num_queued_reqs\"") && line.ends_with(" 1")), "{text}");
    drop(first);
    server.settles().await;
}

#[tokio::test]
async fn streams_are_kept_alive_while_nothing_comes() {
    let mut setup = slow(Duration::from_millis(300));
    setup.config.keep_alive = Duration::from_millis(50);
    let server = Server::with(setup).await;
    let body = merged(&long(), json!({"stream": true, "max_tokens": 2}));
    let text = server.send(PATH, &body).await.text().await.unwrap();
    assert!(text.contains(": keep-alive\n\n"), "{text}");
}

#[tokio::test]
async fn a_device_that_fails_ends_streams_with_an_error() {
    let behavior = Behavior { key: 7, fault: Some(Fault::Collect(5)), ..Behavior::default() };
    let server = Server::with(Setup { behavior, ..Setup::default() }).await;
    let events = server.raw_events(PATH, &long()).await;
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!((&last["error"]["code"], &last["error"]["type"]), (&json!("internal"), &json!("server_error")));
    assert!(!events.iter().any(|event| event == "[DONE]"));
    assert!(events.len() > 1, "the text so far was given out");
    server.until("stopped", |server| matches!(server.engine.phase(), Phase::Stopped(_))).await;
    assert_eq!(server.get("/health").await.status(), 503);
    assert_eq!(server.get("/ready").await.status(), 503);
    let response = server.send(PATH, &long()).await;
    assert_eq!(response.status(), 503);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "engine_unavailable");
}

#[tokio::test]
async fn logits_that_are_no_numbers_fail_one_request_only() {
    let behavior = Behavior { key: 7, poison: Some(b'!'.into()), ..Behavior::default() };
    let server = Server::with(Setup { behavior, ..Setup::default() }).await;
    let response = server.send(PATH, &merged(&long(), json!({"prompt": "hello!"}))).await;
    assert_eq!(response.status(), 500);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "internal");
    server.post(PATH, &json!({"prompt": "hello", "max_tokens": 3, "temperature": 0})).await;
    assert_eq!(server.get("/health").await.status(), 200);
    server.settles().await;
}

#[tokio::test]
async fn a_server_without_its_model_is_well_but_not_ready() {
    let server = Server::loading().await;
    assert_eq!(server.get("/health").await.status(), 200);
    for path in ["/ready", "/v1/models", "/metrics"] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 503, "{path}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error"]["code"], "loading", "{path}");
    }
    assert_eq!(server.send(PATH, &long()).await.status(), 503);
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_takes_no_more() {
    let mut server = Server::with(slow(Duration::from_millis(5))).await;
    let expected = server.post(PATH, &long()).await["choices"][0]["text"].clone();
    let response = server.send(PATH, &merged(&long(), json!({"stream": true}))).await;
    server.shut_down();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(server.get("/ready").await.status(), 503);
    assert_eq!(server.get("/health").await.status(), 200);
    let refused = server.send(PATH, &long()).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let events = data_lines(&response.text().await.unwrap());
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks = chunks.iter().map(|chunk| serde_json::from_str::<Value>(chunk).unwrap());
    let text: String = chunks.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(json!(text), expected);
    server.ended().await;
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_with_errors() {
    let mut setup = slow(STEP);
    setup.config.shutdown_timeout = Duration::from_millis(100);
    let mut server = Server::with(setup).await;
    let stream = server.send(PATH, &merged(&long(), json!({"stream": true}))).await;
    let request = server.client.post(format!("{}{PATH}", server.base)).json(&long()).send();
    let whole = tokio::spawn(request);
    server.until("both run", |server| running(server) == 2).await;
    server.shut_down();
    let events = data_lines(&stream.text().await.unwrap());
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down");
    assert_eq!(whole.await.unwrap().unwrap().status(), 503);
    server.settles().await;
    server.ended().await;
}
