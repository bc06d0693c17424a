//! What a device holds of a model in training, in the host's memory: enough to build an engine again, on
//! this device or another.

use super::HostTensor;
use crate::kernels::loss_scale::LossScale;

/// Values and moments, in the order of the parameter table.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineState {
    /// The value of each parameter.
    pub parameters: Vec<HostTensor>,
    /// First and second moments of each parameter that is trained; none where training has not begun.
    pub moments: Option<[Vec<HostTensor>; 2]>,
    /// What gradients are multiplied with in mixed precision, and what decides how it changes.
    pub loss_scale: Option<LossScale>,
}
