//! Trains and samples Transformer language models on any GPU, with every computation in
//! hand-written WGSL shaders.
//!
//! text -> tokenizer -> tokens.npy -> batches -> forward -> loss -> backward -> clip -> AdamW ->
//! checkpoint -> decode -> text. `ARCHITECTURE.md` has the map.
//!
//! The program is this library with a command line: [`train::run::Run`] prepares, starts and resumes a
//! run, [`decode::Scorer`], [`decode::TextScorer`] and [`decode::Generator`] use what it leaves, and [`kernels`] push single ops
//! to a [`gpu::Plan`]. `examples/train_tiny.rs`, `examples/score_and_sample.rs` and
//! `examples/kernel_against_reference.rs` do these three.

pub mod bench;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod convert;
pub mod data;
pub mod decode;
pub mod error;
pub mod files;
pub mod gpu;
pub mod interop;
pub mod kernels;
pub mod model;
pub mod parallel;
pub mod random;
pub mod reference;
#[cfg(feature = "serve")]
pub mod serve;
pub mod shaders;
pub mod train;
pub mod tuner;
pub mod weights;
pub mod wgsl;

pub use error::Error;
