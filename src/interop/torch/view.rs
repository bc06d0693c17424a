//! Tensors as views of storages: checked once, then read as what they are, also where they are transposed
//! or sliced.

use super::archive::crc_problem;
use super::pickle::{Dtype, Graph, RawTensor};
use super::problem::Problem;
use super::storages::{Place, Storages};
use crate::data::positional::PositionalFile;

/// Most dimensions, as torch has it.
const MOST_DIMENSIONS: usize = 64;
/// Bytes that a view may have even where the file has fewer, since a view can repeat elements.
const MOST_REPEATED: u64 = 1 << 26;

/// A tensor whose elements all lie within its storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    place: Place,
    /// First element.
    offset: usize,
    /// Number of elements.
    pub(crate) len: usize,
    /// Elements of the storage from the first one to the last one.
    span: usize,
}

impl View {
    /// Checks the tensor that errors call `name`.
    pub(crate) fn check(
        file: &PositionalFile,
        storages: &Storages,
        graph: &Graph,
        name: &str,
        raw: &RawTensor,
    ) -> Result<Self, Problem> {
        let fault = |problem: String| Problem::tensor(name, problem);
        let place = storages.place(file, name, &graph.storages[raw.storage])?;
        let (shape, strides) = (&raw.shape, &raw.strides);
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(fault(format!(
                "has {} dimensions and {} strides",
                shape.len(),
                strides.len()
            )));
        }
        let counts = |numbers: &[i64]| -> Option<Vec<usize>> {
            numbers.iter().map(|n| usize::try_from(*n).ok()).collect()
        };
        let sizes = counts(shape).ok_or_else(|| fault(format!("has the shape {shape:?}")))?;
        let steps = counts(strides).ok_or_else(|| fault(format!("has the strides {strides:?}")))?;
        // A dimension of one element is never stepped through; equal views shall be equal whatever it says.
        let steps = sizes.iter().zip(steps);
        let steps: Vec<usize> = steps
            .map(|(n, step)| if *n > 1 { step } else { 0 })
            .collect();
        let offset = usize::try_from(raw.offset)
            .map_err(|_| fault(format!("begins at element {}", raw.offset)))?;
        let width = raw.dtype.width();
        let most = usize::try_from(file.len().max(MOST_REPEATED)).unwrap_or(usize::MAX);
        let len = elements(&sizes).filter(|len| len.checked_mul(width).is_some_and(|n| n <= most));
        let len = len.ok_or_else(|| {
            fault(format!(
                "has the shape {shape:?} of {}, which is more than the file holds",
                raw.dtype.name()
            ))
        })?;
        let span = if len == 0 {
            Some(0)
        } else {
            span(&sizes, &steps)
        };
        let end = span.and_then(|span| span.checked_add(if span == 0 { 0 } else { offset }));
        let there = place.len / width as u64;
        let (Some(span), Some(_)) = (span, end.filter(|end| *end as u64 <= there)) else {
            return Err(fault(format!(
                "with the shape {shape:?}, the strides {strides:?} and the offset {offset} \
                 reaches behind its storage of {there} elements"
            )));
        };
        Ok(Self {
            dtype: raw.dtype,
            shape: sizes,
            strides: steps,
            place,
            offset,
            len,
            span,
        })
    }

    /// Whether the elements lie in their order without gaps.
    fn is_contiguous(&self) -> bool {
        let mut wanted = 1;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *size != 1 && *stride != wanted {
                return false;
            }
            wanted *= size;
        }
        true
    }

    /// The elements, row-major without gaps.
    pub(crate) fn read(&self, file: &PositionalFile, name: &str) -> Result<Vec<u8>, Problem> {
        if self.len == 0 {
            return Ok(Vec::new());
        }
        let width = self.dtype.width();
        let mut bytes = vec![0; self.span * width];
        let start = self.place.start + (self.offset * width) as u64;
        file.read_at(start, &mut bytes)?;
        if bytes.len() as u64 == self.place.len
            && let Some(problem) = crc_problem(self.place.crc, &bytes)
        {
            return Err(Problem::tensor(name, problem));
        }
        if self.is_contiguous() {
            return Ok(bytes);
        }
        Ok(self.gathered(&bytes))
    }

    /// The elements of the view among those of its span.
    fn gathered(&self, span: &[u8]) -> Vec<u8> {
        let width = self.dtype.width();
        let mut gathered = Vec::with_capacity(self.len * width);
        let (outer_sizes, inner_size) = split_last(&self.shape);
        let (outer_strides, inner_stride) = split_last(&self.strides);
        let mut index = vec![0; outer_sizes.len()];
        let mut row = 0;
        loop {
            for at in 0..inner_size {
                let start = (row + at * inner_stride) * width;
                gathered.extend_from_slice(&span[start..start + width]);
            }
            // The next row: the last dimension that has not come to its end steps on, those behind it
            // start again.
            let mut dimension = outer_sizes.len();
            loop {
                let Some(before) = dimension.checked_sub(1) else {
                    return gathered;
                };
                dimension = before;
                index[dimension] += 1;
                row += outer_strides[dimension];
                if index[dimension] < outer_sizes[dimension] {
                    break;
                }
                row -= index[dimension] * outer_strides[dimension];
                index[dimension] = 0;
            }
        }
    }
}

/// All but the last number, and the last one; of none, 1.
fn split_last(numbers: &[usize]) -> (&[usize], usize) {
    numbers
        .split_last()
        .map_or((&[], 1), |(last, rest)| (rest, *last))
}

/// Number of elements; none where the other dimensions of an empty tensor have too large a product, too.
fn elements(shape: &[usize]) -> Option<usize> {
    let nonzero = shape.iter().filter(|size| **size != 0);
    let product = nonzero.copied().try_fold(1_usize, usize::checked_mul)?;
    Some(if shape.contains(&0) { 0 } else { product })
}

/// Elements from the first to the last one, of a view that has any.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .try_fold(1_usize, |span, (size, stride)| {
            span.checked_add((size - 1).checked_mul(*stride)?)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_of_three_dimensions_is_gathered_in_its_order() {
        let (shape, strides) = (vec![2, 3, 2], vec![1, 4, 2]);
        let view = View {
            dtype: Dtype::U8,
            span: span(&shape, &strides).unwrap(),
            len: elements(&shape).unwrap(),
            shape,
            strides,
            place: Place {
                start: 0,
                len: 12,
                crc: 0,
            },
            offset: 0,
        };
        assert_eq!(view.span, 12);
        let bytes: Vec<u8> = (0..12).collect();
        let want: Vec<u8> = (0..2)
            .flat_map(|i| (0..3).flat_map(move |j| (0..2).map(move |k| i + 4 * j + 2 * k)))
            .collect();
        assert_eq!(view.gathered(&bytes), want);
        assert!(!view.is_contiguous());
    }

    #[test]
    fn products_that_overflow_are_none() {
        assert_eq!(elements(&[1 << 40, 1 << 40]), None);
        assert_eq!(elements(&[1 << 40, 0, 1 << 40]), None);
        assert_eq!(elements(&[3, 0, 5]), Some(0));
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(span(&[2, 2], &[usize::MAX, usize::MAX]), None);
    }
}
