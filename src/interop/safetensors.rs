//! Safetensors files of other programs: one, or several with an index that says what is in which.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::{ElementType, InteropError, TensorInfo, TensorSource};
use crate::weights::{Entry, WeightsError, WeightsFile, write_tensors};

/// The tensors of one or several files.
pub(super) struct Safetensors {
    path: PathBuf,
    files: Vec<WeightsFile>,
    tensors: Vec<TensorInfo>,
    /// Which file each is in.
    places: Vec<usize>,
}

/// What of an index is read.
#[derive(serde::Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl Safetensors {
    /// Opens one file.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub(super) fn open(path: &Path) -> Result<Self, InteropError> {
        let files = vec![WeightsFile::open(path).map_err(of_weights)?];
        Self::new(path, files)
    }

    /// Opens the files that the index at `path` names; they lie beside it.
    ///
    /// # Errors
    /// When one is missing or damaged, or holds other tensors than the index says.
    pub(super) fn open_index(path: &Path) -> Result<Self, InteropError> {
        let damaged = |problem: String| InteropError::Damaged {
            path: path.to_owned(),
            format: "safetensors index",
            problem,
        };
        let text = super::read_text(path)?;
        let index: Index = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        let mut files = Vec::new();
        for name in &names {
            let is_plain = Path::new(name)
                .file_name()
                .is_some_and(|own| own == name.as_str());
            if !is_plain {
                return Err(damaged(format!(
                    "it names the file '{name}', which lies elsewhere"
                )));
            }
            files.push(WeightsFile::open(&path.with_file_name(name)).map_err(of_weights)?);
        }
        let all = Self::new(path, files)?;
        for (tensor, place) in all.tensors.iter().zip(&all.places) {
            let name = &tensor.name;
            let found = all.files[*place].path().file_name();
            let wanted = index.weight_map.get(name);
            if wanted.is_none_or(|wanted| found != Some(wanted.as_ref())) {
                let found = all.files[*place].path().display();
                let wanted = wanted.map_or("nowhere", String::as_str);
                return Err(damaged(format!(
                    "tensor '{name}' is in '{found}', and the index has it in '{wanted}'"
                )));
            }
        }
        let found: BTreeSet<&str> = all.tensors.iter().map(|t| t.name.as_str()).collect();
        let missing = index
            .weight_map
            .iter()
            .find(|(name, _)| !found.contains(name.as_str()));
        if let Some((name, file)) = missing {
            return Err(damaged(format!(
                "tensor '{name}' should be in '{file}', and is not"
            )));
        }
        Ok(all)
    }

    fn new(path: &Path, files: Vec<WeightsFile>) -> Result<Self, InteropError> {
        let (mut tensors, mut places) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for (place, file) in files.iter().enumerate() {
            for (name, dtype, shape) in file.tensors() {
                if !seen.insert(name.clone()) {
                    return Err(InteropError::Tensor {
                        path: file.path().to_owned(),
                        name,
                        problem: "is in another file too".to_owned(),
                    });
                }
                tensors.push(TensorInfo {
                    name,
                    element_type: element_type(dtype),
                    shape,
                });
                places.push(place);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            files,
            tensors,
            places,
        })
    }
}

impl TensorSource for Safetensors {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        let file = &self.files[self.places[index]];
        file.read_bytes(&self.tensors[index].name)
            .map_err(of_weights)
    }
}

pub(crate) fn of_weights(error: WeightsError) -> InteropError {
    match error {
        WeightsError::Unreadable { path, source } => InteropError::Unreadable { path, source },
        WeightsError::Damaged { path, reason } => InteropError::Damaged {
            path,
            format: "safetensors",
            problem: reason,
        },
        WeightsError::Missing { path, name } => InteropError::Missing { path, name },
        WeightsError::WrongTensor {
            path, name, found, ..
        } => InteropError::Tensor {
            path,
            name,
            problem: format!("is {found}"),
        },
    }
}

fn element_type(dtype: Dtype) -> ElementType {
    match dtype {
        Dtype::F64 => ElementType::F64,
        Dtype::F32 => ElementType::F32,
        Dtype::F16 => ElementType::F16,
        Dtype::BF16 => ElementType::Bf16,
        Dtype::BOOL => ElementType::Other("BOOL"),
        Dtype::I64 => ElementType::Other("I64"),
        Dtype::I32 => ElementType::Other("I32"),
        Dtype::U8 => ElementType::Other("U8"),
        Dtype::I8 => ElementType::Other("I8"),
        Dtype::I16 => ElementType::Other("I16"),
        Dtype::U16 => ElementType::Other("U16"),
        Dtype::U32 => ElementType::Other("U32"),
        Dtype::U64 => ElementType::Other("U64"),
        Dtype::F8_E4M3 => ElementType::Other("F8_E4M3"),
        Dtype::F8_E5M2 => ElementType::Other("F8_E5M2"),
        _ => ElementType::Other("a type that is not known"),
    }
}

/// Writes tensors and metadata, whole or not at all; `bytes` gives the elements of each tensor as they are stored,
/// in their order, so that no more than one is in memory.
///
/// # Errors
/// Those of `bytes`, or when the disk says no.
pub(crate) fn write(
    path: &Path,
    metadata: &[(&str, &str)],
    tensors: &[TensorInfo],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>, InteropError>,
) -> Result<(), InteropError> {
    let len = |tensor: &TensorInfo| tensor.element_type.bytes(tensor.shape.iter().product());
    let entries: Vec<Entry<'_>> = tensors
        .iter()
        .map(|tensor| Entry {
            name: &tensor.name,
            element_type: tensor.element_type.name(),
            shape: &tensor.shape,
            len: len(tensor).unwrap_or(0),
        })
        .collect();
    let metadata = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let written = write_tensors(path, metadata, &entries, |index| {
        bytes(index).map(Cow::Owned).map_err(std::io::Error::other)
    });
    written.map_err(|error| {
        error
            .downcast::<InteropError>()
            .unwrap_or_else(|source| InteropError::Unwritable {
                path: path.to_owned(),
                source,
            })
    })
}
