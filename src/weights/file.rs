//! Tensors in a safetensors file: a header of names, types, shapes and places, then the bytes. Each
//! tensor has a checksum in the header's metadata, and that one too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc, Table};
use safetensors::tensor::{Dtype, Metadata};

use super::host::{SIZE_BYTES, TYPE_NAME};
use super::{HostTensor, Parameter};
use crate::data::positional::PositionalFile;

/// An error of a file of weights.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Missing or unreadable.
    #[error("cannot read checkpoint '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Not a safetensors file, or a damaged one.
    #[error("'{}' is no sound safetensors file: {reason}; take another checkpoint", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is missing.
    #[error("'{}' has no tensor '{name}', which the model needs", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of another shape or type than the model's.
    #[error("'{}': tensor '{name}' is {found}, but the model wants {wanted}; give the model's own shape", path.display())]
    WrongTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the file has.
        found: String,
        /// What the model wants.
        wanted: String,
    },
}

/// CRC-32C (Castagnoli) of a tensor's bytes and of the metadata: finds every flipped bit, and all
/// but one in four billion of other damages.
pub(super) const CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Key of the metadata that holds the checksum of each tensor.
pub(super) const TENSOR_CHECKSUMS: &str = "tensor_crc32c";
/// Key of the metadata that holds the checksum of all its other entries.
pub(super) const METADATA_CHECKSUM: &str = "metadata_crc32c";
/// Bytes before the header: its length.
const HEADER_START: usize = 8;
/// Bytes that a header may have, as the safetensors crate has it.
const MOST_HEADER: u64 = 100_000_000;

/// Checksum of the entries of a file's metadata, its own aside, in the order of their keys.
pub(super) fn metadata_checksum(map: &HashMap<String, String>) -> u32 {
    let entries: BTreeMap<_, _> = map.iter().collect();
    let mut digest = CRC32C.digest();
    for (key, value) in entries {
        if key != METADATA_CHECKSUM {
            for part in [key, value] {
                digest.update(part.as_bytes());
                digest.update(&[0]);
            }
        }
    }
    digest.finalize()
}

/// A safetensors file that has been opened and whose header is sound.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: PositionalFile,
    /// Names, types, shapes and places of the tensors.
    header: Metadata,
    /// Where the tensors begin, in bytes.
    data_start: u64,
    /// By the tensors' names; empty in a file that another program or an earlier version wrote.
    checksums: BTreeMap<String, u32>,
}

impl WeightsFile {
    /// Opens the file at `path` and checks its header, which holds no tensor yet.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let damaged = |reason: String| WeightsError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let file = PositionalFile::open(path).map_err(unreadable)?;
        let mut prefix = [0; HEADER_START];
        if file.len() < HEADER_START as u64 {
            return Err(damaged(format!("it has {} bytes", file.len())));
        }
        file.read_at(0, &mut prefix).map_err(unreadable)?;
        let header_len = u64::from_le_bytes(prefix);
        if header_len > MOST_HEADER.min(file.len() - HEADER_START as u64) {
            return Err(damaged(format!("its header would have {header_len} bytes")));
        }
        let data_start = HEADER_START as u64 + header_len;
        let mut text = vec![0; usize::try_from(header_len).unwrap_or_default()];
        file.read_at(HEADER_START as u64, &mut text)
            .map_err(unreadable)?;
        let entries: Entries = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if let Some(problem) = entries.problem() {
            return Err(damaged(problem));
        }
        let header: Metadata = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let expected = data_start + header.data_len() as u64;
        if file.len() != expected {
            let is_cut = |name: &String| {
                let end = header.info(name).map_or(0, |tensor| tensor.data_offsets.1);
                data_start + end as u64 > file.len()
            };
            let cut = header.offset_keys().into_iter().find(is_cut);
            let cut = cut.map_or(String::new(), |name| format!(", so tensor '{name}' is cut"));
            return Err(damaged(format!(
                "it has {} bytes where its header wants {expected}{cut}",
                file.len()
            )));
        }
        let map = header.metadata().as_ref();
        if let Some(noted) = map.and_then(|map| map.get(METADATA_CHECKSUM)) {
            let found = map.map_or(0, metadata_checksum).to_string();
            if found != *noted {
                return Err(damaged(format!(
                    "its metadata has the checksum {found}, and not {noted} as when it was written"
                )));
            }
        }
        let checksums = map.and_then(|map| serde_json::from_str(map.get(TENSOR_CHECKSUMS)?).ok());
        Ok(Self {
            checksums: checksums.unwrap_or_default(),
            path: path.to_owned(),
            file,
            header,
            data_start,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the header says besides tensors.
    pub fn metadata(&self) -> Option<&HashMap<String, String>> {
        self.header.metadata().as_ref()
    }

    /// Names, types and shapes of all tensors, in the order of their bytes.
    pub fn tensors(&self) -> Vec<(String, Dtype, Vec<usize>)> {
        let names = self.header.offset_keys().into_iter();
        let tensor = |name: String| {
            let info = self.header.info(&name)?;
            Some((name, info.dtype, info.shape.clone()))
        };
        names.filter_map(tensor).collect()
    }

    /// Whether the name of any tensor begins so.
    pub fn has_any(&self, prefix: &str) -> bool {
        let names = self.header.offset_keys();
        names.iter().any(|name| name.starts_with(prefix))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.header.info(name).is_some()
    }

    /// The bytes of the tensor `name`.
    ///
    /// # Errors
    /// When it is missing, or damaged, as its checksum tells.
    pub fn read_bytes(&self, name: &str) -> Result<Vec<u8>, WeightsError> {
        let path = || self.path.clone();
        let Some(tensor) = self.header.info(name) else {
            let name = name.to_owned();
            return Err(WeightsError::Missing { path: path(), name });
        };
        let (begin, end) = tensor.data_offsets;
        let mut bytes = vec![0; end - begin];
        let read = self
            .file
            .read_at(self.data_start + begin as u64, &mut bytes);
        read.map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => WeightsError::Damaged {
                path: path(),
                reason: format!("it became shorter while it was read, before '{name}' ended"),
            },
            _ => WeightsError::Unreadable {
                path: path(),
                source,
            },
        })?;
        let found = CRC32C.checksum(&bytes);
        if let Some(noted) = self.checksums.get(name).filter(|noted| **noted != found) {
            return Err(WeightsError::Damaged {
                path: path(),
                reason: format!(
                    "tensor '{name}' has the checksum {found:08x}, and not {noted:08x} as when it \
                     was written"
                ),
            });
        }
        Ok(bytes)
    }

