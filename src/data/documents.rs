//! Text files as documents of tokens, one after another.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::input::{Chunk, InputError, InputStats, Inputs};
use super::tokenizer::{CHUNK_LEN, Encoder, Tokenizer};

/// A document that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenDocument {
    /// The file that it is of.
    pub path: PathBuf,
    /// Its number in the file, from 0; empty ones count.
    pub index: usize,
    /// Its tokens, with the end-of-text token that ends it, if there is one.
    pub tokens: Vec<u32>,
}

/// The documents of some files, in order. A document ends at the end of its file, line or row, and after
/// each end-of-text token. One that holds nothing else is empty and left out.
pub struct TokenDocuments<'t> {
    tokenizer: &'t Tokenizer,
    encoder: Encoder<'t>,
    inputs: Inputs,
    end_of_text: Option<u32>,
    /// Whole ones that were not given out yet.
    ready: VecDeque<TokenDocument>,
    /// The file of the one that goes on, its number and its tokens so far.
    path: PathBuf,
    index: usize,
    tokens: Vec<u32>,
    /// Whether the last one ended with its token, and nothing came since.
    is_between: bool,
}

impl<'t> TokenDocuments<'t> {
    /// Reads `inputs`, with `end_of_text` as the token that ends a document, if the tokenizer has one.
    pub fn new(tokenizer: &'t Tokenizer, inputs: Inputs, end_of_text: Option<u32>) -> Self {
        Self {
            tokenizer,
            encoder: tokenizer.encoder(),
            inputs,
            end_of_text,
            ready: VecDeque::new(),
            path: PathBuf::new(),
            index: 0,
            tokens: Vec::new(),
            is_between: false,
        }
    }

    /// What has been read so far.
    pub fn stats(&self) -> InputStats {
        self.inputs.stats()
    }

    fn read(&mut self) -> Result<bool, InputError> {
        let chunk = self
            .inputs
            .next_chunk(self.tokenizer.specials(), CHUNK_LEN)?;
        let Some(chunk) = chunk else {
            return Ok(false);
        };
        let path = self.inputs.path();
        if path != self.path {
            self.path = path.to_owned();
            self.index = 0;
        }
        self.push(&chunk);
        Ok(true)
    }

    fn push(&mut self, chunk: &Chunk) {
        for (text, is_end) in chunk.documents() {
            let mut ids = Vec::with_capacity(text.len() / 3);
            self.encoder.encode(text, &mut ids);
            let end_of_text = self.end_of_text;
            for part in ids.split_inclusive(|&id| Some(id) == end_of_text) {
                self.tokens.extend_from_slice(part);
                self.is_between = part.last().copied() == end_of_text;
                if self.is_between {
                    self.end();
                }
            }
            if is_end {
                if !self.is_between {
                    self.end();
                }
                self.is_between = false;
            }
        }
    }

    fn end(&mut self) {
        let tokens = std::mem::take(&mut self.tokens);
        if tokens.iter().any(|&id| Some(id) != self.end_of_text) {
            self.ready.push_back(TokenDocument {
                path: self.path.clone(),
                index: self.index,
                tokens,
            });
        }
        self.index += 1;
    }
}

impl Iterator for TokenDocuments<'_> {
    type Item = Result<TokenDocument, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(document) = self.ready.pop_front() {
                return Some(Ok(document));
            }
            match self.read() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::InputOptions;
    use super::super::tokenizer::train::{TrainOptions, train};
    use super::*;

    /// File, number and text of each document of `files` in a folder.
    fn documents(files: &[(&str, &str)], specials: &[&str]) -> Vec<(String, usize, String)> {
        let options = TrainOptions {
            vocab_size: 270,
            special_tokens: specials.iter().map(|&s| s.to_owned()).collect(),
            ..TrainOptions::default()
        };
        let tokenizer = train(&["a cat and a cat and a hat"], &options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(name, text)| {
                let path = folder.path().join(name);
                std::fs::write(&path, text).unwrap();
                path
            })
            .collect();
        let inputs = Inputs::open(&paths, InputOptions::default()).unwrap();
        let end = specials.first().and_then(|end| tokenizer.token_id(end));
        TokenDocuments::new(&tokenizer, inputs, end)
            .map(|document| {
                let document = document.unwrap();
                let name = document.path.file_name().unwrap().to_str().unwrap();
                let text = tokenizer.decode(&document.tokens).unwrap();
                let text = String::from_utf8(text).unwrap();
                (name.to_owned(), document.index, text)
            })
            .collect()
    }

    #[test]
    fn documents_end_at_their_token_and_at_the_ends_of_files_and_lines() {
        let lines = "{\"text\": \"a<|e|>\"}\n{\"text\": \"\"}\n{\"text\": \"b<|e|>c\"}\n{\"text\": \"d\"}\n";
        let files = [
            ("plain.txt", "a cat<|e|>a hat\n<|e|><|e|>and"),
            ("empty.txt", ""),
            ("ended.txt", "<|e|>a<|e|>"),
            ("lines.jsonl", lines),
        ];
        let found = documents(&files, &["<|e|>"]);
        let found: Vec<_> = found
            .iter()
            .map(|(file, index, text)| (file.as_str(), *index, text.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("plain.txt", 0, "a cat<|e|>"),
                ("plain.txt", 1, "a hat\n<|e|>"),
                ("plain.txt", 3, "and"),
                ("ended.txt", 1, "a<|e|>"),
                ("lines.jsonl", 0, "a<|e|>"),
                ("lines.jsonl", 2, "b<|e|>"),
                ("lines.jsonl", 3, "c"),
                ("lines.jsonl", 4, "d"),
            ]
        );
    }

    #[test]
    fn without_an_end_of_text_token_a_file_is_one_document() {
        let text = "a cat <|e|> ".repeat(100_000);
        let found = documents(&[("a.txt", &text), ("b.txt", "b")], &[]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].1, found[0].2 == text), (0, true));
        assert_eq!(found[1], ("b.txt".to_owned(), 0, "b".to_owned()));
    }
}
