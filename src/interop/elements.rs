//! Elements as files store them, to f32 and back, on all cores.

use half::{bf16, f16};
use rayon::prelude::*;

use super::ElementType;
use super::blocks;

/// How an export stores the elements of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
pub enum StoredType {
    /// IEEE 754 binary32
    #[value(name = "f32")]
    F32,
    /// IEEE 754 binary16
    #[value(name = "f16")]
    F16,
    /// The upper half of a binary32
    #[value(name = "bf16")]
    Bf16,
    /// GGUF's blocks of 32 signed bytes with a scale
    #[value(name = "q8_0")]
    Q8_0,
    /// GGUF's blocks of 32 nibbles with a scale
    #[value(name = "q4_0")]
    Q4_0,
}

impl StoredType {
    /// As a file's element type.
    pub fn element_type(self) -> ElementType {
        match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::Bf16,
            Self::Q8_0 => ElementType::Q8_0,
            Self::Q4_0 => ElementType::Q4_0,
        }
    }

    /// The name, as most formats have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
        }
    }

    /// As PyTorch calls it; f32 for what it has no type for.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::F32 | Self::Q8_0 | Self::Q4_0 => "float32",
        }
    }

    /// Whether elements are stored in blocks of several, of which rows of a matrix are a multiple.
    pub fn is_of_blocks(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0)
    }
}

impl ElementType {
    /// Elements of a block and its bytes; none for what is no type of weights.
    pub fn block(self) -> Option<(usize, usize)> {
        match self {
            Self::F64 => Some((1, 8)),
            Self::F32 => Some((1, 4)),
            Self::F16 | Self::Bf16 => Some((1, 2)),
            Self::Q8_0 => Some((blocks::LEN, blocks::Q8_0_BYTES)),
            Self::Q4_0 => Some((blocks::LEN, blocks::Q4_0_BYTES)),
            Self::Q4_1 => Some((blocks::LEN, blocks::Q4_1_BYTES)),
            Self::Q4K => Some((blocks::SUPER_LEN, blocks::Q4_K_BYTES)),
            Self::Q6K => Some((blocks::SUPER_LEN, blocks::Q6_K_BYTES)),
            Self::Other(_) => None,
        }
    }

    /// Bytes of `len` elements; none for what is no type of weights, no whole blocks, or too many to count.
    pub fn bytes(self, len: usize) -> Option<usize> {
        let (elements, bytes) = self.block()?;
        let blocks = len.is_multiple_of(elements).then_some(len / elements)?;
        blocks.checked_mul(bytes)
    }
}

/// Fewer elements than this are not worth another thread.
const ELEMENTS_OF_A_THREAD: usize = 1 << 14;

/// The values of `len` elements that are stored in `bytes`, little end first.
///
/// # Errors
/// What is wrong with the tensor, as a verb and its object: a type that is none of weights, or a number of bytes
/// that does not fit.
pub(crate) fn to_f32(
    element_type: ElementType,
    bytes: &[u8],
    len: usize,
) -> Result<Vec<f32>, String> {
    if let Some((elements, size)) = element_type.block()
        && element_type.bytes(len) != Some(bytes.len())
    {
        let found = bytes.len();
        return Err(format!(
            "has {found} bytes, and {len} elements in blocks of {elements} that take {size} bytes each"
        ));
    }
    Ok(match element_type {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "weights are computed with as f32"
        )]
        ElementType::F64 => widen(bytes, len, |bytes, [value]| {
            *value = f64::from_le_bytes(*bytes) as f32;
        }),
        ElementType::F32 => widen(bytes, len, |bytes, [value]| {
            *value = f32::from_le_bytes(*bytes);
        }),
        ElementType::F16 => widen(bytes, len, |bytes, [value]| {
            *value = f16::from_le_bytes(*bytes).to_f32();
        }),
        ElementType::Bf16 => widen(bytes, len, |bytes, [value]| {
            *value = bf16::from_le_bytes(*bytes).to_f32();
        }),
        ElementType::Q8_0 => widen(bytes, len, blocks::widen_q8_0),
        ElementType::Q4_0 => widen(bytes, len, blocks::widen_q4_0),
        ElementType::Q4_1 => widen(bytes, len, blocks::widen_q4_1),
        ElementType::Q4K => widen(bytes, len, blocks::widen_q4_k),
        ElementType::Q6K => widen(bytes, len, blocks::widen_q6_k),
        ElementType::Other(name) => {
            return Err(format!("has elements of type {name}, which are no weights"));
        }
    })
}

/// `values` as they are stored, little end first.
///
/// # Panics
/// When they are no whole blocks, as the rows of no matrix are that may be stored like this.
pub(crate) fn from_f32(stored: StoredType, values: &[f32]) -> Vec<u8> {
    assert!(stored.element_type().bytes(values.len()).is_some());
    match stored {
        StoredType::F32 => narrow(values, |[value], bytes| *bytes = value.to_le_bytes()),
        StoredType::F16 => narrow(values, |[value], bytes| {
            *bytes = f16::from_f32(*value).to_le_bytes();
        }),
        StoredType::Bf16 => narrow(values, |[value], bytes| {
            *bytes = bf16::from_f32(*value).to_le_bytes();
        }),
        StoredType::Q8_0 => narrow(values, blocks::narrow_q8_0),
        StoredType::Q4_0 => narrow(values, blocks::narrow_q4_0),
    }
}

/// `len` values of blocks of `BYTES`.
fn widen<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    len: usize,
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]) + Send + Sync,
) -> Vec<f32> {
    let mut values = vec![0.0; len];
    let (places, _) = values.as_chunks_mut();
    let (blocks, _) = bytes.as_chunks();
    places
        .par_iter_mut()
        .zip(blocks)
        .with_min_len(ELEMENTS_OF_A_THREAD / LEN)
        .for_each(|(values, bytes)| block(bytes, values));
    values
}

/// The other way round.
fn narrow<const LEN: usize, const BYTES: usize>(
    values: &[f32],
    block: impl Fn(&[f32; LEN], &mut [u8; BYTES]) + Send + Sync,
) -> Vec<u8> {
    let mut bytes = vec![0; values.len() / LEN * BYTES];
    let (places, _) = bytes.as_chunks_mut();
    let (blocks, _) = values.as_chunks();
    places
        .par_iter_mut()
        .zip(blocks)
        .with_min_len(ELEMENTS_OF_A_THREAD / LEN)
        .for_each(|(bytes, values)| block(values, bytes));
    bytes
}
