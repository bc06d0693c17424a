//! The table of rows: for every kernel its ragged shapes and its reference.

mod attention;
mod attention_cache;
mod attention_weights;
mod bias;
mod dequantize;
mod gelu;
mod half;
mod head_norm;
mod large;
mod layernorm;
mod layers;
mod logprobs;
mod loss;
mod matmul;
mod matmul_epilogue;
mod matmul_stage;
mod optimiser;
mod probe;
mod rmsnorm;
mod sample;
mod scale;
mod split;

use super::{Build, Case, Data, Row};
use crate::gpu::{AdapterClass, Kernel};

pub(super) fn all() -> Vec<Row> {
    let mut table = Table { rows: Vec::new() };
    layers::rows(&mut table);
    rmsnorm::rows(&mut table);
    layernorm::rows(&mut table);
    gelu::rows(&mut table);
    head_norm::rows(&mut table);
    bias::rows(&mut table);
    scale::rows(&mut table);
    matmul_stage::rows(&mut table);
    matmul_epilogue::rows(&mut table);
    matmul::rows(&mut table);
    half::rows(&mut table);
    dequantize::rows(&mut table);
    attention::rows(&mut table);
    attention_cache::rows(&mut table);
    attention_weights::rows(&mut table);
    loss::rows(&mut table);
    optimiser::rows(&mut table);
    logprobs::rows(&mut table);
    sample::rows(&mut table);
    probe::rows(&mut table);
    large::rows(&mut table);
    split::rows(&mut table);
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

    /// Adds a row for a kernel whose launches are the same for both classes.
    fn add_once(
        &mut self,
        kernel: &'static Kernel,
        shape: impl Into<String>,
        build: impl Fn(&mut Case) + Send + Sync + 'static,
    ) {
        self.push(None, kernel, shape.into(), Box::new(build));
    }

    /// Adds a row for one class of adapter.
    fn add_for(
        &mut self,
        class: AdapterClass,
        kernel: &'static Kernel,
        shape: impl Into<String>,
        build: impl Fn(&mut Case) + Send + Sync + 'static,
    ) {
        self.push(Some(class), kernel, shape.into(), Box::new(build));
    }

    fn push(
        &mut self,
        class: Option<AdapterClass>,
        kernel: &'static Kernel,
        shape: String,
        build: Build,
    ) {
        self.rows.push(Row {
            kernel,
            shape,
            class,
            binding_bytes: 0,
            large: false,
            obstacle: None,
            build,
        });
    }

    /// Says that the last row binds a tensor of so many bytes, which not every adapter can.
    fn last_binds(&mut self, bytes: u64) {
        if let Some(row) = self.rows.last_mut() {
            row.binding_bytes = bytes;
            row.large = true;
        }
    }

    /// Says why the last row's kernel cannot run its shape, if so.
    fn last_cannot_run(&mut self, obstacle: Option<&'static str>) {
        if let Some(row) = self.rows.last_mut() {
            row.obstacle = obstacle;
        }
    }

    /// Says that the last row takes long to make and to compare.
    fn last_is_large(&mut self) {
        if let Some(row) = self.rows.last_mut() {
            row.large = true;
        }
    }
}

/// Matrices of `rows` rows each, as one whose rows are theirs side by side.
fn side_by_side(rows: usize, parts: &[&[f64]]) -> Vec<f64> {
    let row_of = |part: &&[f64], row: usize| {
        let cols = part.len() / rows;
        part[row * cols..][..cols].to_vec()
    };
    (0..rows)
        .flat_map(|row| parts.iter().flat_map(move |part| row_of(part, row)))
        .collect()
}

/// An input of normally distributed values times `scale`, with gaps of so many columns between its rows.
fn random_view(case: &mut Case, (rows, cols): (usize, usize), scale: f64, gap: usize) -> Data {
    let values = case.random(rows, cols, scale).values;
    let nothing = vec![f64::NAN; rows * gap];
    let whole = side_by_side(rows, &[&values, &nothing]);
    let tensor = case.floats(rows, cols + gap, whole).tensor;
    Data {
        tensor: tensor.columns(0, cols),
        values,
    }
}

/// Element by element sum, for results that are added to what was there.
fn added(old: &[f64], new: Vec<f64>) -> Vec<f64> {
    old.iter().zip(new).map(|(old, new)| old + new).collect()
}
