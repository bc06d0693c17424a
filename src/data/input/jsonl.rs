//! JSON lines: an object a line, whose text is the value of one key.

use std::fmt;
use std::path::PathBuf;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::documents::DocumentReader;
use super::files::SourceBytes;
use super::lines::Lines;
use super::utf8::Utf8Decoder;
use super::{InputError, InputOptions};

/// The texts of a file of JSON lines; empty lines are left out.
pub(super) struct JsonLines {
    lines: Lines,
    field: String,
    is_lossy: bool,
    replaced: u64,
}

impl JsonLines {
    pub(super) fn new(path: PathBuf, bytes: SourceBytes, options: &InputOptions) -> Self {
        Self {
            lines: Lines::new(path, bytes, options.max_document_bytes),
            field: options.field.clone(),
            is_lossy: options.is_lossy,
            replaced: 0,
        }
    }

    /// The text of the line's object.
    fn text(&mut self) -> Result<String, InputError> {
        let line = self.lines.line();
        if !self.is_lossy
            && let Err(error) = std::str::from_utf8(line)
        {
            return Err(InputError::Utf8 {
                path: self.lines.path().to_owned(),
                offset: self.lines.offset() + error.valid_up_to() as u64,
                is_packed: self.lines.is_packed(),
            });
        }
        let mut json = serde_json::Deserializer::from_slice(line.trim_ascii());
        let parsed = Object { field: &self.field }.deserialize(&mut json);
        let bytes = match parsed.and_then(|found| json.end().map(|()| found)) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let problem = format!("has no key {:?}", self.field);
                return Err(self.problem(problem, "name the key of the text"));
            }
            Err(error) => {
                let problem = format!("is no JSON object with text: {error}");
                return Err(self.problem(problem, "mend the line, or name the key of the text"));
            }
        };
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error.into_bytes(),
        };
        let mut decoder = Utf8Decoder::new(self.is_lossy);
        let mut text = String::with_capacity(bytes.len());
        if decoder.push(&bytes, true, &mut text).is_err() {
            // The line itself is UTF-8, so half of a pair of escapes like \ud83d\ude00 is missing.
            let problem = "has an escape of half a character".to_owned();
            return Err(self.problem(problem, "mend the line, or have such halves replaced"));
        }
        self.replaced += decoder.replaced();
        Ok(text)
    }

    fn problem(&self, problem: String, remedy: &'static str) -> InputError {
        InputError::Line {
            path: self.lines.path().to_owned(),
            line: self.lines.number(),
            offset: self.lines.offset(),
            problem,
            remedy,
        }
    }
}

impl DocumentReader for JsonLines {
    fn next_document(&mut self) -> Result<Option<String>, InputError> {
        if self.lines.advance()? {
            self.text().map(Some)
        } else {
            Ok(None)
        }
    }

    fn replaced(&self) -> u64 {
        self.replaced
    }
}

/// Takes the bytes of one key's string out of an object, and passes over the rest.
struct Object<'f> {
    field: &'f str,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Option<Vec<u8>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Option<Vec<u8>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = None;
        while let Some(Key(is_field)) = map.next_key_seed(KeyIs(self.field))? {
            if !is_field {
                map.next_value::<IgnoredAny>()?;
            } else if text.is_some() {
                return Err(A::Error::custom(format_args!(
                    "key {:?} is there twice",
                    self.field
                )));
            } else {
                text = Some(map.next_value_seed(StringBytes)?);
            }
        }
        Ok(text)
    }
}

/// Whether a key is the one wanted.
struct KeyIs<'f>(&'f str);
struct Key(bool);

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        struct KeyVisitor<'f>(&'f str);
        impl Visitor<'_> for KeyVisitor<'_> {
            type Value = Key;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Key, E> {
                Ok(Key(bytes == self.0.as_bytes()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key(text == self.0))
            }
        }
        deserializer.deserialize_bytes(KeyVisitor(self.0))
    }
}

/// A string as bytes, in which half of a pair of escapes survives.
struct StringBytes;

impl<'de> DeserializeSeed<'de> for StringBytes {
    type Value = Vec<u8>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for StringBytes {
    type Value = Vec<u8>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        Ok(text.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[u8], is_lossy: bool) -> Result<(Vec<String>, u64), InputError> {
        let options = InputOptions {
            is_lossy,
            ..InputOptions::default()
        };
        let mut reader = JsonLines::new("x.jsonl".into(), SourceBytes::of(lines), &options);
        let mut texts = Vec::new();
        while let Some(text) = reader.next_document()? {
            texts.push(text);
        }
        Ok((texts, reader.replaced()))
    }

    #[test]
    fn the_key_is_found_among_others_and_escapes_are_resolved() {
        let lines = br#"{"id": 1, "text": "one\ntwo \ud83d\ude00", "more": {"text": "no"}}

{"text":"", "x":[1,{"a":null}]}
  {"te\u0078t": "\u00e9"}  "#;
        let wanted = ["one\ntwo 😀", "", "é"].map(str::to_owned).to_vec();
        assert_eq!(read(lines, false).unwrap(), (wanted, 0));
    }

    #[test]
    fn lossy_reading_counts_what_it_replaces() {
        let lines = b"{\"text\": \"a\xFFb \\ud83d.\"}\n{\"text\": \"\xC3\xA9\"}\n";
        let wanted = vec![
            "a\u{FFFD}b \u{FFFD}\u{FFFD}\u{FFFD}.".to_owned(),
            "é".to_owned(),
        ];
        assert_eq!(read(lines, true).unwrap(), (wanted, 4));
    }

    #[test]
    fn errors_name_the_line_and_its_offset() {
        for (line, wanted) in [
            (
                &b"{\"text\": 3}"[..],
                "line 2, at byte 14, is no JSON object with text: invalid type: integer `3`, expected a string",
            ),
            (
                b"{\"other\": \"\"}",
                "has no key \"text\"; name the key of the text",
            ),
            (b"[1]", "expected an object"),
            (b"{\"text\": \"a", "EOF while parsing"),
            (b"{\"text\": \"a\"} x", "trailing characters"),
            (
                b"{\"text\": \"a\", \"text\": \"b\"}",
                "key \"text\" is there twice",
            ),
            (b"{\"text\": \"\\ud83d\"}", "half a character"),
            (b"{\"text\": \"\xFF\"}", "x.jsonl is not UTF-8 at byte 24"),
        ] {
            let lines = [b"{\"text\": \"a\"}\n", line].concat();
            let message = read(&lines, false).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
    }
}
