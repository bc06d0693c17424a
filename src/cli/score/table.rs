//! Scores as a table: a line for each file, or for each document, and the total.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::data::documents::TokenDocument;
use crate::data::tokenizer::Tokenizer;
use crate::decode::{Logprobs, Measure};

/// Characters of a name at most, of which the last are shown.
const NAME_LEN: usize = 40;

/// Lines of what has been scored.
#[derive(Default)]
pub(super) struct Table {
    lines: Vec<Line>,
    /// The file of the last line, its number of documents and its sums.
    file: Option<(PathBuf, usize, Measure)>,
    n_files: usize,
    n_documents: usize,
}

struct Line {
    name: String,
    n_documents: usize,
    measure: Measure,
}

impl Table {
    pub(super) fn add(&mut self, document: &TokenDocument, measure: &Measure, per_document: bool) {
        if !matches!(&self.file, Some((path, ..)) if *path == document.path) {
            self.end_file();
            self.file = Some((document.path.clone(), 0, Measure::default()));
        }
        self.n_documents += 1;
        if let Some((_, n_documents, sums)) = &mut self.file {
            *n_documents += 1;
            sums.add(measure);
        }
        if per_document {
            self.lines.push(Line {
                name: format!("{} {}", shortened(&document.path), document.index),
                n_documents: 1,
                measure: *measure,
            });
        }
    }

    fn end_file(&mut self) {
        if let Some((path, n_documents, measure)) = self.file.take() {
            self.n_files += 1;
            self.lines.push(Line {
                name: shortened(&path),
                n_documents,
                measure,
            });
        }
    }

    /// The table, with a total where there is more than one file.
    pub(super) fn finish(mut self, total: &Measure) -> String {
        self.end_file();
        if self.n_files > 1 {
            self.lines.push(Line {
                name: "total".to_owned(),
                n_documents: self.n_documents,
                measure: *total,
            });
        }
        let width = |line: &Line| line.name.chars().count();
        let width = self.lines.iter().map(width).max().unwrap_or(0).max(4);
        let mut text = format!(
            "{:width$}  {:>9}  {:>11}  {:>12}  {:>15}  {:>11}  {:>9}\n",
            "file", "documents", "tokens", "bytes", "logprob", "perplexity", "bits/byte"
        );
        for line in &self.lines {
            let Measure {
                n_tokens,
                n_bytes,
                logprob,
                ..
            } = line.measure;
            let _ = writeln!(
                text,
                "{:width$}  {:>9}  {n_tokens:>11}  {n_bytes:>12}  {logprob:>15.4}  {:>11}  {:>9}",
                line.name,
                line.n_documents,
                number(line.measure.perplexity()),
                number(line.measure.bits_per_byte()),
            );
        }
        text
    }
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}

/// The end of a path, which tells more than its beginning.
fn shortened(path: &Path) -> String {
    let name = path.to_string_lossy();
    let count = name.chars().count();
    if count <= NAME_LEN {
        return name.into_owned();
    }
    let end: String = name.chars().skip(count - NAME_LEN + 3).collect();
    format!("...{end}")
}

/// A document's tokens, a line each: log-probability, id, text, and the likeliest in its place.
pub(super) fn token_lines(
    document: &TokenDocument,
    tokens: &[u32],
    logprobs: &Logprobs,
    tokenizer: &Tokenizer,
) -> String {
    let shown = |id: u32| match tokenizer.token_bytes(id) {
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        None => "?".to_owned(),
    };
    let path = document.path.display();
    let mut text = format!("--- {path}, document {}\n", document.index);
    let missing = tokens.len() - logprobs.tokens.len();
    for (i, &id) in tokens.iter().enumerate() {
        let scored = i.checked_sub(missing);
        let logprob = scored.map_or("-".to_owned(), |i| format!("{:.4}", logprobs.tokens[i]));
        let _ = write!(text, "{logprob:>10}  {id:>7}  {}", shown(id));
        let top = scored.map_or(&[][..], |i| &logprobs.top[i]);
        for (n, &(id, logprob)) in top.iter().enumerate() {
            let before = if n == 0 { "    likeliest:" } else { "," };
            let _ = write!(text, "{before} {} {logprob:.4}", shown(id));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(path: &str, index: usize) -> TokenDocument {
        TokenDocument {
            path: path.into(),
            index,
            tokens: Vec::new(),
        }
    }

    fn measure(logprob: f32) -> Measure {
        let logprobs = Logprobs {
            tokens: vec![logprob],
            top: Vec::new(),
        };
        Measure::new(&[3], &logprobs)
    }

    /// The table of so many documents of each file, with names and numbers of documents alone.
    fn names(files: &[(&str, usize)], per_document: bool) -> Vec<(String, String)> {
        let mut table = Table::default();
        let mut total = Measure::default();
        for &(path, n) in files {
            for index in 0..n {
                total.add(&measure(-1.0));
                table.add(&document(path, index), &measure(-1.0), per_document);
            }
        }
        let text = table.finish(&total);
        let rows = text.lines().skip(1).map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let numbers = words.len() - 6;
            (words[..numbers].join(" "), words[numbers].to_owned())
        });
        rows.collect()
    }

    #[test]
    fn thousands_of_documents_are_a_line_a_file_unless_each_is_asked_for() {
        let pair = |name: &str, n: usize| (name.to_owned(), n.to_string());
        assert_eq!(names(&[("a.txt", 5000)], false), [pair("a.txt", 5000)]);
        assert_eq!(
            names(&[("a.txt", 2), ("b.txt", 1)], false),
            [pair("a.txt", 2), pair("b.txt", 1), pair("total", 3)]
        );
        assert_eq!(
            names(&[("a.txt", 2)], true),
            [pair("a.txt 0", 1), pair("a.txt 1", 1), pair("a.txt", 2)]
        );
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        let path = format!("{}/ends-so.txt", "folder/".repeat(20));
        let name = shortened(Path::new(&path));
        assert_eq!(name.chars().count(), NAME_LEN);
        assert!(name.starts_with("...") && name.ends_with("/ends-so.txt"));
    }
}
