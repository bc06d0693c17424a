//! Files that `tests/interop/make_gguf_fixtures.py` made, files that are written here, and damaged ones.

mod fixtures;
mod malformed;
mod written;

use std::io::Write;
use std::path::PathBuf;

use super::*;
use crate::files;

fn fixture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/interop/fixtures/gguf").join(name)
}

/// Opens a file of these bytes.
fn opened(bytes: &[u8]) -> Result<GgufFile, InteropError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    // Not by `files::write`, which waits for the disk: there are thousands of these.
    files::create_new(&path).unwrap().write_all(bytes).unwrap();
    GgufFile::open(&path)
}

/// The elements of a tensor as they are stored.
fn bytes_of(file: &GgufFile, name: &str) -> Vec<u8> {
    let index = file.tensors().iter().position(|t| t.name == name);
    file.read(index.unwrap()).unwrap()
}

fn floats_of(file: &GgufFile, name: &str) -> Vec<f32> {
    let bytes = bytes_of(file, name);
    let values = bytes.as_chunks::<4>().0.iter();
    values.map(|value| f32::from_le_bytes(*value)).collect()
}
