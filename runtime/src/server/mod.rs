//! The HTTP server: OpenAI's API with vLLM's extensions, and what routers and monitors ask for.
//!
//! | route | |
//! |---|---|
//! | `POST /v1/completions`, `POST /v1/chat/completions` | text, whole or in server-sent events |
//! | `GET /v1/models`, `GET /v1/models/{id}` | what is served |
//! | `POST /tokenize`, `POST /detokenize` | text to tokens and back |
//! | `GET /health`, `GET /live`, `GET /ping` | the process can do its work |
//! | `GET /ready` | new requests are welcome: the model is loaded, the server is not draining |
//! | `GET /metrics`, `GET /load`, `GET /v1/loads`, `GET /version` | for monitors and gateways |
//!
//! A request without `model` means the one model there is. Fields that nobody knows are ignored and named once in the
//! log; fields that would change the output and are not supported are refused by name. Errors have OpenAI's body
//! everywhere. A client that goes away cancels its request, wherever that stands.
//!
//! The types of requests and responses are our own. The crate `openai-protocol` has them too, but brings ninety
//! crates and most of a minute to the build, for some ten small structs; and its requests are parsed as a whole, where
//! we want an error to name the field and unknown fields to be seen.
//!
//! This module must not know devices, KV pages or the batcher; it meets the engine at
//! [`EngineHandle`](crate::engine::EngineHandle) only.

mod answer;
mod body;
mod chat;
mod choices;
mod completions;
mod encode;
mod error;
mod logprobs;
mod messages;
mod params;
mod plain;
mod random;
mod serve;
mod state;

use std::any::Any;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use error::ApiError;
pub use serve::{serve, termination};
pub use state::{AppState, ServedModel, ServerConfig};

/// All routes over `state`.
pub fn router(state: AppState) -> Router {
    let body_limit = DefaultBodyLimit::max(state.config().body_limit_bytes);
    Router::new()
        .route("/v1/completions", post(completions::handle))
        .route("/v1/chat/completions", post(chat::handle))
        .route("/v1/models", get(plain::models))
        .route("/v1/models/{*id}", get(plain::model))
        .route("/tokenize", post(plain::tokenize))
        .route("/detokenize", post(plain::detokenize))
        .route("/health", get(plain::health))
        .route("/live", get(plain::health))
        .route("/ping", get(plain::health).post(plain::health))
        .route("/ready", get(plain::ready))
        .route("/version", get(plain::version))
        .route("/load", get(plain::load))
        .route("/v1/loads", get(plain::loads))
        .route("/metrics", get(plain::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(body_limit)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), observe))
        .with_state(state)
}

async fn not_found(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(64).collect();
    ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("there is no route {path:?}"))
}

async fn method_not_allowed(request: Request) -> ApiError {
    let message = format!("{} is not allowed here", request.method());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// A panic in a handler is the end of that request only.
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("of no text"), "a handler panicked");
    let message = "the server failed at this request; its log says why";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message).into_response()
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids from clients are replaced, so that logs stay readable.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Gives every response the id of its request, and counts it.
async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let handler = path.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status();
    state.metrics().on_http(handler, method.as_str(), status.as_u16());
    tracing::debug!(handler, %method, %status, request_id = ?id, "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(&REQUEST_ID);
    let usable = |id: &&HeaderValue| !id.is_empty() && id.len() <= MAX_REQUEST_ID_BYTES && id.to_str().is_ok();
    match given.filter(usable) {
        Some(id) => id.clone(),
        None => HeaderValue::from_str(&random::id()).unwrap_or(HeaderValue::from_static("unknown")),
    }
}

#[cfg(test)]
mod tests {
    //! What no route can be made to do from outside.

    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_error_and_keeps_its_words() {
        for panic in [Box::new("secret") as Box<dyn Any + Send>, Box::new("secret".to_owned()), Box::new(7)] {
            let response = panicked(panic);
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let body = to_bytes(response.into_body(), 1000).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert!(body.contains("\"code\":\"internal\"") && !body.contains("secret"), "{body}");
        }
    }
}
