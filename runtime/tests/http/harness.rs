//! A server on a free port of this machine, and requests to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use trefoil_runtime::checkpoint::{GenerationConfig, SpecialTokens};
use trefoil_runtime::device::simulated::{Behavior, SimulatedExecutor};
use trefoil_runtime::engine::{Engine, EngineConfig, EngineHandle};
use trefoil_runtime::executor::Capacity;
use trefoil_runtime::metrics::Metrics;
use trefoil_runtime::server::{self, AppState, ServedModel, ServerConfig};
use trefoil_runtime::text::{ChatTemplate, Tokenizer};

/// The end-of-sequence token; ids below it are bytes.
pub(crate) const END: u32 = 256;
pub(crate) const MAX_MODEL_LEN: usize = 96;
pub(crate) const NUM_PAGES: usize = 64;

/// How a test's server differs from the usual one.
pub(crate) struct Setup {
    pub(crate) behavior: Behavior,
    pub(crate) config: ServerConfig,
    pub(crate) max_num_queued_reqs: usize,
    pub(crate) max_num_seqs: usize,
    pub(crate) defaults: GenerationConfig,
    pub(crate) template: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            behavior: Behavior { key: 7, ..Behavior::default() },
            config: ServerConfig::default(),
            max_num_queued_reqs: 64,
            max_num_seqs: 8,
            defaults: GenerationConfig::default(),
            template: Some(TEMPLATE),
        }
    }
}

/// A device whose steps take this long.
pub(crate) fn slow(step_time: Duration) -> Setup {
    let behavior = Behavior { key: 7, step_time, ..Behavior::default() };
    Setup { behavior, ..Setup::default() }
}

pub(crate) const TEMPLATE: &str = "{% for message in messages %}{% if message.role == 'system' and not loop.first %}\
    {{ raise_exception('system must come first') }}{% endif %}<{{ message.role }}>{{ message.content }}\n{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

/// A running server.
pub(crate) struct Server {
    pub(crate) base: String,
    pub(crate) state: AppState,
    pub(crate) engine: EngineHandle,
    pub(crate) client: Client,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let metrics = Arc::new(Metrics::new("tiny").unwrap());
        let engine = start_engine(&setup, &metrics);
        let state = AppState::new(setup.config.clone(), metrics);
        let server = Self::listen(state, engine.clone()).await;
        server.state.install(model(&setup, engine));
        server
    }

    /// A server that has no model yet.
    pub(crate) async fn loading() -> Self {
        let metrics = Arc::new(Metrics::new("tiny").unwrap());
        let engine = start_engine(&Setup::default(), &metrics);
        Self::listen(AppState::new(ServerConfig::default(), metrics), engine).await
    }

    async fn listen(state: AppState, engine: EngineHandle) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (shutdown, ordered) = oneshot::channel::<()>();
        let ordered = async {
            // A test that drops its server shuts it down, too.
            let _ = ordered.await;
        };
        let task = tokio::spawn(server::serve(listener, state.clone(), ordered));
        Self { base, state, engine, client: Client::new(), shutdown: Some(shutdown), task }
    }

    /// Gives the order to shut down and goes on at once.
    pub(crate) fn shut_down(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits for the end of the server.
    pub(crate) async fn ended(self) {
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    pub(crate) async fn send(&self, path: &str, body: &Value) -> Response {
        self.client.post(format!("{}{path}", self.base)).json(body).send().await.unwrap()
    }

    /// Posts and expects a JSON answer with status 200.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let response = self.send(path, body).await;
        let status = response.status();
        let body: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Posts with `stream: true` and reads all events; the last one, `[DONE]`, is checked and left out.
    pub(crate) async fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut events = self.raw_events(path, body).await;
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// The `data:` of all events, as text.
    pub(crate) async fn raw_events(&self, path: &str, body: &Value) -> Vec<String> {
        let response = self.send(path, &merged(body, json!({"stream": true}))).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        data_lines(&response.text().await.unwrap())
    }

    /// Waits until the engine holds nothing and no answer is counted, which must be soon.
    pub(crate) async fn settles(&self) {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let stats = self.engine.stats();
            let free = stats.num_pages_free == stats.num_pages_total;
            if free && stats.num_running + stats.num_waiting == 0 && self.state.num_answers() == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "not settled: {stats:?}, {} answers", self.state.num_answers());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for a state of the engine.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn start_engine(setup: &Setup, metrics: &Arc<Metrics>) -> EngineHandle {
    let capacity = Capacity {
        vocab: END as usize + 1,
        max_model_len: MAX_MODEL_LEN,
        max_num_batched_tokens: 64,
        max_num_seqs: setup.max_num_seqs,
        page_tokens: 8,
        num_pages: NUM_PAGES,
    };
    let observer = Arc::clone(metrics) as Arc<_>;
    let max_num_queued_reqs = setup.max_num_queued_reqs;
    let config = EngineConfig { max_num_queued_reqs, max_logprobs: 20, observer };
    Engine::start(SimulatedExecutor::new(capacity, setup.behavior.clone()), config).unwrap()
}

fn model(setup: &Setup, engine: EngineHandle) -> ServedModel {
    let special = SpecialTokens { eos: Some("<|end|>".into()), ..SpecialTokens::default() };
    ServedModel {
        names: vec!["tiny".into(), "alias".into()],
        root: "/models/tiny".into(),
        tokenizer: Arc::new(tokenizer()),
        template: setup.template.map(|source| Arc::new(ChatTemplate::new(source, &special).unwrap())),
        eos: vec![END],
        defaults: setup.defaults.clone(),
        engine,
    }
}

/// Byte-level, with one token a byte, in order, and the special `<|end|>`.
fn tokenizer() -> Tokenizer {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut substitutes = (0x100..).filter_map(char::from_u32);
    let mut vocab = Map::new();
    for byte in 0..=u8::MAX {
        let character = if printable(&byte) { char::from(byte) } else { substitutes.next().unwrap() };
        vocab.insert(character.to_string(), byte.into());
    }
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let end = json!({"id": END, "content": "<|end|>", "special": true, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false});
    let file = json!({"version": "1.0", "added_tokens": [end], "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    Tokenizer::from_bytes(file.to_string().as_bytes()).unwrap()
}

/// `body` with the fields of `more` set.
pub(crate) fn merged(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    let (Value::Object(fields), Value::Object(more)) = (&mut body, more) else { panic!("objects are merged") };
    fields.extend(more);
    body
}

pub(crate) fn data_lines(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

/// The text of one choice over all events of `/v1/completions`.
pub(crate) fn text_of(events: &[Value], index: usize) -> String {
    pieces(events, index).filter_map(|choice| choice["text"].as_str()).collect()
}

/// The text of one choice over all events of `/v1/chat/completions`.
pub(crate) fn content_of(events: &[Value], index: usize) -> String {
    pieces(events, index).filter_map(|choice| choice["delta"]["content"].as_str()).collect()
}

/// The parts of one choice in all events.
pub(crate) fn pieces(events: &[Value], index: usize) -> impl Iterator<Item = &Value> {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    choices.filter(move |choice| choice["index"] == index)
}
