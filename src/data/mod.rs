//! From text to batches: tokenizer, token files, windows, and the built-in corpus.

pub mod batches;
pub mod chat;
pub mod corpus;
pub mod dataset;
pub mod documents;
pub mod encode_files;
pub mod examples;
pub mod input;
pub mod npy;
pub mod positional;
pub mod stream;
pub mod token_stats;
pub mod tokenizer;
