//! Pickles: the machine that runs them without running any code, and what they make.

mod calls;
mod globals;
mod json;
mod machine;
mod operands;
mod value;
mod writer;

pub(crate) use globals::Dtype;
pub(crate) use json::{Budget, ToJson, float};
pub(crate) use machine::{Pickle, run};
pub(crate) use value::{Graph, Id, Node, RawTensor, StorageUse};
pub(crate) use writer::PickleWriter;
