//! Prompts from a file of JSON lines, each with settings of its own.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{DecodeError, Job};
use crate::Error;
use crate::data::input::{InputError, Lines, MAX_DOCUMENT_BYTES};
use crate::data::tokenizer::Tokenizer;

/// Keys that a line may have.
const KEYS: [&str; 11] = [
    "id",
    "prompt",
    "prompt_tokens",
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
];

/// What to go on from, and how.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Where it stands, if in a file.
    pub place: Option<Place>,
    /// Its `id`, if it has one, which is the caller's affair.
    pub id: Option<Value>,
    /// What it asks for.
    pub job: Job,
}

impl Prompt {
    /// What a job asks for, which stands in no file.
    pub fn of(job: Job) -> Self {
        Self {
            place: None,
            id: None,
            job,
        }
    }
}

/// A line of a file.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file's name for messages.
    pub path: Arc<Path>,
    /// The line's number, from 1.
    pub line: u64,
}

impl Place {
    /// An error that names it.
    pub fn error(&self, problem: String) -> DecodeError {
        DecodeError::PromptLine {
            path: self.path.to_path_buf(),
            line: self.line,
            problem,
        }
    }
}

/// Reads a file of one JSON object a line, or standard input where `path` is `-`. An object has `prompt`,
/// a text, or `prompt_tokens`, ids; what else it has stands in for that of `defaults`, and `null` for no
/// filter.
///
/// # Errors
/// When the file cannot be read, or a line is no such object: the error names it and the key.
pub fn read_prompts(
    path: &Path,
    defaults: &Job,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<Prompt>, Error> {
    let mut lines = Lines::open(path, MAX_DOCUMENT_BYTES)?;
    let path: Arc<Path> = lines.path().into();
    let mut prompts = Vec::new();
    loop {
        let is_line = lines.advance();
        let place = Place {
            path: path.clone(),
            line: lines.number(),
        };
        match is_line {
            Ok(true) => {}
            Ok(false) => return Ok(prompts),
            Err(InputError::TooLong { limit, .. }) => {
                let longer = format!("it is longer than {limit} bytes");
                return Err(place.error(longer).into());
            }
            Err(error) => return Err(error.into()),
        }
        let (id, job) = parse(lines.line(), defaults, tokenizer).map_err(|e| place.error(e))?;
        prompts.push(Prompt {
            place: Some(place),
            id,
            job,
        });
    }
}

/// The id and job of a line, or what is wrong with it.
fn parse(
    line: &[u8],
    defaults: &Job,
    tokenizer: Option<&Tokenizer>,
) -> Result<(Option<Value>, Job), String> {
    let parsed = serde_json::from_slice(line.trim_ascii());
    let Entries(entries) =
        parsed.map_err(|error| format!("it is no JSON object: {}", plain(&error)))?;
    let mut job = defaults.clone();
    let (mut id, mut prompt) = (None, None);
    for (index, (key, value)) in entries.iter().enumerate() {
        if entries[..index].iter().any(|(earlier, _)| earlier == key) {
            return Err(format!("key '{key}' is there twice"));
        }
        let request = &mut job.request;
        let sampling = &mut request.sampling;
        match key.as_str() {
            "id" => id = Some(value.clone()),
            "prompt" | "prompt_tokens" if prompt.is_some() => {
                return Err("it has both 'prompt' and 'prompt_tokens'; one is enough".to_owned());
            }
            "prompt" => {
                let text: String = typed(key, value, "a text")?;
                let tokenizer = tokenizer.ok_or_else(|| DecodeError::NoTokenizer.to_string())?;
                prompt = Some(tokenizer.encode_prompt(&text));
            }
            "prompt_tokens" => prompt = Some(typed(key, value, "a list of token ids")?),
            "max_new_tokens" => request.max_new_tokens = typed(key, value, "a count")?,
            "temperature" => sampling.temperature = typed(key, value, "a number")?,
            "top_k" => sampling.top_k = typed(key, value, "a count or null")?,
            "top_p" => sampling.top_p = typed(key, value, "a number or null")?,
            "min_p" => sampling.min_p = typed(key, value, "a number or null")?,
            "repetition_penalty" => sampling.repetition_penalty = typed(key, value, "a number")?,
            "seed" => request.seed = typed(key, value, "a whole number from 0")?,
            "stop" => {
                job.stops = match value {
                    Value::String(text) => vec![text.clone()],
                    list => typed(key, list, "a text or a list of texts")?,
                }
            }
            _ => return Err(unknown(key)),
        }
    }
    job.request.prompt = prompt.ok_or("it has neither 'prompt' nor 'prompt_tokens'")?;
    Ok((id, job))
}

fn typed<T: DeserializeOwned>(key: &str, value: &Value, wanted: &str) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|_| {
        let found: String = value.to_string().chars().take(40).collect();
        format!("'{key}' must be {wanted}, and is {found}")
    })
}

