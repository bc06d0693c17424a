//! How an element of a tensor is stored.

/// The type of a tensor's elements on a device and in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageType {
    /// IEEE 754 binary32, little-endian in files.
    F32,
}

impl StorageType {
    /// The name that safetensors files have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
        }
    }

    /// Bytes of an element.
    pub fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
        }
    }

    /// 4-byte words that `len` elements take on a device.
    pub fn words(self, len: usize) -> usize {
        (len * self.size_bytes()).div_ceil(4)
    }
}
