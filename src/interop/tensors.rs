//! Tensors of a file of another program: their names, types and shapes, and their bytes when asked for.

use std::path::Path;

use super::InteropError;

/// How a file stores the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Integers of any width, bools and whatever else is no weight.
    Other(&'static str),
    /// GGUF: blocks of 32 signed bytes with one f16 scale.
    Q8_0,
    /// GGUF: blocks of 32 nibbles with one f16 scale.
    Q4_0,
    /// GGUF: blocks of 32 nibbles with an f16 scale and minimum.
    Q4_1,
    /// GGUF: super-blocks of 256 nibbles.
    Q4K,
    /// GGUF: super-blocks of 256 elements of 6 bits.
    Q6K,
}

impl ElementType {
    /// The name, as most formats have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Other(name) => name,
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q4K => "Q4_K",
            Self::Q6K => "Q6_K",
        }
    }
}

/// What a file says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// As in the file.
    pub name: String,
    /// How its elements are stored.
    pub element_type: ElementType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
}

/// A file, or several, with named tensors.
pub trait TensorSource: Send + Sync {
    /// The file or folder.
    fn path(&self) -> &Path;

    /// All tensors, in the order of the file.
    fn tensors(&self) -> &[TensorInfo];

    /// The elements of tensor `index` as they are stored, row-major without gaps, little end first.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged there; the error names the tensor.
    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError>;
}
