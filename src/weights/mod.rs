//! Weights: what there are of a model's, by name, shape, storage type and role; where they lie on a
//! device; and how files hold them. Below checkpoints, training and decoding, and above the device.

mod adapters;
mod file;
mod host;
mod memory;
mod packing;
mod patterns;
mod shapes;
mod state;
mod storage;
mod table;
mod write;

pub use adapters::{Adapter, AdapterValues, adapted_name, adapter_name};
pub use file::{WeightsError, WeightsFile};
pub use host::HostTensor;
pub use memory::{FlatIds, ParameterMemory};
pub use patterns::matches_pattern;
pub use state::EngineState;
pub use storage::StorageType;
pub use table::{Init, MOST_UNPACKED, Parameter, ParameterId, ParameterPart, ParameterTable, Role};
pub use write::write;
pub(crate) use write::{Entry, write_tensors};
