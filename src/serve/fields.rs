//! The fields of a completions request: what is supported is checked, and all else is refused by its name.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::model::ServedModel;
use super::prompt::{self, Prompt};
use crate::decode::{DecodeError, MAX_LOGPROBS, check_sampling};
use crate::kernels::sample::Sampling;

/// Most samples of a prompt.
const MAX_N: usize = 128;
/// Most sequences of a request: its prompts times its samples.
const MAX_SEQUENCES: usize = 1024;
/// Most stop strings. OpenAI's API takes 4, but tasks of lm_eval have more, and it adds the end-of-text token.
const MAX_STOPS: usize = 32;
/// New tokens where the request does not say.
const DEFAULT_MAX_TOKENS: usize = 16;

/// A checked request.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) prompts: Vec<Prompt>,
    /// Samples of each prompt.
    pub(super) n: usize,
    pub(super) max_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) seed: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) logprobs: Option<usize>,
    pub(super) echo: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

/// Reads a body.
///
/// # Errors
/// When it is no JSON object, or a field is wrong, unsupported or unknown.
pub(super) fn parse(body: &[u8], model: &ServedModel) -> Result<Completion, ApiError> {
    let mut fields = Fields::read(body)?;
    model.expect(fields.text("model")?.as_deref())?;
    let prompts = prompt::parse(fields.take("prompt"), model)?;
    let n = fields.count("n", 1..=MAX_N)?.unwrap_or(1);
    if prompts.len() * n > MAX_SEQUENCES {
        let message =
            format!("prompts times n must be at most {MAX_SEQUENCES}; send several requests");
        return Err(ApiError::field("n", message));
    }
    let max_tokens = fields.count("max_tokens", 0..=usize::MAX)?;
    check_lengths(&prompts, max_tokens, model.context_length)?;
    let sampling = fields.sampling()?;
    let stream = fields.flag("stream")?;
    let completion = Completion {
        prompts,
        n,
        max_tokens: max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
        sampling,
        seed: fields.seed()?,
        stop: fields.stop()?,
        logprobs: fields.count("logprobs", 0..=MAX_LOGPROBS)?,
        echo: fields.flag("echo")?,
        stream,
        include_usage: fields.include_usage(stream)?,
    };
    fields.refuse_the_rest(n)?;
    Ok(completion)
}

fn bad_request() -> axum::http::StatusCode {
    axum::http::StatusCode::BAD_REQUEST
}

fn check_lengths(
    prompts: &[Prompt],
    max_tokens: Option<usize>,
    context_length: usize,
) -> Result<(), ApiError> {
    let longest = prompts.iter().map(|prompt| prompt.tokens.len()).max();
    let longest = longest.unwrap_or(0);
    let new = max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
    if longest.saturating_add(new) <= context_length {
        return Ok(());
    }
    let by_default = max_tokens.map_or(" by default", |_| "");
    let (param, cure) = if longest > context_length {
        ("prompt", "shorten the prompt")
    } else {
        ("max_tokens", "lower max_tokens or shorten the prompt")
    };
    let message = format!(
        "the model's context has {context_length} tokens, but the prompt has {longest} and max_tokens is \
         {new}{by_default}; {cure}"
    );
    Err(ApiError::field(param, message).with_code("context_length_exceeded"))
}

