//! Checkpoints of PyTorch: what `torch.save` writes is read, and what `torch.load` takes is written.
//!
//! A file is a pickle, a program for a small machine, beside the raw bytes of storages that tensors are views
//! of. Since torch 1.6 both are entries of a zip archive; before that they follow each other. `pickle/` is
//! the machine, which runs nothing of the file's choosing; `archive` and `legacy` are the two formats,
//! `view` reads a tensor; `contents` and `optimizer` say what is what, `matching` which tensor a parameter
//! of the optimizer is. `checkpoint` writes, with `archive_writer` and `pickle/writer.rs`.

mod archive;
mod archive_writer;
mod checkpoint;
mod contents;
mod file;
mod layout;
mod legacy;
mod matching;
mod names;
mod optimizer;
mod pickle;
mod problem;
mod storages;
mod view;

pub use checkpoint::{AdamWGroup, AdamWState, Content, TorchCheckpoint, write};
pub use file::TorchFile;
pub use optimizer::{Moment, Moments, OptimizerParameter, OptimizerState, ParameterGroup};
