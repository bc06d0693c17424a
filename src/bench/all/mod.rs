//! Everything that is measured of one adapter, within a time budget, as one page: the check, the
//! ceilings, matrix products, training steps and generation.

mod budget;
mod checked;
#[cfg(test)]
mod example;
mod markdown;
mod page;
mod parts;
mod run;

pub use page::{
    CheckFigures, Entry, FORMAT, GenerationFigures, KernelCheck, Outcome, Page, ProductFigures,
    TrainingFigures,
};
pub use parts::PRECISIONS;
pub use run::{Options, run};
