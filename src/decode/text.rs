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
    /// A stream of new tokens that ends before the stop string that is complete first; of several that end
    /// at one place, before the longest. Empty ones are none.
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

    /// The text of the prompt that the new tokens follow, without special tokens at its beginning. A
    /// character that it breaks off is the new tokens' to end. No stop string is looked for in it.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn begin(&mut self, prompt: &[u32]) -> Result<String, TokenizerError> {
        let specials = self.tokenizer.special_ids();
        let leading = prompt.iter().take_while(|token| specials.contains(token));
        let mut bytes = self.tokenizer.decode(&prompt[leading.count()..])?;
        self.held = bytes.split_off(bytes.len() - unfinished(&bytes));
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text that is certain now that `token` has come.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn push(&mut self, token: u32) -> Result<String, TokenizerError> {
        let bytes = self.tokenizer.decode(&[token])?;
        Ok(self.push_bytes(&bytes))
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.extend(bytes);
        if let Some(start) = self.first_stop() {
            self.stopped = true;
            self.held.truncate(start);
            return self.finish();
        }
        let certain = self.held.len() - self.possible_stop().max(unfinished(&self.held));
        let rest = self.held.split_off(certain);
        let ready = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&ready).into_owned()
    }

    /// What was held back, at the end of the sequence; bytes that are no character become replacement
    /// marks.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// Where the stop string begins that is complete first, however tokens are cut: of those that end there,
    /// the longest.
    fn first_stop(&self) -> Option<usize> {
        let place = |stop: &String| {
            let start = find(&self.held, stop.as_bytes())?;
            Some((start + stop.len(), start))
        };
        let (_, start) = self.stops.iter().filter_map(place).min()?;
        Some(start)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::tokenizer::END_OF_TEXT;
    use crate::data::tokenizer::train::{TrainOptions, train};

    fn tokenizer() -> Arc<Tokenizer> {
        let options = TrainOptions {
            vocab_size: 265,
            special_tokens: vec![END_OF_TEXT.to_owned()],
            ..TrainOptions::default()
        };
        Arc::new(train(&["the cat and the mat and the hat"], &options).unwrap())
    }

    fn stream(stops: &[&str]) -> TextStream {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        TextStream::new(tokenizer(), &stops)
    }

    /// Pieces of text as the parts come, and what is left at the end.
    fn pieces<T: AsRef<[u8]>>(mut stream: TextStream, parts: &[T]) -> Vec<String> {
        let mut pieces: Vec<String> = parts
            .iter()
            .map(|part| stream.push_bytes(part.as_ref()))
            .collect();
        pieces.push(stream.finish());
        pieces
    }

    /// What a stream is to give, byte by byte: the text before the stop string that ends first.
    fn whole(bytes: &[u8], stops: &[&str]) -> String {
        for end in 0..=bytes.len() {
            let ending = stops.iter().filter(|s| !s.is_empty());
            let ending = ending.filter(|stop| bytes[..end].ends_with(stop.as_bytes()));
            if let Some(longest) = ending.map(|stop| stop.len()).max() {
                return String::from_utf8_lossy(&bytes[..end - longest]).into_owned();
            }
        }
        String::from_utf8_lossy(bytes).into_owned()
    }

    #[test]
    fn a_character_of_several_tokens_appears_whole() {
        let parts: [&[u8]; 5] = [b"a\xF0", b"\x9F", b"\x98", b"\x80b", b"\xC3"];
        assert_eq!(
            pieces(stream(&[]), &parts),
            ["a", "", "", "😀b", "", "\u{FFFD}"]
        );
    }

    #[test]
    fn bytes_that_are_no_character_are_marked_as_in_the_whole() {
        // A lone middle byte, a begun character before another, a half of a pair, and too long a form.
        let parts: [&[u8]; 5] = [b"\x80", b"\xE2\x82", b"A\xED", b"\xA0\x80", b"\xC0\xAF"];
        assert_eq!(
            pieces(stream(&[]), &parts).concat(),
            String::from_utf8_lossy(&parts.concat())
        );
    }

    #[test]
    fn what_may_become_a_stop_string_waits() {
        assert_eq!(
            pieces(
                stream(&["end."]),
                &["the e", "n", "g", "en", "d", ".x", "y"]
            ),
            ["the ", "", "eng", "", "", "", "", ""]
        );
        assert_eq!(pieces(stream(&["end."]), &["an end"]), ["an ", "end"]);
        // A beginning within a beginning.
        assert_eq!(
            pieces(stream(&["aab"]), &["a", "a", "a", "b"]),
            ["", "", "a", "", ""]
        );
        assert_eq!(
            pieces(stream(&["é"]), &[&b"x\xC3"[..], b"\xA9"]),
            ["x", "", ""]
        );
        assert_eq!(pieces(stream(&[""]), &["a"]), ["a", ""]);
    }

    #[test]
    fn of_overlapping_stop_strings_the_one_that_ends_first_counts_however_tokens_are_cut() {
        for (text, stops, wanted) in [
            ("xabcd", &["abcd", "bc"][..], "xa"),
            ("xabcd", &["bc", "abc"], "x"),
            ("xaabaac", &["aac", "aab"], "x"),
            ("ababc", &["abc", "babd"], "ab"),
        ] {
            for cut in 0..=text.len() {
                let (one, two) = text.split_at(cut);
                let mut stream = stream(stops);
                let found = stream.push_bytes(one.as_bytes()) + &stream.push_bytes(two.as_bytes());
                assert!(stream.is_stopped());
                assert_eq!(found + &stream.finish(), wanted, "{one}|{two} {stops:?}");
            }
        }
    }

    #[test]
    fn special_tokens_are_text_but_for_those_that_begin_a_prompt() {
        let tokenizer = tokenizer();
        let end = tokenizer.token_id(END_OF_TEXT).unwrap();
        let [the, byte] = [&b"the"[..], b"\xC3"].map(|wanted| {
            let mut ids = 0..265;
            ids.find(|&id| tokenizer.token_bytes(id) == Some(wanted))
                .unwrap()
        });
        let mut open = stream(&[]);
        assert_eq!(open.begin(&[end, end, the]).unwrap(), "the");
        assert_eq!(open.push(byte).unwrap(), "");
        assert_eq!(open.push(end).unwrap(), "\u{FFFD}<|endoftext|>");
        assert_eq!(open.finish(), "");
        let mut stopping = stream(&["<|endoftext|>"]);
        assert_eq!(stopping.begin(&[the, end]).unwrap(), "the<|endoftext|>");
        assert_eq!(stopping.push(the).unwrap(), "the");
        assert_eq!(stopping.push(end).unwrap(), "");
        assert!(stopping.is_stopped());
        assert_eq!(stopping.push(the).unwrap(), "");
        assert!(stopping.push(265).unwrap_err().to_string().contains("265"));
    }

    #[test]
    fn a_character_that_the_prompt_breaks_off_is_ended_by_the_new_tokens() {
        let mut stream = stream(&[]);
        let prompt = stream.tokenizer.encode("a😀");
        let (given, rest) = prompt.split_at(3);
        assert_eq!(stream.begin(given).unwrap(), "a");
        let text: String = rest.iter().map(|&id| stream.push(id).unwrap()).collect();
        assert_eq!(text, "😀");
    }

    #[test]
    fn any_cut_into_tokens_gives_the_text_of_the_whole() {
        // Few letters, so that stop strings come up and overlap.
        let piece = prop_oneof![
            6 => "[ab]{1,4}".prop_map(String::into_bytes),
            2 => "[aéß😀]".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 1..3),
            1 => Just(b"\xF0\x9F\x98".to_vec()),
        ];
        let bytes = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
        let stop = prop_oneof![6 => "[ab]{1,4}", 1 => "[aéß😀]{0,2}"];
        let stops = prop::collection::vec(stop, 0..4);
        let lens = prop::collection::vec(0..4usize, 0..40);
        proptest!(|(bytes in bytes, stops in stops, lens in lens)| {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut parts = Vec::new();
            let mut rest = &bytes[..];
            for len in lens {
                let (part, after) = rest.split_at(len.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            let text = pieces(stream(&stops), &parts).concat();
            prop_assert_eq!(text, whole(&bytes, &stops));
        });
    }
}
