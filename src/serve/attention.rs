//! `POST /api/attention`: what the tokens of a text look at, by one head, for the page's picture.

use axum::extract::{Request, State};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::token_text;
use super::completions::{read, refusal};
use super::error::{ApiError, JsonBody};
use super::fields::Fields;
use super::model::ServedModel;
use super::prompt;
use super::queue::Look;
use super::routes::App;
use crate::decode::{DecodeError, HeadAt};

/// Most tokens of an answer, which has half of their square in weights. None of them looks at a later one,
/// so that the first of a longer text have the weights that they have in the whole.
const MAX_TOKENS: usize = 512;
/// Weights are given in steps of one of so many parts.
const PARTS: f64 = 1e4;

/// A checked request.
#[derive(Debug, PartialEq)]
struct Asked {
    tokens: Vec<u32>,
    /// Tokens of the text, of which those are the first.
    length: usize,
    at: HeadAt,
}

/// Answers with the weights of a head.
pub(super) async fn attention(
    State(app): State<App>,
    request: Request,
) -> Result<JsonBody, ApiError> {
    let body = read(request).await?;
    let Asked { tokens, length, at } = parse(&body, &app.model)?;
    drop(body);
    let (answer, answered) = oneshot::channel();
    let look = Look {
        tokens: tokens.clone(),
        at,
        answer,
    };
    app.queue.look(look).map_err(|why| refusal(why, &app))?;
    let stopped = |_| ApiError::internal("the server has stopped generating");
    let weights = answered.await.map_err(stopped)?;
    let weights = weights.map_err(ApiError::internal)?;
    Ok(JsonBody(json!({
        "tokens": names(&tokens, &app.model),
        "length": length,
        "layer": at.layer,
        "head": at.head,
        "weights": rows(&weights, tokens.len())?,
    })))
}

/// Reads a body.
fn parse(body: &[u8], model: &ServedModel) -> Result<Asked, ApiError> {
    let mut fields = Fields::read(body)?;
    model.expect(fields.text("model")?.as_deref())?;
    let mut tokens = match fields.text("prompt")? {
        None => Vec::new(),
        Some(text) => prompt::of_text(&text, model)?.tokens,
    };
    let ids = fields.take("tokens");
    let last = if ids.is_some() { "tokens" } else { "prompt" };
    match ids {
        Some(Value::Array(ids)) => tokens.extend(prompt::of_ids("tokens", &ids, model)?.tokens),
        Some(_) => return Err(ApiError::field("tokens", "tokens must be a list of ids")),
        None if tokens.is_empty() => {
            let message = "a prompt or tokens are needed, to look at";
            return Err(ApiError::field("prompt", message));
        }
        None => {}
    }
    let length = tokens.len();
    if length > model.context_length {
        let error = DecodeError::TooLong {
            tokens: length,
            context_length: model.context_length,
        };
        let error = ApiError::field(last, error.to_string());
        return Err(error.with_code("context_length_exceeded"));
    }
    tokens.truncate(MAX_TOKENS);
    let at = HeadAt {
        layer: fields
            .count("layer", 0..=model.num_layers - 1)?
            .unwrap_or(0),
        head: fields.count("head", 0..=model.num_heads - 1)?.unwrap_or(0),
    };
    match fields.rest().next() {
        Some((name, _)) => Err(ApiError::unknown_field(&name)),
        None => Ok(Asked { tokens, length, at }),
    }
}

fn names(tokens: &[u32], model: &ServedModel) -> Vec<String> {
    let bytes = tokens.iter().map(|&id| model.tokenizer.token_bytes(id));
    bytes.map(|b| token_text(b.unwrap_or_default())).collect()
}

/// Row after row up to the diagonal, of weights `[n, n]`.
fn rows(weights: &[f32], n: usize) -> Result<Vec<Vec<f64>>, ApiError> {
    if weights.iter().any(|weight| !weight.is_finite()) {
        let message = "weights of attention are no numbers; the model's own are NaN or too large";
        return Err(ApiError::internal(message));
    }
    let round = |&weight: &f32| (f64::from(weight) * PARTS).round() / PARTS;
    let rows = weights.chunks(n).enumerate();
    Ok(rows
        .map(|(i, row)| row[..=i].iter().map(round).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::model::tests::small;

    fn parsed(body: &Value, model: &ServedModel) -> Result<Asked, ApiError> {
        parse(body.to_string().as_bytes(), model)
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (body, name) in [
            (json!({}), "prompt"),
            (json!({ "prompt": 7 }), "prompt"),
            (json!({ "prompt": "x".repeat(17) }), "prompt"),
            (json!({ "tokens": [] }), "tokens"),
            (json!({ "tokens": "a" }), "tokens"),
            (json!({ "tokens": [1.5] }), "tokens"),
            (json!({ "tokens": [1, 260] }), "tokens"),
            (json!({ "tokens": vec![1; 17] }), "tokens"),
            (json!({ "prompt": "a", "tokens": vec![1; 16] }), "tokens"),
            (json!({ "prompt": "a", "layer": 2 }), "layer"),
            (json!({ "prompt": "a", "head": 4 }), "head"),
            (json!({ "prompt": "a", "head": -1 }), "head"),
            (json!({ "prompt": "a", "model": "other" }), "model"),
            (json!({ "prompt": "a", "echo": true }), "echo"),
        ] {
            let error = parsed(&body, &small()).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name), "{body}: {error:?}");
        }
    }

    #[test]
    fn tokens_follow_the_prompt_or_stand_alone() {
        let model = small();
        let a = model.tokenizer.encode("a");
        let end = model.ends[0];
        for (body, tokens) in [
            (json!({ "prompt": "a" }), a.clone()),
            (json!({ "tokens": [5, 6] }), vec![5, 6]),
            (json!({ "prompt": "a", "tokens": [5] }), vec![a[0], 5]),
            (json!({ "prompt": "", "tokens": [5] }), vec![end, 5]),
        ] {
            let asked = parsed(&body, &model).unwrap();
            assert_eq!((asked.length, asked.tokens), (tokens.len(), tokens));
        }
        let body = json!({ "prompt": "a", "layer": 1, "head": 3 });
        let at = HeadAt { layer: 1, head: 3 };
        assert_eq!(parsed(&body, &model).unwrap().at, at);
    }

    #[test]
    fn a_long_text_is_cut_to_its_first_tokens() {
        let mut model = small();
        model.context_length = 600;
        let ids: Vec<u32> = (0..600).map(|i| i % 250).collect();
        for (n, kept) in [(511, 511), (512, 512), (513, 512), (600, 512)] {
            let asked = parsed(&json!({ "tokens": &ids[..n] }), &model).unwrap();
            assert_eq!((asked.length, &asked.tokens[..]), (n, &ids[..kept]));
        }
    }

    #[test]
    fn rows_are_rounded_and_end_at_the_diagonal() {
        let weights = [1.0, 0.0, 0.123_456, 0.876_544];
        assert_eq!(
            rows(&weights, 2).unwrap(),
            [vec![1.0], vec![0.1235, 0.8765]]
        );
        assert!(rows(&[f32::NAN], 1).is_err());
    }
}
