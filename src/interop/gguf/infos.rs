//! What a file says of its tensors, and where their bytes are.

use std::collections::HashSet;

use super::cursor::Cursor;
use super::types;
use crate::interop::{InteropError, TensorInfo};

/// As ggml's `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: u32 = 4;
/// The length of a name, the number of sides, the type and the offset.
const LEAST_INFO: u64 = 8 + 4 + 4 + 8;

/// Bytes of a tensor in its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) len: usize,
}

/// Reads what is said of `count` tensors, and checks that the file has their bytes.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
) -> Result<(Vec<TensorInfo>, Vec<Place>), InteropError> {
    let count = cursor.fitting(count, LEAST_INFO, format_args!("the tensors' names"))?;
    let mut infos = Vec::with_capacity(count);
    let mut offsets = Vec::with_capacity(count);
    let mut names = HashSet::new();
    for number in 0..count {
        let (info, offset) = read_info(cursor, number)?;
        if !names.insert(info.name.clone()) {
            return Err(bad(cursor, &info.name, "is there twice".to_owned()));
        }
        infos.push(info);
        offsets.push(offset);
    }
    // Elements begin at the first multiple behind all this.
    let start = cursor.at().checked_next_multiple_of(alignment);
    let places = infos.iter().zip(offsets).map(|(info, offset)| {
        if offset % alignment != 0 {
            let problem = format!("begins at {offset}, which is no multiple of {alignment}");
            return Err(bad(cursor, &info.name, problem));
        }
        let first = start.and_then(|start| start.checked_add(offset));
        place(first, cursor.file_len(), info).map_err(|problem| bad(cursor, &info.name, problem))
    });
    let places = places.collect::<Result<_, _>>()?;
    Ok((infos, places))
}

fn read_info(cursor: &mut Cursor<'_>, number: usize) -> Result<(TensorInfo, u64), InteropError> {
    let name = cursor.text(format_args!("the name of tensor {number}"))?;
    let what = format_args!("the shape of tensor '{name}'");
    let dimensions = cursor.u32(what)?;
    if dimensions > MOST_DIMENSIONS {
        let problem = format!("has {dimensions} dimensions, and not up to {MOST_DIMENSIONS}");
        return Err(bad(cursor, &name, problem));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let side = cursor.u64(what)?;
        let fitting = usize::try_from(side);
        shape.push(fitting.map_err(|_| bad(cursor, &name, format!("has a side of {side}")))?);
    }
    // The file has the innermost side first.
    shape.reverse();
    let kind = cursor.u32(format_args!("the type of tensor '{name}'"))?;
    let offset = cursor.u64(format_args!("the offset of tensor '{name}'"))?;
    let element_type = types::of_number(kind)
        .map_err(|found| cursor.unsupported(format!("{found} of tensor '{name}'")))?;
    let info = TensorInfo {
        name,
        element_type,
        shape,
    };
    Ok((info, offset))
}

/// Where a tensor is that begins at byte `first` of a file of `file_len`, or what is wrong with it.
fn place(first: Option<u64>, file_len: u64, info: &TensorInfo) -> Result<Place, String> {
    let bytes = types::bytes_of(info)?;
    let end = first.and_then(|first| first.checked_add(bytes));
    match (first, end, usize::try_from(bytes)) {
        (Some(start), Some(end), Ok(len)) if end <= file_len => Ok(Place { start, len }),
        (_, Some(end), _) => Err(format!(
            "should end at byte {end}, and the file ends at byte {file_len}"
        )),
        _ => Err(format!(
            "of {bytes} bytes begins too far behind the file's end at byte {file_len}"
        )),
    }
}

fn bad(cursor: &Cursor<'_>, name: &str, problem: String) -> InteropError {
    InteropError::Tensor {
        path: cursor.path().to_owned(),
        name: name.to_owned(),
        problem,
    }
}
