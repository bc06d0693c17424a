//! From text to batches: tokenizer, token files, windows, and the built-in corpus.

pub mod batches;
pub mod corpus;
pub mod dataset;
pub mod mapped;
pub mod npy;
pub mod tokenizer;
