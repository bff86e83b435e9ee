//! Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`.
//!
//! Messages name the field, the value (cut short) and what is allowed. They never show paths, pointers, or words of the
//! device; those go to the log.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::SubmitError;
use crate::request::RequestError;
use crate::text::{GenerationError, StopError, TemplateError, TokenizerError};

/// An error with its HTTP status.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry_after_seconds: Option<u32>,
}

/// The body.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody {
    error: ErrorFields,
}

#[derive(Debug, Serialize)]
struct ErrorFields {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<String>,
    code: &'static str,
}

impl ApiError {
    /// An error without a parameter.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, param: None, message: message.into(), retry_after_seconds: None }
    }

    /// A 400 about one field of the request.
    pub(super) fn field(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(param)
    }

    /// Names the field that is to blame.
    #[must_use]
    pub(super) fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// A 400 about a value that is outside its range.
    pub(super) fn out_of_range(param: &str, message: impl Into<String>) -> Self {
        Self::field("value_out_of_range", param, message)
    }

    /// A 503 that a client may retry.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        let retry_after_seconds = Some(1);
        Self { retry_after_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// The server was told to end and its time is over.
    pub(super) fn ended() -> Self {
        Self::unavailable("shutting_down", "the server shut down before the answer was complete")
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn into_body(self) -> ErrorBody {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            429 => "rate_limit_error",
            404 => "not_found_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        ErrorBody { error: ErrorFields { message: self.message, kind, param: self.param, code: self.code } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after_seconds);
        let mut response = (status, Json(self.into_body())).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let code = match &error {
            RequestError::EmptyPrompt => "empty_prompt",
            RequestError::TokenOutsideVocab { .. } => "invalid_token_id",
            RequestError::ContextOverflow { .. } => "context_length_exceeded",
            RequestError::FloatOutOfRange { .. } | RequestError::CountOutOfRange { .. } => "value_out_of_range",
        };
        Self::field(code, error.param(), overflow_in_openai_words(&error).unwrap_or_else(|| error.to_string()))
    }
}

/// Clients search the message of an overflow for OpenAI's wording.
fn overflow_in_openai_words(error: &RequestError) -> Option<String> {
    let RequestError::ContextOverflow { num_prompt_tokens, max_tokens, max_model_len } = error else { return None };
    let requested = num_prompt_tokens.saturating_add(max_tokens.unwrap_or(1));
    Some(format!(
        "This model's maximum context length is {max_model_len} tokens. However, you requested {requested} tokens \
         ({num_prompt_tokens} in the prompt, {} in the completion). Please reduce the length of the prompt or the \
         completion.",
        max_tokens.unwrap_or(1)
    ))
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::QueueFull { .. } => Self::unavailable("overloaded", error.to_string()),
            SubmitError::Draining => Self::unavailable("draining", "the server is about to end and takes no more"),
            SubmitError::Stopped => Self::unavailable("engine_unavailable", "the engine has stopped"),
            SubmitError::NeverFits { .. } => Self::field("kv_capacity_exceeded", "prompt", error.to_string()),
        }
    }
}

impl From<TokenizerError> for ApiError {
    fn from(error: TokenizerError) -> Self {
        Self::field("invalid_value", "prompt", error.to_string())
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        Self::field("template_error", "messages", error.to_string())
    }
}

impl From<StopError> for ApiError {
    fn from(error: StopError) -> Self {
        Self::out_of_range("stop", error.to_string())
    }
}

/// The engine's own words go to the log only: they may name parts of the device.
impl From<GenerationError> for ApiError {
    fn from(error: GenerationError) -> Self {
        tracing::error!(%error, "a generation failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the generation failed; the log of the server says why",
        )
    }
}