/// What of a request has not been looked at; null is as good as absent.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::new(bad_request(), format!("the body is no JSON: {error}"))
        })?;
        match value {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(ApiError::new(bad_request(), "the body is no JSON object")),
        }
    }

    /// Those that were not taken.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::field(name, format!("{name} must be a text"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(ApiError::field(
                name,
                format!("{name} must be true or false"),
            )),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64();
        number
            .map(Some)
            .ok_or_else(|| ApiError::field(name, format!("{name} must be a number, not {value}")))
    }

    pub(super) fn count(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        if let Some(count) = count.filter(|count| range.contains(count)) {
            return Ok(Some(count));
        }
        let (least, most) = (range.start(), range.end());
        let rule = match *most {
            usize::MAX => format!("a whole number of at least {least}"),
            _ => format!("a whole number from {least} to {most}"),
        };
        Err(ApiError::field(
            name,
            format!("{name} must be {rule}, not {value}"),
        ))
    }

    fn sampling(&mut self) -> Result<Sampling, ApiError> {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the sampler takes f32; what becomes infinite is refused below"
        )]
        let mut number =
            |name| -> Result<Option<f32>, ApiError> { Ok(self.number(name)?.map(|x| x as f32)) };
        let defaults = Sampling::default();
        let mut sampling = Sampling {
            temperature: number("temperature")?.unwrap_or(defaults.temperature),
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            repetition_penalty: number("repetition_penalty")?
                .unwrap_or(defaults.repetition_penalty),
            top_k: None,
        };
        // Other servers take -1 or 0 for all tokens.
        if let Some(k) = self.take("top_k") {
            sampling.top_k = match (k.as_i64(), k.as_u64()) {
                (Some(-1 | 0), _) => None,
                (_, Some(k)) => Some(usize::try_from(k).unwrap_or(usize::MAX)),
                _ => {
                    let message =
                        format!("top_k must be a whole number; -1 and 0 take all, not {k}");
                    return Err(ApiError::field("top_k", message));
                }
            };
        }
        match check_sampling(&sampling) {
            Err(DecodeError::OutOfRange { name, value, rule }) => {
                let name = name.replace('-', "_");
                let message = format!("{name} is {value}, but it must be {rule}");
                Err(ApiError::field(&name, message))
            }
            Err(error) => Err(ApiError::new(bad_request(), error.to_string())),
            Ok(()) => Ok(sampling),
        }
    }

    /// Negative seeds are as good as others.
    fn seed(&mut self) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take("seed") else {
            return Ok(None);
        };
        let seed = value
            .as_u64()
            .or_else(|| value.as_i64().map(i64::cast_unsigned));
        let message = || format!("seed must be a whole number of 64 bits, not {value}");
        seed.map(Some)
            .ok_or_else(|| ApiError::field("seed", message()))
    }

    fn stop(&mut self) -> Result<Vec<String>, ApiError> {
        let wrong = || ApiError::field("stop", format!("stop must be a text or up to {MAX_STOPS}"));
        let stops = match self.take("stop") {
            None => Vec::new(),
            Some(Value::String(stop)) => vec![stop],
            Some(Value::Array(stops)) if stops.len() <= MAX_STOPS => stops
                .into_iter()
                .map(|stop| match stop {
                    Value::String(stop) => Ok(stop),
                    _ => Err(wrong()),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(wrong()),
        };
        if stops.iter().any(String::is_empty) {
            return Err(ApiError::field("stop", "a stop string must not be empty"));
        }
        Ok(stops)
    }

    fn include_usage(&mut self, stream: bool) -> Result<bool, ApiError> {
        const NAME: &str = "stream_options";
        let Some(options) = self.take(NAME) else {
            return Ok(false);
        };
        if !stream {
            return Err(ApiError::field(NAME, "stream_options needs stream"));
        }
        let Value::Object(mut options) = options else {
            return Err(ApiError::field(NAME, "stream_options must be an object"));
        };
        let include = options.remove("include_usage").unwrap_or(Value::Null);
        match (include, options.keys().next()) {
            (_, Some(key)) => Err(ApiError::field(
                NAME,
                format!("stream_options has no '{key}' here"),
            )),
            (Value::Bool(include), None) => Ok(include),
            (Value::Null, None) => Ok(false),
            _ => Err(ApiError::field(NAME, "include_usage must be true or false")),
        }
    }

    /// What would change the result is refused, but for values that change nothing.
    fn refuse_the_rest(self, n: usize) -> Result<(), ApiError> {
        for (name, value) in self.0 {
            let changes_nothing = match name.as_str() {
                // A name for the caller's own records.
                "user" => true,
                "suffix" => value == "",
                "best_of" => value.as_u64() == Some(n as u64),
                "logit_bias" => value.as_object().is_some_and(Map::is_empty),
                "presence_penalty" | "frequency_penalty" => value.as_f64() == Some(0.0),
                _ => return Err(ApiError::unknown_field(&name)),
            };
            if !changes_nothing && !value.is_null() {
                let message = format!("{name} is not supported; leave it out");
                return Err(ApiError::field(&name, message).with_code("unsupported_field"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::serve::model::tests::small;

    fn parsed(body: &Value) -> Result<Completion, ApiError> {
        parse(body.to_string().as_bytes(), &small())
    }

    #[test]
    fn a_field_that_is_wrong_or_unsupported_is_named() {
        for (body, name) in [
            (json!({ "max_tokens": -1 }), "max_tokens"),
            (json!({ "max_tokens": 1.5 }), "max_tokens"),
            (json!({ "max_tokens": "7" }), "max_tokens"),
            (json!({ "max_tokens": 16 }), "max_tokens"),
            (json!({ "max_tokens": u64::MAX }), "max_tokens"),
            (
                json!({ "prompt": "x".repeat(17), "max_tokens": 0 }),
                "prompt",
            ),
            (json!({ "prompt": 7 }), "prompt"),
            (json!({ "prompt": [] }), "prompt"),
            (json!({ "prompt": [[]] }), "prompt"),
            (json!({ "prompt": [[1, -1]] }), "prompt"),
            (json!({ "prompt": [1, 260] }), "prompt"),
            (json!({ "prompt": [1, "a"] }), "prompt"),
            (json!({ "prompt": [1.5] }), "prompt"),
            (json!({ "prompt": [4_294_967_296u64] }), "prompt"),
            (json!({ "temperature": -0.1 }), "temperature"),
            (json!({ "temperature": 1e300 }), "temperature"),
            (json!({ "temperature": "1" }), "temperature"),
            (json!({ "top_p": 0 }), "top_p"),
            (json!({ "top_p": 1.1 }), "top_p"),
            (json!({ "min_p": 2 }), "min_p"),
            (json!({ "top_k": -2 }), "top_k"),
            (json!({ "top_k": 0.5 }), "top_k"),
            (json!({ "repetition_penalty": 0 }), "repetition_penalty"),
            (json!({ "seed": 0.5 }), "seed"),
            (json!({ "stop": 1 }), "stop"),
            (json!({ "stop": "" }), "stop"),
            (json!({ "stop": vec!["a"; 33] }), "stop"),
            (json!({ "logprobs": 21 }), "logprobs"),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "echo": 1 }), "echo"),
            (json!({ "n": 0 }), "n"),
            (json!({ "n": 129 }), "n"),
            (
                json!({ "n": 128, "prompt": ["a", "a", "a", "a", "a", "a", "a", "a", "a"] }),
                "n",
            ),
            (json!({ "stream": "yes" }), "stream"),
            (json!({ "stream_options": {} }), "stream_options"),
            (
                json!({ "stream": true, "stream_options": { "other": 1 } }),
                "stream_options",
            ),
            (json!({ "suffix": "end" }), "suffix"),
            (json!({ "best_of": 2 }), "best_of"),
            (json!({ "best_of": 1, "n": 2 }), "best_of"),
            (json!({ "logit_bias": { "1": 1 } }), "logit_bias"),
            (json!({ "presence_penalty": 0.1 }), "presence_penalty"),
            (json!({ "frequency_penalty": -0.1 }), "frequency_penalty"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "model": "other" }), "model"),
        ] {
            let mut whole = json!({ "prompt": "a", "max_tokens": 1 });
            for (key, value) in body.as_object().unwrap() {
                whole[key] = value.clone();
            }
            let error = parsed(&whole).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(name), "{body}: {error:?}");
            let expected = if name == "model" { 404 } else { 400 };
            assert_eq!(error.status.as_u16(), expected, "{body}");
            assert!(error.message.contains(name), "{}", error.message);
        }
        for body in ["", "{", "[]", "\"a\"", "{\"prompt\": \"\\ud800\"}"] {
            let error = parse(body.as_bytes(), &small()).unwrap_err();
            assert_eq!(error.status.as_u16(), 400, "{body}");
        }
    }

    #[test]
    fn values_that_change_nothing_are_taken() {
        let body = json!({
            "model": "small", "prompt": "a", "max_tokens": 15, "suffix": null, "best_of": 3, "n": 3,
            "logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "user": "me", "seed": -1,
            "stop": null, "logprobs": null, "stream": false, "top_k": -1, "echo": null, "other": null,
        });
        let request = parsed(&body).unwrap_err();
        assert_eq!(request.param.as_deref(), Some("other"));
        let mut body = body;
        body.as_object_mut().unwrap().remove("other");
        let request = parsed(&body).unwrap();
        assert_eq!(request.n, 3);
        assert_eq!(request.seed, Some(u64::MAX));
        assert_eq!(request.sampling, Sampling::default());
        assert!(request.stop.is_empty() && request.logprobs.is_none() && !request.echo);
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let tokenizer = small().tokenizer;
        let [a, the] = ["a", "the"].map(|text| tokenizer.encode(text));
        for (prompt, tokens) in [
            (json!("the"), vec![the.clone()]),
            (json!(["a", "the"]), vec![a.clone(), the.clone()]),
            (json!(a), vec![a.clone()]),
            (json!([the, a]), vec![the.clone(), a.clone()]),
        ] {
            let request = parsed(&json!({ "prompt": prompt, "max_tokens": 0 })).unwrap();
            let found: Vec<_> = request.prompts.iter().map(|p| p.tokens.clone()).collect();
            assert_eq!(found, tokens, "{prompt}");
            assert!(request.prompts.iter().all(|prompt| prompt.given));
        }
        let start = small().ends[0];
        for body in [
            json!({ "max_tokens": 1 }),
            json!({ "prompt": "", "max_tokens": 1 }),
        ] {
            let request = parsed(&body).unwrap();
            assert_eq!(request.prompts[0].tokens, [start]);
            assert!(request.prompts[0].shown().is_empty());
        }
    }
}
