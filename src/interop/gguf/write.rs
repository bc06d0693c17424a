//! Writes GGUF files, tensor after tensor, so that no more than one is in memory.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::value::{ARRAY, GgufValue, TEXT};
use super::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, VERSION, types};
use crate::files::WholeFile;
use crate::interop::{InteropError, TensorInfo};

/// As ggml's `GGML_MAX_NAME`, less the 0 at the end.
const MOST_NAME_BYTES: usize = 63;

/// Writes a file of `metadata` and `tensors`, whole or not at all; `bytes` gives the elements of each tensor as they
/// are stored, in their order.
///
/// # Errors
/// Those of `bytes`, when the disk says no, and when a tensor is none that a file can have: of a type or shape that
/// there is not, with a name that is too long or there twice, or with another number of bytes than its shape has.
pub(crate) fn write(
    path: &Path,
    metadata: &[(String, GgufValue)],
    tensors: &[TensorInfo],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>, InteropError>,
) -> Result<(), InteropError> {
    let unwritable = |source| InteropError::Unwritable {
        path: path.to_owned(),
        source,
    };
    let bad = |info: &TensorInfo, problem| InteropError::Tensor {
        path: path.to_owned(),
        name: info.name.clone(),
        problem,
    };
    let start = start(metadata, tensors.len()).map_err(|e| unwritable(io::Error::other(e)))?;
    let (infos, lens) = infos(tensors, bad)?;
    let mut out = BufWriter::new(WholeFile::begin(path).map_err(unwritable)?);
    out.write_all(&start).map_err(unwritable)?;
    out.write_all(&infos).map_err(unwritable)?;
    pad(&mut out, (start.len() + infos.len()) as u64).map_err(unwritable)?;
    for (index, (info, len)) in tensors.iter().zip(lens).enumerate() {
        let bytes = bytes(index)?;
        if bytes.len() as u64 != len {
            let found = bytes.len();
            let problem = format!("has {found} bytes, and its shape {len}");
            return Err(bad(info, problem));
        }
        out.write_all(&bytes).map_err(unwritable)?;
        pad(&mut out, len).map_err(unwritable)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error);
    file.and_then(WholeFile::commit).map_err(unwritable)
}

/// Zeros behind `len` bytes, up to where the next tensor may begin.
fn pad(out: &mut impl Write, len: u64) -> io::Result<()> {
    let zeros = len.next_multiple_of(ALIGNMENT) - len;
    (0..zeros).try_for_each(|_| out.write_all(&[0]))
}

/// What comes before the tensors' infos, or what is wrong with the metadata.
fn start(metadata: &[(String, GgufValue)], tensors: usize) -> Result<Vec<u8>, String> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut keys = HashSet::new();
    for (key, value) in metadata {
        if !keys.insert(key) {
            return Err(format!("there are two values for '{key}'"));
        }
        if key == ALIGNMENT_KEY && value.as_integer() != Some(ALIGNMENT.into()) {
            return Err(format!(
                "'{key}' should be {ALIGNMENT}, as files are written"
            ));
        }
        put_text(&mut out, key);
        out.extend(value.kind().to_le_bytes());
        put(&mut out, value)?;
    }
    Ok(out)
}

/// The tensors' infos, and their numbers of bytes.
fn infos(
    tensors: &[TensorInfo],
    bad: impl Fn(&TensorInfo, String) -> InteropError,
) -> Result<(Vec<u8>, Vec<u64>), InteropError> {
    let (mut out, mut lens) = (Vec::new(), Vec::new());
    let (mut offset, mut names) = (0_u64, HashSet::new());
    for info in tensors {
        let bad = |problem: String| bad(info, problem);
        let len = types::bytes_of(info).map_err(bad)?;
        let kind = types::number_of(info.element_type).unwrap_or_default();
        if info.name.len() > MOST_NAME_BYTES {
            return Err(bad(format!(
                "has a name of more than {MOST_NAME_BYTES} bytes, which llama.cpp does not read"
            )));
        }
        if !names.insert(&info.name) {
            return Err(bad("is there twice".to_owned()));
        }
        put_text(&mut out, &info.name);
        let dimensions = u32::try_from(info.shape.len()).ok().filter(|n| *n <= 4);
        let dimensions = dimensions.ok_or_else(|| bad("has more than 4 dimensions".to_owned()))?;
        out.extend(dimensions.to_le_bytes());
        for side in info.shape.iter().rev() {
            out.extend((*side as u64).to_le_bytes());
        }
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        let next = len.checked_next_multiple_of(ALIGNMENT);
        let next = next.and_then(|len| offset.checked_add(len));
        offset = next.ok_or_else(|| bad("lies too far behind the others".to_owned()))?;
        lens.push(len);
    }
    Ok((out, lens))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value without its type, or what is wrong with it.
fn put(out: &mut Vec<u8>, value: &GgufValue) -> Result<(), String> {
    let mut put_array = |kind: u32, len: usize| {
        out.extend(kind.to_le_bytes());
        out.extend((len as u64).to_le_bytes());
    };
    match value {
        GgufValue::U8(value) => out.extend(value.to_le_bytes()),
        GgufValue::I8(value) => out.extend(value.to_le_bytes()),
        GgufValue::U16(value) => out.extend(value.to_le_bytes()),
        GgufValue::I16(value) => out.extend(value.to_le_bytes()),
        GgufValue::U32(value) => out.extend(value.to_le_bytes()),
        GgufValue::I32(value) => out.extend(value.to_le_bytes()),
        GgufValue::F32(value) => out.extend(value.to_le_bytes()),
        GgufValue::Bool(value) => out.push((*value).into()),
        GgufValue::Text(text) => put_text(out, text),
        GgufValue::U64(value) => out.extend(value.to_le_bytes()),
        GgufValue::I64(value) => out.extend(value.to_le_bytes()),
        GgufValue::F64(value) => out.extend(value.to_le_bytes()),
        GgufValue::Texts(texts) => {
            put_array(TEXT, texts.len());
            texts.iter().for_each(|text| put_text(out, text));
        }
        GgufValue::Numbers(numbers) => {
            put_array(numbers.kind, numbers.len());
            out.extend(&numbers.bytes);
        }
        GgufValue::Arrays(arrays) => {
            put_array(ARRAY, arrays.len());
            for array in arrays {
                if array.kind() != ARRAY {
                    return Err(format!("an array of arrays holds {}", array.describe()));
                }
                put(out, array)?;
            }
        }
    }
    Ok(())
}
