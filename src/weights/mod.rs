//! Weights: what there are of a model's, by name, shape, storage type and role; where they lie on a
//! device; and how files hold them. Below checkpoints, training and decoding, and above the device.

mod file;
mod host;
mod state;
mod storage;
mod table;

pub use file::{WeightsError, WeightsFile, write};
pub use host::HostTensor;
pub use state::EngineState;
pub use storage::StorageType;
pub use table::{
    FlatIds, Init, Parameter, ParameterId, ParameterMemory, ParameterPart, ParameterTable, Role,
};