fn unknown(key: &str) -> String {
    let similarity = |known: &&str| strsim::jaro_winkler(known, key);
    let nearest = KEYS
        .into_iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|known| similarity(known) > 0.8);
    match nearest {
        Some(known) => format!("unknown key '{key}'; did you mean '{known}'?"),
        None => format!("unknown key '{key}'; a line may have {}", KEYS.join(", ")),
    }
}

/// An error of JSON without the line, which is always the first of one.
fn plain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.replace(" at line 1 column 0", "");
    message.replace(" at line 1 column", " at column")
}

/// Keys and values in order, so that a key that is there twice is found.
struct Entries(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens_of(line: &str) -> Result<(Option<Value>, Job), String> {
        let mut defaults = Job::default();
        defaults.request.sampling.top_k = Some(7);
        defaults.request.seed = 3;
        defaults.stops = vec!["end".to_owned()];
        parse(line.as_bytes(), &defaults, None)
    }

    #[test]
    fn a_line_keeps_what_it_does_not_name() {
        let (id, job) =
            tokens_of(r#"{"prompt_tokens": [1, 2], "seed": 9, "id": {"a": [null]}}"#).unwrap();
        assert_eq!(id, Some(serde_json::json!({"a": [null]})));
        assert_eq!((job.request.prompt, job.request.seed), (vec![1, 2], 9));
        assert_eq!(job.request.sampling.top_k, Some(7));
        assert_eq!(job.stops, ["end"]);
        let all = r#"{"prompt_tokens": [1], "max_new_tokens": 0, "temperature": 0, "top_k": null,
            "top_p": 0.5, "min_p": 0.25, "repetition_penalty": 2, "stop": ["a", "b"]}"#;
        let (id, job) = tokens_of(all).unwrap();
        let sampling = job.request.sampling;
        assert_eq!((id, job.request.max_new_tokens), (None, 0));
        assert_eq!((sampling.temperature, sampling.top_k), (0.0, None));
        assert_eq!((sampling.top_p, sampling.min_p), (Some(0.5), Some(0.25)));
        assert_eq!(sampling.repetition_penalty, 2.0);
        assert_eq!(job.stops, ["a", "b"]);
        let one = tokens_of(r#"{"prompt_tokens": [1], "stop": "x"}"#).unwrap();
        assert_eq!(one.1.stops, ["x"]);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_key() {
        for (line, wanted) in [
            (
                "[1]",
                "no JSON object: invalid type: sequence, expected an object",
            ),
            (
                "{\"prompt_tokens\": [1]",
                "EOF while parsing an object at column 21",
            ),
            ("{\"prompt_tokens\": [1]} {}", "trailing characters"),
            ("{}", "neither 'prompt' nor 'prompt_tokens'"),
            (
                "{\"promt\": \"a\"}",
                "unknown key 'promt'; did you mean 'prompt'?",
            ),
            (
                "{\"x\": 1}",
                "unknown key 'x'; a line may have id, prompt, ",
            ),
            (
                "{\"prompt_tokens\": [1], \"prompt\": \"a\"}",
                "both 'prompt' and",
            ),
            ("{\"seed\": 1, \"seed\": 1}", "'seed' is there twice"),
            ("{\"prompt\": \"a\"}", "needs a tokenizer"),
            ("{\"prompt\": 1}", "'prompt' must be a text, and is 1"),
            (
                "{\"prompt_tokens\": [-1]}",
                "'prompt_tokens' must be a list of token ids, and is [-1]",
            ),
            (
                "{\"max_new_tokens\": 1.5}",
                "'max_new_tokens' must be a count, and is 1.5",
            ),
            (
                "{\"temperature\": \"hot\"}",
                "'temperature' must be a number, and is \"hot\"",
            ),
            (
                "{\"seed\": null}",
                "'seed' must be a whole number from 0, and is null",
            ),
            (
                "{\"stop\": [1]}",
                "'stop' must be a text or a list of texts, and is [1]",
            ),
        ] {
            let message = tokens_of(line).unwrap_err();
            assert!(message.contains(wanted), "{line}: {message}");
        }
    }

    #[test]
    fn every_key_that_is_listed_is_known() {
        for key in KEYS {
            let message = tokens_of(&format!("{{\"{key}\": {{}}}}")).unwrap_err();
            assert!(!message.contains("unknown"), "{message}");
        }
    }
}
