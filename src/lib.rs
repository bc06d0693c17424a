//! Trains and samples Transformer language models on any GPU, with every computation in
//! hand-written WGSL shaders.
//!
//! text -> tokenizer -> tokens.npy -> batches -> forward -> loss -> backward -> clip -> AdamW ->
//! checkpoint -> decode -> text. `ARCHITECTURE.md` has the map.

pub mod bench;
pub mod check;
pub mod gpu;
pub mod kernels;
pub mod random;
pub mod reference;
