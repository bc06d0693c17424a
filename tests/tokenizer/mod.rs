//! Byte-level BPE: round trips, and the same ids on one thread and on many.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use gpu_tlm::data::tokenizer::train::{TrainOptions, train};
use gpu_tlm::data::tokenizer::{Tokenizer, TokenizerError};
use proptest::prelude::*;

mod command;
mod files;
mod formats;
mod gguf;
mod inputs;
mod models;
mod stopping;
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
fn decoding_gives_back_every_string_of_bytes() {
    let tokenizer = learn("the cat \u{3000}\u{3000} naïve 日本語 <|endoftext|>", 300);
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..6),
        "\\PC|the| |\n|<\\|endoftext\\|>".prop_map(String::into_bytes),
        Just(b"\xED\xA0\x80\xF0\x9F".to_vec()),
    ];
    let bytes = prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat());
    proptest!(|(bytes in bytes)| {
        let mut ids = Vec::new();
        tokenizer.encoder().encode_bytes(&bytes, &mut ids);
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), bytes);
    });
}

#[test]
fn long_runs_of_one_character_are_encoded_as_short_ones() {
    // Each length takes another way through the merges: by scan, by heap, and rank by rank.
    let tokenizer = learn(&"a".repeat(64), 300);
    let ids_of = |len: usize| tokenizer.encode(&"a".repeat(len));
    assert_eq!(ids_of(64).len(), 1);
    for len in [64, 128, 4_096, 1 << 17] {
        let ids = ids_of(len);
        assert_eq!(ids, vec![ids_of(64)[0]; len / 64], "{len}");
    }
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
