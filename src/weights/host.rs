//! A tensor's elements in the host's memory.

use super::StorageType;
use super::file::CRC32C;

/// Elements of one tensor as they are stored.
#[derive(Clone, PartialEq, Eq)]
pub struct HostTensor {
    storage: StorageType,
    bytes: Vec<u8>,
}

impl HostTensor {
    /// Stored elements.
    ///
    /// # Panics
    /// If the bytes are no whole number of them: a bug of the caller.
    pub fn new(storage: StorageType, bytes: Vec<u8>) -> Self {
        assert_eq!(bytes.len() % storage.size_bytes(), 0, "whole elements");
        Self { storage, bytes }
    }

    /// `values` in the storage type.
    pub fn from_f32(storage: StorageType, values: &[f32]) -> Self {
        let bytes = match storage {
            StorageType::F32 => bytemuck::cast_slice(values).to_vec(),
        };
        Self { storage, bytes }
    }

    /// The values.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.storage {
            StorageType::F32 => bytemuck::pod_collect_to_vec(&self.bytes),
        }
    }

    /// CRC-32C of the elements as they are stored.
    pub fn checksum(&self) -> u32 {
        CRC32C.checksum(&self.bytes)
    }

    /// How the elements are stored.
    pub fn storage(&self) -> StorageType {
        self.storage
    }

    /// The elements as they are stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.storage.size_bytes()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Without its thousands of bytes.
impl std::fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} elements of {}", self.len(), self.storage.name())
    }
}
