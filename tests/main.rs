//! The integration tests, in one binary.
#![allow(missing_docs, reason = "tests are named by what they claim")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapter_pages;
mod adapters;
mod barriers;
mod bench_rows;
mod chat;
mod command_line;
mod corpus;
mod decoding;
mod documents;
mod engine;
mod frozen;
mod interop;
mod library_run;
mod npy;
mod one_place;
mod oracle_fixtures;
mod parity;
mod reference;
mod run_files;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
mod shader_tables;
mod shaders;
mod tokenizer;