    /// The elements of the tensor `name`, of any shape.
    ///
    /// # Errors
    /// When it is missing, not of f32, or damaged, as its checksum tells.
    pub fn read_floats(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let bytes = self.read_bytes(name)?;
        match self.header.info(name) {
            Some(tensor) if tensor.dtype != Dtype::F32 => Err(WeightsError::WrongTensor {
                path: self.path.clone(),
                name: name.to_owned(),
                found: format!("{:?} {:?}", tensor.dtype, tensor.shape),
                wanted: "F32".to_owned(),
            }),
            _ => Ok(bytemuck::pod_collect_to_vec(&bytes)),
        }
    }

    /// The tensor of `parameter`, whose name in the file is `prefix` and its own.
    ///
    /// # Errors
    /// When it is missing, of another shape or type, or damaged, as its checksum tells.
    pub fn read(&self, prefix: &str, parameter: &Parameter) -> Result<HostTensor, WeightsError> {
        let name = format!("{prefix}{}", parameter.name);
        let path = || self.path.clone();
        let Some(tensor) = self.header.info(&name) else {
            return Err(WeightsError::Missing { path: path(), name });
        };
        let wanted = parameter.shape();
        let has_more = parameter.may_be_longer()
            && tensor.shape.len() == wanted.len()
            && tensor.shape[0] >= wanted[0]
            && tensor.shape[1..] == wanted[1..];
        if tensor.dtype != Dtype::F32 || tensor.shape != wanted && !has_more {
            return Err(WeightsError::WrongTensor {
                path: path(),
                name,
                found: format!("{:?} {:?}", tensor.dtype, tensor.shape),
                wanted: format!("{TYPE_NAME} {:?}", parameter.shape()),
            });
        }
        let mut bytes = self.read_bytes(&name)?;
        bytes.truncate(parameter.len() * SIZE_BYTES);
        Ok(HostTensor::new(bytes))
    }
}

/// The entries of a header but for that of the metadata, with those that are there twice.
struct Entries(Vec<(String, Noted)>);

/// What is looked at of an entry for a better message than the safetensors crate has.
#[derive(serde::Deserialize)]
struct Noted {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Entries {
    /// What is wrong with the first tensor that is there twice, or does not lie right behind the one before.
    fn problem(&self) -> Option<String> {
        let mut seen = HashSet::new();
        if let Some((name, _)) = self.0.iter().find(|(name, _)| !seen.insert(name)) {
            return Some(format!("it has tensor '{name}' twice"));
        }
        let mut in_order: Vec<_> = self.0.iter().collect();
        in_order.sort_by_key(|(_, entry)| entry.data_offsets);
        let mut last = 0;
        for (name, entry) in in_order {
            let (begin, end) = entry.data_offsets;
            let bits = entry
                .shape
                .iter()
                .try_fold(1usize, |len, side| len.checked_mul(*side));
            let bits = bits.and_then(|len| len.checked_mul(entry.dtype.bitsize()));
            let has_len = end.checked_sub(begin).and_then(|len| len.checked_mul(8)) == bits;
            if begin != last || !has_len || bits.is_none() {
                return Some(format!(
                    "its tensor '{name}' of {:?} {:?} should begin at byte {last}, and lies at {begin} to {end}",
                    entry.dtype, entry.shape
                ));
            }
            last = end;
        }
        None
    }
}

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "__metadata__" {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else {
                        entries.push((key, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
