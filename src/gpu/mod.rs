//! Everything that touches the GPU API: adapters, devices, buffers, pipelines, and the plan that
//! orders dispatches. Only this module imports `wgpu`.

pub mod adapter;
mod choices;
pub mod device;
pub mod dispatch;
pub mod error;
pub mod executable;
mod export;
mod heaps;
mod host_run;
mod inspect;
pub mod kernel;
mod lifetimes;
pub mod limits;
pub mod memory;
pub mod plan;
mod profile;
pub mod readback;
pub mod recorder;
mod step;
mod target;
pub mod tensor;
mod texture;
mod threads;
mod timing;
pub mod translate;
mod trusted;
pub mod validation;
mod wait;

pub use adapter::{AdapterClass, AdapterRequest, Backend};
pub use choices::{Choices, Chosen, Identity, Question, Reason};
pub use device::{Device, DeviceOptions, LimitSet};
pub use dispatch::Dispatch;
pub use error::GpuError;
pub use executable::Executable;
pub use host_run::HostRun;
pub use kernel::{Binding, Constant, Feature, Kernel, ParamsLayout, Requirement, Role, Vendor};
pub use memory::{Buffers, Memory, PersistentId};
pub use plan::{Plan, SectionId};
pub use profile::DispatchTime;
pub use readback::Readback;
pub use target::{ENOUGH_WORKGROUPS, Target};
pub use tensor::{Elements, Tensor, Texture, Window};
pub use timing::Elapsed;
