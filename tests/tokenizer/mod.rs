//! Byte-level BPE: round trips, and the same ids on one thread and on many.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use gpu_tlm::data::tokenizer::train::{TrainOptions, train};
use gpu_tlm::data::tokenizer::{Tokenizer, TokenizerError};
use proptest::prelude::*;

mod command;
mod files;
mod training;

const END_OF_TEXT: &str = "<|endoftext|>";

fn options(vocab_size: usize, special_tokens: &[&str]) -> TrainOptions {
    let special_tokens = special_tokens
        .iter()
        .map(|&token| token.to_owned())
        .collect();
    TrainOptions {
        vocab_size,
        special_tokens,
        ..TrainOptions::default()
    }
}

fn learn(text: &str, vocab_size: usize) -> Tokenizer {
    train(&[text], &options(vocab_size, &[END_OF_TEXT])).unwrap()
}

#[test]
fn decoding_gives_back_every_text() {
    let tokenizer = learn(
        "the cat sat on the mat, naïve café 日本語 don't <|endoftext|> 123",
        300,
    );
    proptest!(|(text in "(\\PC|[ \n\t'st]|the|<\\|endoftext\\|>){0,60}")| {
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
    });
    assert_eq!(tokenizer.encode(""), [0u32; 0]);
}

#[test]
fn parallel_encoding_equals_serial() {
    let story = "Once upon a time, there was a café.\n\n  It wasn't big<|endoftext|>日本語テスト ";
    let tokenizer = learn(story, 300);
    let text = story.repeat(40_000);
    let mut serial = Vec::new();
    tokenizer.encoder().encode(&text, &mut serial);
    assert!(tokenizer.encode_blocks(&text).count() > 2);
    assert!(tokenizer.encode(&text) == serial, "ids differ");
}

#[test]
fn ids_outside_the_vocabulary_are_named() {
    let error = learn("", 257).decode(&[3, 257, 9000]).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::UnknownId {
            id: 257,
            position: 1,
            vocab_size: 257
        }
    ));
}
