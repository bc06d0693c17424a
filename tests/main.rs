//! The integration tests, in one binary.
#![allow(missing_docs, reason = "tests are named by what they claim")]

mod bench_rows;
mod parity;
mod shader_tables;
