//! Checkpoints of adapters: those of a run, or of PEFT, beside the model that they are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Checkpoint, CheckpointError, Metadata};
use crate::config::ModelConfig;
use crate::interop::{PeftFolder, StoredType, peft};
use crate::weights::{
    AdapterValues, EngineState, HostTensor, Parameter, ParameterTable, WeightsError, WeightsFile,
    adapter_name,
};

/// The model that a run's adapters are of: where it lies, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Base {
    /// The file or folder.
    pub path: PathBuf,
    /// Of each parameter, as f32: a CRC-32C.
    pub crc32c: BTreeMap<String, u32>,
}

impl Base {
    /// The model at `path`, of whose parameters none is noted yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            crc32c: BTreeMap::new(),
        }
    }

    /// The same model at another place.
    pub fn moved_to(self, path: &Path) -> Self {
        Self {
            crc32c: self.crc32c,
            ..Self::new(path)
        }
    }

    /// Notes the value of a parameter, unless it is an adapter's.
    pub fn note(&mut self, parameter: &Parameter, tensor: &HostTensor) {
        if !parameter.is_of_adapter() {
            let checksum = tensor.checksum();
            self.crc32c.insert(parameter.name.clone(), checksum);
        }
    }
}

/// Adapters, and the model that they are of.
#[derive(Debug)]
pub(super) struct Adapted {
    pub(super) adapters: Adapters,
    pub(super) base: Box<Checkpoint>,
    /// Where that was opened.
    pub(super) base_path: PathBuf,
}

/// Whose they are.
#[derive(Debug)]
pub(super) enum Adapters {
    Own {
        file: WeightsFile,
        /// None where it is the rank.
        alpha: Option<f64>,
        base: Base,
    },
    Peft(PeftFolder),
}

/// Writes the adapters of `state`, which are what a checkpoint of `table` holds, to `folder` as PEFT has them.
///
/// # Errors
/// When the model is of no family that PEFT's users know, or the disk says no.
pub fn save_adapters(
    folder: &Path,
    table: &ParameterTable,
    state: &EngineState,
    base: &Base,
) -> Result<(), CheckpointError> {
    let saved = table
        .iter()
        .filter(|p| p.is_of_adapter())
        .zip(&state.parameters);
    let values: BTreeMap<&str, Vec<f32>> = saved
        .map(|(p, tensor)| (&*p.name, tensor.to_f32()))
        .collect();
    let of = |weight: &Parameter| {
        let matrix = |which| values.get(&*adapter_name(&weight.name, which)).cloned();
        let (a, b) = (matrix('A')?, matrix('B')?);
        let rank = a.len() / weight.cols;
        let alpha = table.adapter(table.id(&weight.name))?.alpha;
        Some((weight.clone(), AdapterValues { a, b, rank, alpha }))
    };
    let adapters: Vec<(Parameter, AdapterValues)> = table.iter().filter_map(of).collect();
    let of = (table.config(), &*base.path.to_string_lossy());
    peft::write(folder, of, &adapters, StoredType::F32)?;
    Ok(())
}

impl Adapters {
    /// Those in the file of a run that trained adapters of `base`.
    pub(super) fn of_run(file: WeightsFile, noted: &Metadata, base: &Base) -> Self {
        Self::Own {
            file,
            alpha: noted.config.get("lora_alpha").and_then(Value::as_f64),
            base: base.clone(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Own { file, .. } => file.path(),
            Self::Peft(folder) => folder.path(),
        }
    }

    /// Where the model that they are of should lie.
    ///
    /// # Errors
    /// When it is not there, or nobody says where it is.
    pub(super) fn base_path(&self) -> Result<PathBuf, CheckpointError> {
        let missing = |base: &str| CheckpointError::NoBase {
            path: self.path().to_owned(),
            base: base.to_owned(),
        };
        match self {
            Self::Own { base, .. } => match base.path.exists() {
                true => Ok(base.path.clone()),
                false => Err(missing(&base.path.to_string_lossy())),
            },
            Self::Peft(folder) => {
                let named = folder.base().unwrap_or_default();
                let places = [PathBuf::from(named), folder.path().join(named)];
                let found = places.into_iter().find(|place| place.exists());
                found
                    .filter(|_| !named.is_empty())
                    .ok_or_else(|| missing(named))
            }
        }
    }

    /// The adapter beside a weight of a model of `config`, if there is one.
    pub(super) fn read(
        &self,
        config: &ModelConfig,
        weight: &Parameter,
    ) -> Result<Option<AdapterValues>, CheckpointError> {
        let (file, alpha) = match self {
            Self::Peft(folder) => return Ok(folder.read(config, weight)?),
            Self::Own { file, alpha, .. } => (file, *alpha),
        };
        let names = ['A', 'B'].map(|which| adapter_name(&weight.name, which));
        if !file.has_any(&names[0]) {
            return Ok(None);
        }
        let [a, b] = names.map(|name| file.read_floats(&name));
        let (a, b) = (a?, b?);
        let rank = a.len() / weight.cols;
        if rank == 0 || a.len() != rank * weight.cols || b.len() != rank * weight.rows {
            return Err(WeightsError::Damaged {
                path: file.path().to_owned(),
                reason: format!(
                    "the adapter of '{}' has {} and {} elements beside a weight of {} x {}",
                    weight.name,
                    a.len(),
                    b.len(),
                    weight.rows,
                    weight.cols
                ),
            }
            .into());
        }
        #[allow(clippy::cast_precision_loss, reason = "a rank is small")]
        let alpha = alpha.unwrap_or(rank as f64);
        Ok(Some(AdapterValues { a, b, rank, alpha }))
    }
}

impl Adapted {
    /// A parameter of the model that the adapters are of.
    ///
    /// # Errors
    /// When it cannot be read, or the model is not the one that the adapters were trained with.
    pub(super) fn of_base(
        &self,
        config: &ModelConfig,
        parameter: &Parameter,
    ) -> Result<HostTensor, CheckpointError> {
        let tensor = self.base.read(config, parameter)?;
        if let Adapters::Own { file, base, .. } = &self.adapters
            // A context that is cut short takes fewer vectors of positions.
            && !parameter.may_be_longer()
            && base.crc32c.get(&parameter.name) != Some(&tensor.checksum())
        {
            return Err(CheckpointError::OtherBase {
                path: file.path().to_owned(),
                base: self.base.path(),
                name: parameter.name.clone(),
            });
        }
        Ok(tensor)
    }

    /// A parameter with what its adapter adds.
    pub(super) fn merged(
        &self,
        config: &ModelConfig,
        parameter: &Parameter,
    ) -> Result<HostTensor, CheckpointError> {
        let own = self.of_base(config, parameter)?;
        let adapter = match parameter.is_of_linear() {
            true => self.adapters.read(config, parameter)?,
            false => None,
        };
        Ok(match adapter {
            None => own,
            Some(adapter) => HostTensor::from_f32(&adapter.added_to(&own.to_f32())),
        })
    }
}
