//! Tokens to text as they come: whole characters only, up to the first stop string.

use std::sync::Arc;

use crate::data::tokenizer::{Tokenizer, TokenizerError};

/// Turns the tokens of one sequence into pieces of text that can be shown at once: a character of several
/// tokens appears when its last byte is there, and what may turn out to be a stop string is held back.
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    stops: Vec<String>,
    /// Bytes that were not given out: the beginning of a character, or perhaps of a stop string.
    held: Vec<u8>,
    stopped: bool,
}

impl TextStream {
    /// A stream of new tokens that ends before the first of `stops`; empty ones are none.
    pub fn new(tokenizer: Arc<Tokenizer>, stops: &[String]) -> Self {
        Self {
            tokenizer,
            stops: stops.iter().filter(|s| !s.is_empty()).cloned().collect(),
            held: Vec::new(),
            stopped: false,
        }
    }

    /// Whether a stop string has come up: the sequence is at its end.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The text that is certain now that `token` has come.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        if self.stopped {
            return Ok(String::new());
        }
        self.held.extend(self.tokenizer.decode(&[token])?);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| find(&self.held, stop.as_bytes()));
        if let Some(end) = first.min() {
            self.stopped = true;
            self.held.truncate(end);
            return Ok(self.finish());
        }
        let certain = self.held.len() - self.possible_stop().max(unfinished(&self.held));
        let rest = self.held.split_off(certain);
        let ready = std::mem::replace(&mut self.held, rest);
        Ok(String::from_utf8_lossy(&ready).into_owned())
    }

    /// What was held back, at the end of the sequence; bytes that are no character become replacement
    /// marks.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Bytes at the end that may be the beginning of a stop string.
    fn possible_stop(&self) -> usize {
        let begun = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            let begins = |&len: &usize| self.held.ends_with(&stop.as_bytes()[..len]);
            (1..=most).rev().find(begins).unwrap_or(0)
        };
        self.stops.iter().map(begun).max().unwrap_or(0)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(last) if bytes.ends_with(last.invalid()) => {
            match std::str::from_utf8(last.invalid()) {
                Err(error) if error.error_len().is_none() => last.invalid().len(),
                _ => 0,
            }
        }
        _ => 0,
    }
}
