//! The prompts of a request: text, token ids, or a list of either.

use serde_json::Value;

use super::error::ApiError;
use super::model::ServedModel;
use crate::data::tokenizer::Tokenizer;
use crate::decode::DecodeError;

const FIELD: &str = "prompt";

/// Tokens to go on from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    pub(super) tokens: Vec<u32>,
    /// What the request said, if it did: the token that starts a text is not part of it.
    pub(super) given: bool,
}

impl Prompt {
    /// The tokens that an echo shows.
    pub(super) fn shown(&self) -> &[u32] {
        if self.given { &self.tokens } else { &[] }
    }
}

/// Reads the field `prompt`.
///
/// # Errors
/// When it has another form, or a token that the model or the tokenizer does not know.
pub(super) fn parse(field: Option<Value>, model: &ServedModel) -> Result<Vec<Prompt>, ApiError> {
    match field {
        None => Ok(vec![of_text("", model)?]),
        Some(Value::String(text)) => Ok(vec![of_text(&text, model)?]),
        Some(Value::Array(list)) if list.is_empty() => Err(wrong("an empty list")),
        Some(Value::Array(list)) if list.iter().all(Value::is_number) => {
            Ok(vec![of_ids(FIELD, &list, model)?])
        }
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| match item {
                Value::String(text) => of_text(text, model),
                Value::Array(ids) => of_ids(FIELD, ids, model),
                _ => Err(wrong("a list of other things")),
            })
            .collect(),
        Some(_) => Err(wrong("something else")),
    }
}

fn wrong(found: &str) -> ApiError {
    let message =
        format!("prompt must be a text, token ids, or a list of texts or of ids, not {found}");
    ApiError::field(FIELD, message)
}

/// The tokens of a text; of an empty one the token that starts a text.
pub(super) fn of_text(text: &str, model: &ServedModel) -> Result<Prompt, ApiError> {
    let tokens = model.tokenizer.encode_prompt(text);
    if !tokens.is_empty() {
        return checked(FIELD, tokens, model);
    }
    let message = "the prompt is empty, and the tokenizer has no end-of-text token to start from";
    let start = model
        .ends
        .first()
        .copied()
        .ok_or_else(|| ApiError::field(FIELD, message))?;
    Ok(Prompt {
        tokens: vec![start],
        given: false,
    })
}

/// The tokens of the field `name`.
pub(super) fn of_ids(name: &str, ids: &[Value], model: &ServedModel) -> Result<Prompt, ApiError> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let tokens: Option<Vec<u32>> = ids.iter().map(id).collect();
    let message = || format!("{name} has something else among its ids");
    let tokens = tokens.ok_or_else(|| ApiError::field(name, message()))?;
    checked(name, tokens, model)
}

fn checked(name: &str, tokens: Vec<u32>, model: &ServedModel) -> Result<Prompt, ApiError> {
    let refuse = |error: String| Err(ApiError::field(name, format!("{name}: {error}")));
    if tokens.is_empty() {
        return refuse(DecodeError::EmptyPrompt.to_string());
    }
    let vocab_size = model.vocab_size;
    if let Some(position) = tokens.iter().position(|&id| id as usize >= vocab_size) {
        let error = DecodeError::OutsideVocab {
            token: tokens[position],
            position,
            vocab_size,
        };
        return refuse(format!("prompt: {error}"));
    }
    match model.tokenizer.decode(&tokens) {
        Err(error) => refuse(error.to_string()),
        Ok(_) => Ok(Prompt {
            tokens,
            given: true,
        }),
    }
}

/// The text of tokens that a tokenizer is known to have; bytes that are no character become replacement
/// marks.
pub(super) fn text_of(tokens: &[u32], tokenizer: &Tokenizer) -> String {
    let bytes = tokens.iter().filter_map(|&id| tokenizer.token_bytes(id));
    String::from_utf8_lossy(&bytes.collect::<Vec<_>>().concat()).into_owned()
}
