//! Scores as one JSON object that is written as documents are done, so that it may be longer than memory.

use serde::Serialize;

use crate::Error;
use crate::cli::print;
use crate::data::documents::TokenDocument;
use crate::decode::{Logprobs, Measure};

/// Writes the object's beginning with the first document.
#[derive(Default)]
pub(super) struct JsonWriter {
    is_open: bool,
}

/// The likeliest tokens in place of one, where they are known.
type OfToken<'a> = Option<&'a [(u32, f32)]>;

#[derive(Serialize)]
struct Document<'a> {
    file: String,
    document: usize,
    tokens: &'a [u32],
    token_logprobs: Vec<Option<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<OfToken<'a>>>,
    #[serde(flatten)]
    sums: Sums,
}

#[derive(Serialize)]
struct Sums {
    n_tokens: usize,
    n_bytes: usize,
    logprob: f64,
    perplexity: Option<f64>,
    bits_per_byte: Option<f64>,
}

impl Sums {
    fn of(measure: &Measure) -> Self {
        Self {
            n_tokens: measure.n_tokens,
            n_bytes: measure.n_bytes,
            logprob: measure.logprob,
            perplexity: measure.perplexity(),
            bits_per_byte: measure.bits_per_byte(),
        }
    }
}

impl JsonWriter {
    pub(super) fn document(
        &mut self,
        document: &TokenDocument,
        (tokens, logprobs): (&[u32], &Logprobs),
        has_top: bool,
        measure: &Measure,
    ) -> Result<(), Error> {
        // A first token without context has none.
        let missing = tokens.len() - logprobs.tokens.len();
        let none = || std::iter::repeat_n(None, missing);
        let of_tokens = logprobs.tokens.iter().map(|&logprob| Some(logprob));
        let top = || {
            let of_tokens = logprobs.top.iter().map(|top| Some(&top[..]));
            none().chain(of_tokens).collect()
        };
        let line = to_text(&Document {
            file: document.path.to_string_lossy().into_owned(),
            document: document.index,
            tokens,
            token_logprobs: std::iter::repeat_n(None, missing)
                .chain(of_tokens)
                .collect(),
            top: has_top.then(top),
            sums: Sums::of(measure),
        });
        let before = if self.is_open {
            ",\n"
        } else {
            "{\"documents\": [\n"
        };
        self.is_open = true;
        print(&format!("{before}{line}"))
    }

    /// The rest of an object that has a document.
    pub(super) fn finish(self, total: &Measure) -> Result<(), Error> {
        let sums = to_text(&Sums::of(total));
        let members = sums.trim_start_matches('{');
        print(&format!("\n], {members}\n"))
    }
}

fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings are JSON")
}
