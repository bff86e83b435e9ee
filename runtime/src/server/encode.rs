//! Text to tokens without holding up other connections.

use std::sync::Arc;

use axum::http::StatusCode;

use super::error::ApiError;
use super::state::ServedModel;
use crate::request::{RequestError, TokenId};

/// Texts above this are encoded on a thread for blocking work.
const LONG_BYTES: usize = 16 << 10;
/// Normalisation may shrink a text; below this factor a text that seems too long is encoded to be sure.
const SHRINKING: usize = 4;

/// The tokens of `text`. A text that cannot fit the context is refused unread, so that its length costs nothing.
pub(super) async fn encode(
    model: &ServedModel,
    text: String,
    add_special_tokens: bool,
) -> Result<Vec<TokenId>, ApiError> {
    let least_tokens = text.len() / model.tokenizer.longest_token_bytes() / SHRINKING;
    if least_tokens > model.max_model_len() {
        let max_model_len = model.max_model_len();
        let error = RequestError::ContextOverflow { num_prompt_tokens: least_tokens, max_tokens: None, max_model_len };
        return Err(error.into());
    }
    let tokenizer = Arc::clone(&model.tokenizer);
    let is_long = text.len() > LONG_BYTES;
    Ok(apart(is_long, move || tokenizer.encode(&text, add_special_tokens)).await??)
}

/// Runs `work`, on a thread of its own if it may take long.
pub(super) async fn apart<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !is_long {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "reading a prompt failed");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the prompt could not be read")
    })
}
