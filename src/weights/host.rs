//! A tensor's elements in the host's memory.

use super::file::CRC32C;

/// The name that safetensors files have for the type of the elements.
pub(super) const TYPE_NAME: &str = "F32";

/// Bytes of an element.
pub(super) const SIZE_BYTES: usize = 4;

/// Elements of one tensor, of f32 whatever a device makes of them; little-endian as in files.
#[derive(Clone, PartialEq, Eq)]
pub struct HostTensor {
    bytes: Vec<u8>,
}

impl HostTensor {
    /// Stored elements.
    ///
    /// # Panics
    /// If the bytes are no whole number of them: a bug of the caller.
    pub fn new(bytes: Vec<u8>) -> Self {
        assert!(bytes.len().is_multiple_of(SIZE_BYTES), "whole elements");
        Self { bytes }
    }

    /// Elements of these values.
    pub fn from_f32(values: &[f32]) -> Self {
        Self {
            bytes: bytemuck::cast_slice(values).to_vec(),
        }
    }

    /// The values.
    pub fn to_f32(&self) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.bytes)
    }

    /// CRC-32C of the elements as they are stored.
    pub fn checksum(&self) -> u32 {
        CRC32C.checksum(&self.bytes)
    }

    /// The elements as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / SIZE_BYTES
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Without its thousands of bytes.
impl std::fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} elements", self.len())
    }
}
