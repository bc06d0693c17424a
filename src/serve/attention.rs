//! What the page's picture is made of: the weights that the tokens of a text give to each other.

use axum::extract::{Request, State};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::completions::{read, refusal};
use super::error::{ApiError, JsonBody};
use super::prompt;
use super::queue::Look;
use super::routes::App;
use crate::decode::HeadAt;

/// Tokens of a picture at most: of a longer text the last ones.
const MAX_TOKENS: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    prompt: Value,
    layer: usize,
    head: usize,
}

/// Answers with the text's tokens and, for each, a row of weights of those up to it.
pub(super) async fn attention(
    State(app): State<App>,
    request: Request,
) -> Result<JsonBody, ApiError> {
    let body = read(request).await?;
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("{error}; give prompt, layer and head");
        ApiError::new(axum::http::StatusCode::BAD_REQUEST, message)
    })?;
    let mut prompts = prompt::parse(Some(asked.prompt), &app.model)?;
    let one = "one text or one list of ids";
    let tokens = match prompts.pop() {
        Some(prompt) if prompts.is_empty() => prompt.tokens,
        _ => return Err(ApiError::field("prompt", format!("prompt: give {one}"))),
    };
    let most = MAX_TOKENS.min(app.model.context_length);
    let tokens = tokens[tokens.len().saturating_sub(most)..].to_vec();
    let at = HeadAt {
        layer: asked.layer,
        head: asked.head,
    };
    let (answer, weights) = oneshot::channel();
    let look = Look {
        tokens: tokens.clone(),
        at,
        answer,
    };
    app.queue.look(look).map_err(|why| refusal(why, &app))?;
    let gone = || ApiError::internal("the device failed");
    let weights = weights.await.map_err(|_| gone())?;
    let weights =
        weights.map_err(|message| ApiError::new(axum::http::StatusCode::BAD_REQUEST, message))?;
    let names = tokens
        .iter()
        .map(|&id| prompt::text_of(&[id], &app.model.tokenizer));
    let rows = weights.chunks(tokens.len()).zip(1..);
    // What a reader of a picture can tell apart.
    let rounded = |&weight: &f32| (f64::from(weight) * 1e4).round() / 1e4;
    let rows = rows.map(|(row, seen)| row[..seen].iter().map(rounded).collect());
    Ok(JsonBody(json!({
        "layer": at.layer,
        "head": at.head,
        "tokens": names.collect::<Vec<String>>(),
        "weights": rows.collect::<Vec<Vec<f64>>>(),
    })))
}
