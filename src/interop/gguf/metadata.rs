//! Metadata by key.

use std::collections::HashSet;
use std::path::PathBuf;

use super::FORMAT;
use super::cursor::Cursor;
use super::value::{ARRAY, GgufValue, Numbers, TEXT, size_of};
use crate::interop::InteropError;

/// Arrays of arrays of arrays are as deep as it goes; llama.cpp reads none of arrays.
const MOST_DEPTH: usize = 3;
/// The length of a key, the type of a value, and one byte of it.
const LEAST_ENTRY: u64 = 8 + 4 + 1;
/// The type and the length of an inner array.
const LEAST_ARRAY: u64 = 4 + 8;

/// What a file says of its model.
#[derive(Debug)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, GgufValue)>,
}

/// A `find_` and a `get_` function for each type.
macro_rules! getters {
    ($(#[doc = $doc:literal] $find:ident $get:ident -> $type:ty: $wanted:literal, $convert:expr;)*) => {
        $(
            #[doc = $doc]
            ///
            /// # Errors
            /// When the value is of another type.
            pub fn $find(&self, key: &str) -> Result<Option<$type>, InteropError> {
                let Some(value) = self.find(key) else {
                    return Ok(None);
                };
                let convert: fn(&GgufValue) -> Option<$type> = $convert;
                convert(value).map(Some).ok_or_else(|| self.mistyped(key, value, $wanted))
            }

            #[doc = $doc]
            ///
            /// # Errors
            /// When there is none, or the value is of another type.
            pub fn $get(&self, key: &str) -> Result<$type, InteropError> {
                self.$find(key)?.ok_or_else(|| self.missing(key, $wanted))
            }
        )*
    };
}

impl Metadata {
    /// All of them, in the order of the file.
    pub fn entries(&self) -> &[(String, GgufValue)] {
        &self.entries
    }

    /// The value of `key`.
    pub fn find(&self, key: &str) -> Option<&GgufValue> {
        let entry = self.entries.iter().find(|(own, _)| own == key);
        entry.map(|(_, value)| value)
    }

    getters! {
        /// A whole number of any type that is not negative.
        find_u64 get_u64 -> u64: "a whole number from 0 on", |value| {
            u64::try_from(value.as_integer()?).ok()
        };
        /// A number of any type. An f32 is the shortest decimal number that rounds to it, so that 1e-5 stays 1e-5.
        find_f64 get_f64 -> f64: "a number", GgufValue::as_float;
        /// A bool.
        find_bool get_bool -> bool: "a bool", |value| match value {
            GgufValue::Bool(value) => Some(*value),
            _ => None,
        };
        /// A text.
        find_str get_str -> &str: "a text", |value| match value {
            GgufValue::Text(text) => Some(text),
            _ => None,
        };
        /// An array of texts.
        find_texts get_texts -> &[String]: "an array of texts", |value| match value {
            GgufValue::Texts(texts) => Some(texts),
            _ => None,
        };
        /// An array of whole numbers of any type.
        find_integers get_integers -> Vec<i64>: "an array of whole numbers", |value| match value {
            GgufValue::Numbers(numbers) => numbers
                .iter()
                .map(|number| i64::try_from(number.as_integer()?).ok())
                .collect(),
            _ => None,
        };
        /// An array of numbers of any type.
        find_numbers get_numbers -> Vec<f64>: "an array of numbers", |value| match value {
            GgufValue::Numbers(numbers) => numbers.iter().map(|number| number.as_float()).collect(),
            _ => None,
        };
    }

    fn mistyped(&self, key: &str, value: &GgufValue, wanted: &str) -> InteropError {
        let found = value.describe();
        self.damaged(format!("'{key}' is {found}, and should be {wanted}"))
    }

    fn missing(&self, key: &str, wanted: &str) -> InteropError {
        self.damaged(format!("it has no '{key}', which should be {wanted}"))
    }

    fn damaged(&self, problem: String) -> InteropError {
        InteropError::Damaged {
            path: self.path.clone(),
            format: FORMAT,
            problem,
        }
    }
}

/// Reads `count` entries.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata, InteropError> {
    let count = cursor.fitting(count, LEAST_ENTRY, format_args!("the metadata"))?;
    let mut entries = Vec::with_capacity(count);
    let mut keys = HashSet::new();
    for number in 0..count {
        let key = cursor.text(format_args!("the key of entry {number}"))?;
        if !keys.insert(key.clone()) {
            return Err(cursor.damaged(format!("it has the key '{key}' twice")));
        }
        let kind = cursor.u32(format_args!("the type of '{key}'"))?;
        let value = read_value(cursor, kind, &key)?;
        entries.push((key, value));
    }
    Ok(Metadata {
        path: cursor.path().to_owned(),
        entries,
    })
}

fn read_value(cursor: &mut Cursor<'_>, kind: u32, key: &str) -> Result<GgufValue, InteropError> {
    match kind {
        TEXT => cursor
            .text(format_args!("the text of '{key}'"))
            .map(GgufValue::Text),
        ARRAY => read_array(cursor, key, 1),
        _ => {
            let size = size_of(kind).ok_or_else(|| unknown_kind(cursor, kind, key))?;
            let bytes = cursor.take(size as u64, format_args!("the value of '{key}'"))?;
            GgufValue::of_bytes(kind, bytes).ok_or_else(|| no_bool(cursor, key))
        }
    }
}

/// Reads an array that is within `depth - 1` others.
fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<GgufValue, InteropError> {
    let what = format_args!("the array of '{key}'");
    let kind = cursor.u32(what)?;
    let count = cursor.u64(what)?;
    match kind {
        TEXT => {
            let count = cursor.fitting(count, 8, what)?;
            let mut texts = Vec::with_capacity(count);
            for number in 0..count {
                texts.push(cursor.text(format_args!("text {number} of '{key}'"))?);
            }
            Ok(GgufValue::Texts(texts))
        }
        ARRAY if depth == MOST_DEPTH => Err(cursor.unsupported(format!(
            "'{key}', which is an array of arrays deeper than {MOST_DEPTH},"
        ))),
        ARRAY => {
            let count = cursor.fitting(count, LEAST_ARRAY, what)?;
            let arrays = (0..count).map(|_| read_array(cursor, key, depth + 1));
            arrays.collect::<Result<_, _>>().map(GgufValue::Arrays)
        }
        _ => {
            let size = size_of(kind).ok_or_else(|| unknown_kind(cursor, kind, key))?;
            let count = cursor.fitting(count, size as u64, what)?;
            let bytes = cursor.take((count * size) as u64, what)?.to_vec();
            let numbers = Numbers { kind, bytes };
            // Of bools only 0 and 1 are any.
            if numbers.iter().count() != count {
                return Err(no_bool(cursor, key));
            }
            Ok(GgufValue::Numbers(numbers))
        }
    }
}

fn unknown_kind(cursor: &Cursor<'_>, kind: u32, key: &str) -> InteropError {
    cursor.damaged(format!("'{key}' has type {kind}, which is none of GGUF's"))
}

fn no_bool(cursor: &Cursor<'_>, key: &str) -> InteropError {
    cursor.damaged(format!("'{key}' has a bool that is neither 0 nor 1"))
}
