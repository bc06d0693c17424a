//! The decoder: layers with forward beside backward.

mod adapter;
pub mod attention;
pub mod block;
pub mod inputs;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod pass;
pub mod positions;
pub mod score;
pub mod transformer;

pub use inputs::{BatchShape, InputLayout};
pub use pass::Pass;
pub use transformer::Transformer;
