//! The table of rows: for every kernel its ragged shapes and its reference.

mod attention;
mod layers;
mod loss;
mod matmul;
mod optimiser;
mod sample;

use super::{Case, Row};
use crate::gpu::{AdapterClass, Kernel};

pub(super) fn all() -> Vec<Row> {
    let mut table = Table { rows: Vec::new() };
    layers::rows(&mut table);
    matmul::rows(&mut table);
    attention::rows(&mut table);
    loss::rows(&mut table);
    optimiser::rows(&mut table);
    sample::rows(&mut table);
    table.rows
}

struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a row for each class of adapter.
    fn add(
        &mut self,
        kernel: &'static Kernel,
        shape: impl Into<String>,
        build: impl Fn(&mut Case) + Clone + Send + Sync + 'static,
    ) {
        let shape = shape.into();
        for class in [AdapterClass::Gpu, AdapterClass::Software] {
            self.add_for(class, kernel, shape.clone(), build.clone());
        }
    }

    /// Adds a row for one class of adapter.
    fn add_for(
        &mut self,
        class: AdapterClass,
        kernel: &'static Kernel,
        shape: impl Into<String>,
        build: impl Fn(&mut Case) + Send + Sync + 'static,
    ) {
        self.rows.push(Row {
            kernel,
            shape: shape.into(),
            class,
            build: Box::new(build),
        });
    }
}

/// Element by element sum, for results that are added to what was there.
fn added(old: &[f64], new: Vec<f64>) -> Vec<f64> {
    old.iter().zip(new).map(|(old, new)| old + new).collect()
}
