//! Writes files of llama2.c, tensor after tensor, so that no more than one is in memory.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::header::{Header, Problem, Version};
use super::layout::{self, Slot};
use crate::files::WholeFile;
use crate::interop::InteropError;

/// What llama2.c's angles are powers of.
const ROPE_BASE: f64 = 10_000.0;

/// Writes a file of `version`, whole or not at all; `values` gives the tensor of each name, with heads' rows as pairs.
///
/// # Errors
/// Those of `values`, when the disk says no, and when `header` or the length of a tensor is none that such a file can
/// have.
pub(crate) fn write(
    path: &Path,
    version: Version,
    header: &Header,
    mut values: impl FnMut(&str) -> Result<Vec<f32>, InteropError>,
) -> Result<(), InteropError> {
    let unwritable = |source| InteropError::Unwritable {
        path: path.to_owned(),
        source,
    };
    header
        .check()
        .map_err(|problem| Problem::Unsupported(format!("a model where {problem}")).at(path))?;
    let mut out = BufWriter::new(WholeFile::begin(path).map_err(unwritable)?);
    out.write_all(&header.to_bytes(version))
        .map_err(unwritable)?;
    for slot in layout::slots(header, version) {
        let wanted = slot.elements();
        let written = match slot {
            Slot::Angles { are_sines, .. } => put(&mut out, angles(header, are_sines)),
            Slot::Tensor { name, shape } => {
                let values = values(&name)?;
                if values.len() as u64 != wanted {
                    let found = values.len();
                    return Err(InteropError::Tensor {
                        path: path.to_owned(),
                        name,
                        problem: format!("has {found} elements, and its shape {shape:?} {wanted}"),
                    });
                }
                put(&mut out, values)
            }
        };
        written.map_err(unwritable)?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error);
    file.and_then(WholeFile::commit).map_err(unwritable)
}

fn put(out: &mut impl Write, values: impl IntoIterator<Item = f32>) -> io::Result<()> {
    values
        .into_iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
}

/// Cosines or sines of the angle of each pair at each position. The angles are products of f32, as llama2.c's are.
fn angles(header: &Header, are_sines: bool) -> impl Iterator<Item = f32> {
    let (size, positions) = (header.head_size(), header.max_seq_len);
    (0..positions).flat_map(move |position| {
        (0..size / 2)
            .map(move |pair| angle(position, pair, size))
            .map(
                move |angle| {
                    if are_sines { angle.sin() } else { angle.cos() }
                },
            )
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the file has f32, and positions are small"
)]
fn angle(position: usize, pair: usize, size: usize) -> f32 {
    let exponent = (2 * pair) as f64 / size as f64;
    position as f32 * (1.0 / ROPE_BASE.powf(exponent)) as f32
}
