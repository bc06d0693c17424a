//! Models from one format to another: imported as our checkpoints, and exported for other programs.

mod export;
mod import;
mod report;

pub use export::{ExportFormat, export};
pub use import::import;
pub use report::Report;
