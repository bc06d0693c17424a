//! The decoder: a table of parameters, and layers with forward beside backward.

pub mod attention;
pub mod block;
pub mod inputs;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod parameters;
pub mod pass;
pub mod transformer;

pub use inputs::{BatchShape, InputLayout};
pub use parameters::{ParameterId, ParameterMemory, ParameterTable};
pub use pass::Pass;
pub use transformer::Transformer;
