//! Folders of PEFT: adapters of a model that lies elsewhere. `adapter_model.safetensors` holds a matrix A `[r, in]`
//! and B `[out, r]` beside each adapted module, and `adapter_config.json` says how they are scaled.

mod config;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::AdapterConfig;
pub(crate) use write::write;

use super::names::Naming;
use super::safetensors::Safetensors;
use super::torch::TorchFile;
use super::{Family, InteropError, TensorSource, elements, rows};
use crate::config::ModelConfig;
use crate::weights::{AdapterValues, Parameter, ParameterTable};

pub(super) const CONFIG_FILE: &str = "adapter_config.json";
const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// As older versions of PEFT save them.
const PICKLE_FILE: &str = "adapter_model.bin";
/// What PEFT puts before the names of a model's modules.
const PREFIX: &str = "base_model.model.";
const FORMAT: &str = "PEFT adapter";

/// Adapters in a folder of PEFT.
pub struct PeftFolder {
    path: PathBuf,
    config: AdapterConfig,
    source: Box<dyn TensorSource>,
    /// Place of each tensor in the source, by its name.
    index: BTreeMap<String, usize>,
}

/// Whether a folder holds adapters.
pub(super) fn is_one(folder: &Path) -> bool {
    folder.join(CONFIG_FILE).is_file()
}

impl PeftFolder {
    /// Opens the folder.
    ///
    /// # Errors
    /// When a file is missing, damaged, or of a kind of adapters that is not supported.
    pub fn open(path: &Path) -> Result<Self, InteropError> {
        let config = AdapterConfig::read(path)?;
        let pickle = path.join(PICKLE_FILE);
        let weights = path.join(WEIGHTS_FILE);
        let source: Box<dyn TensorSource> = match !weights.is_file() && pickle.is_file() {
            true => Box::new(TorchFile::open(&pickle)?),
            false => Box::new(Safetensors::open(&weights)?),
        };
        let names = source.tensors().iter().map(|tensor| tensor.name.clone());
        Ok(Self {
            index: names.zip(0..).collect(),
            path: path.to_owned(),
            config,
            source,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model that the folder says the adapters are of: a path, or a name on a hub.
    pub fn base(&self) -> Option<&str> {
        self.config.base_model_name_or_path.as_deref()
    }

    /// Checks that every tensor belongs to an adapter of a linear layer of a model of `config`.
    ///
    /// # Errors
    /// When one has no place there, or there are none.
    pub fn check(&self, config: &ModelConfig) -> Result<(), InteropError> {
        let mut left: BTreeMap<&str, usize> = self.index.iter().map(|(n, i)| (&**n, *i)).collect();
        let table = ParameterTable::new(config, &[], usize::MAX);
        for weight in table.iter().filter(|p| p.is_of_linear()) {
            let module = module_of(config, weight)?;
            self.read(config, weight)?;
            for which in ['A', 'B'] {
                left.remove(&*tensor_name(&module, which));
            }
        }
        if left.len() == self.index.len() {
            let problem = "it has no adapter of a linear layer of this model".to_owned();
            return Err(self.damaged(problem));
        }
        match left.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(InteropError::Extra {
                path: self.source.path().to_owned(),
                name: (*name).to_owned(),
            }),
        }
    }

    /// The adapter beside the weight of a linear layer of a model of `config`, as ours, if there is one.
    ///
    /// # Errors
    /// When one of its matrices is missing, of another shape than the layer's, or damaged.
    pub fn read(
        &self,
        config: &ModelConfig,
        weight: &Parameter,
    ) -> Result<Option<AdapterValues>, InteropError> {
        let module = module_of(config, weight)?;
        let names = ['A', 'B'].map(|which| tensor_name(&module, which));
        if names.iter().all(|name| !self.index.contains_key(name)) {
            return Ok(None);
        }
        let naming = Naming::of_hugging_face(Family::of(config, FORMAT)?);
        let place = naming.place(config, &weight.name, weight.rows);
        let rank = self.rows(&names[0])?;
        let a = self.matrix(&names[0], [rank, weight.cols])?;
        let mut b = self.matrix(&names[1], [place.total_rows, rank])?;
        if rank == 0 {
            return Err(self.damaged(format!("'{}' has no rows", names[0])));
        }
        b.truncate(place.rows.end * rank);
        b.drain(..place.rows.start * rank);
        if let Some(head_dim) = place.half_split {
            b = rows::pairs_of_halves(&b, rank, head_dim);
        }
        let alpha = self.config.alpha(&module, rank);
        Ok(Some(AdapterValues { a, b, rank, alpha }))
    }

    fn rows(&self, name: &str) -> Result<usize, InteropError> {
        let info = &self.source.tensors()[self.number(name)?];
        info.shape.first().copied().ok_or_else(|| {
            let found = &info.shape;
            self.refused(
                name,
                format!("has the shape {found:?} where A has rows and columns"),
            )
        })
    }

    fn matrix(&self, name: &str, wanted: [usize; 2]) -> Result<Vec<f32>, InteropError> {
        let number = self.number(name)?;
        let info = &self.source.tensors()[number];
        if info.shape != wanted {
            let found = &info.shape;
            return Err(self.refused(
                name,
                format!(
                    "has the shape {found:?} where the model wants {wanted:?}; r is {}",
                    self.config.rank()
                ),
            ));
        }
        let bytes = self.source.read(number)?;
        let values = elements::to_f32(info.element_type, &bytes, wanted[0] * wanted[1]);
        values.map_err(|problem| self.refused(name, problem))
    }

    fn number(&self, name: &str) -> Result<usize, InteropError> {
        let number = self.index.get(name).copied();
        number.ok_or_else(|| InteropError::Missing {
            path: self.source.path().to_owned(),
            name: name.to_owned(),
        })
    }

    fn refused(&self, name: &str, problem: String) -> InteropError {
        InteropError::Tensor {
            path: self.source.path().to_owned(),
            name: name.to_owned(),
            problem,
        }
    }

    fn damaged(&self, problem: String) -> InteropError {
        InteropError::Damaged {
            path: self.path.clone(),
            format: FORMAT,
            problem,
        }
    }
}

impl std::fmt::Debug for PeftFolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{FORMAT} '{}'", self.path.display())
    }
}

/// The module of `transformers` whose weight our `weight` is, or is a part of.
fn module_of(config: &ModelConfig, weight: &Parameter) -> Result<String, InteropError> {
    let naming = Naming::of_hugging_face(Family::of(config, FORMAT)?);
    let tensor = naming.tensor(&weight.name);
    Ok(tensor.strip_suffix(".weight").unwrap_or(&tensor).to_owned())
}

fn tensor_name(module: &str, which: char) -> String {
    format!("{PREFIX}{module}.lora_{which}.weight")
}
