//! Writes safetensors files, tensor after tensor.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::HostTensor;
use super::file::{CRC32C, METADATA_CHECKSUM, TENSOR_CHECKSUMS, metadata_checksum};
use super::host::TYPE_NAME;
use crate::files;

/// Writes tensors with their names and shapes, and `metadata` with the checksums: to a temporary file
/// that is synced and renamed, so that a crash leaves what was there whole.
///
/// # Errors
/// When the file cannot be written.
pub fn write<'t>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Vec<usize>, &'t HostTensor)>,
    mut metadata: HashMap<String, String>,
) -> std::io::Result<()> {
    let tensors: Vec<_> = tensors.collect();
    let checksums: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, _, tensor)| (name, CRC32C.checksum(tensor.bytes())))
        .collect();
    let checksums = serde_json::json!(checksums).to_string();
    metadata.insert(TENSOR_CHECKSUMS.to_owned(), checksums);
    let checksum = metadata_checksum(&metadata).to_string();
    metadata.insert(METADATA_CHECKSUM.to_owned(), checksum);
    let entries: Vec<Entry> = tensors
        .iter()
        .map(|(name, shape, tensor)| Entry {
            name,
            element_type: TYPE_NAME,
            shape,
            len: tensor.bytes().len(),
        })
        .collect();
    write_tensors(path, metadata, &entries, |index| {
        Ok(Cow::Borrowed(tensors[index].2.bytes()))
    })
}

/// What a header says of a tensor.
pub(crate) struct Entry<'t> {
    pub(crate) name: &'t str,
    /// As safetensors call it.
    pub(crate) element_type: &'static str,
    pub(crate) shape: &'t [usize],
    /// In bytes.
    pub(crate) len: usize,
}

/// Where a header ends a multiple of, as the safetensors crate has it, which would hold all tensors at once.
const HEADER_ALIGNMENT: usize = 8;

/// Writes tensors with `metadata`, whole or not at all; `bytes` gives the elements of each in order, so that no more
/// than one need be in memory.
///
/// # Errors
/// Those of `bytes`, or when the file cannot be written.
pub(crate) fn write_tensors<'t>(
    path: &Path,
    metadata: HashMap<String, String>,
    entries: &[Entry<'_>],
    mut bytes: impl FnMut(usize) -> std::io::Result<Cow<'t, [u8]>>,
) -> std::io::Result<()> {
    let metadata: BTreeMap<String, String> = metadata.into_iter().collect();
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!(metadata))]);
    let mut end = 0;
    for entry in entries {
        let offsets = [end, end + entry.len];
        end += entry.len;
        let value = json!({
            "dtype": entry.element_type, "shape": entry.shape, "data_offsets": offsets,
        });
        header.insert(entry.name.to_owned(), value);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(HEADER_ALIGNMENT), b' ');
    files::write_with(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        (0..entries.len()).try_for_each(|index| out.write_all(&bytes(index)?))
    })
}
