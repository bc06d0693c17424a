//! How an element of a parameter is stored on a device.

use crate::gpu::Tensor;
use crate::gpu::tensor::BLOCK_LEN;

/// The type of a parameter's elements on a device. In files and in the host's memory they are f32.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16, rows beginning at multiples of 16 bytes.
    F16,
    /// Blocks of 32 signed bytes, each with an f16 that they are multiplied with: ggml's.
    #[serde(rename = "q8_0")]
    #[value(name = "q8_0")]
    Q8_0,
}

impl StorageType {
    /// As in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// What the columns of a matrix have to be a multiple of.
    pub(super) fn cols_multiple(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Q8_0 => BLOCK_LEN,
        }
    }

    /// 4-byte words that a matrix of `[rows, cols]` takes.
    pub fn words(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::F32 => rows * cols,
            Self::F16 => Tensor::words_of_halves(rows, cols),
            Self::Q8_0 => Tensor::words_of_q8_0(rows, cols),
        }
    }

    /// The first words of a vector as a matrix `[rows, cols]` that is stored so.
    pub(super) fn view(self, words: Tensor, rows: usize, cols: usize) -> Tensor {
        match self {
            Self::F32 => words.reshape(rows, cols),
            Self::F16 => words.as_halves(rows, cols),
            Self::Q8_0 => words.as_q8_0(rows, cols),
        }
    }
}
