//! The state of `torch.optim.AdamW` in a checkpoint, as moments of our parameters.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::torch::{Moment, OptimizerState, TorchFile};
use super::{InteropError, TensorInfo, TensorSource, elements};
use crate::weights::{HostTensor, Parameter, ParameterTable};

/// What AdamW has kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredMoments {
    /// First and second moments, in the order of the parameter table.
    pub moments: [Vec<HostTensor>; 2],
    /// Steps that were made.
    pub steps: u64,
    /// AdamW's settings, as keys of a run's config.
    pub settings: Map<String, Value>,
}

/// The moments of the parameters of `table`; none where the file has none.
pub(super) fn moments(
    file: &TorchFile,
    table: &ParameterTable,
) -> Result<Option<StoredMoments>, InteropError> {
    let Some(optimizer) = file.optimizer() else {
        return Ok(None);
    };
    if optimizer.parameters.iter().all(|p| p.moments.is_none()) {
        return Ok(None);
    }
    let refused = |name: &str, problem: String| InteropError::Tensor {
        path: file.path().to_owned(),
        name: name.to_owned(),
        problem,
    };
    let is_parameter = |info: &TensorInfo| table.iter().any(|p| p.name == info.name);
    let matched = file.match_optimizer(is_parameter)?;
    let mut all = [Vec::new(), Vec::new()];
    let mut steps = None;
    for parameter in table.iter() {
        let name = &parameter.name;
        let own = file.tensors().iter().position(|info| info.name == *name);
        let own = own.and_then(|index| matched[index]);
        let own = own.and_then(|index| optimizer.parameters[index].moments.as_ref());
        let own = own.ok_or_else(|| refused(name, "has no moments, and others have".to_owned()))?;
        if *steps.get_or_insert(own.step) != own.step {
            return Err(refused(
                name,
                format!("was stepped {} times, and others were not", own.step),
            ));
        }
        for (all, moment) in all.iter_mut().zip([&own.exp_avg, &own.exp_avg_sq]) {
            all.push(read(file, parameter, moment)?);
        }
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of steps, which torch keeps as a float"
    )]
    let steps = steps.unwrap_or(0.0) as u64;
    Ok(Some(StoredMoments {
        moments: all,
        steps,
        settings: settings(optimizer),
    }))
}

/// Those of the first group, with the largest decay of all.
fn settings(optimizer: &OptimizerState) -> Map<String, Value> {
    let mut settings = Map::new();
    let groups = || optimizer.groups.iter().map(|group| &group.settings);
    let first = groups().next();
    let of = |key: &str| first.and_then(|group| group.get(key));
    for (ours, theirs) in [("learning_rate", of("lr")), ("eps", of("eps"))] {
        if let Some(value) = theirs {
            settings.insert(ours.to_owned(), value.clone());
        }
    }
    if let Some([beta1, beta2]) = of("betas").and_then(Value::as_array).map(Vec::as_slice) {
        settings.insert("beta1".to_owned(), beta1.clone());
        settings.insert("beta2".to_owned(), beta2.clone());
    }
    let decays = groups().filter_map(|group| group.get("weight_decay")?.as_f64());
    if let Some(decay) = decays.reduce(f64::max) {
        settings.insert("weight_decay".to_owned(), decay.into());
    }
    settings
}

fn read(
    file: &TorchFile,
    parameter: &Parameter,
    moment: &Moment,
) -> Result<HostTensor, InteropError> {
    let bytes = file.read_moment(moment)?;
    let values = elements::to_f32(moment.info.element_type, &bytes, parameter.len());
    let values = values.map_err(|problem| InteropError::Tensor {
        path: file.path().to_owned(),
        name: moment.info.name.clone(),
        problem,
    })?;
    Ok(HostTensor::from_f32(&values))
}

impl TensorSource for Arc<TorchFile> {
    fn path(&self) -> &Path {
        self.as_ref().path()
    }

    fn tensors(&self) -> &[TensorInfo] {
        self.as_ref().tensors()
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        self.as_ref().read(index)
    }
}
