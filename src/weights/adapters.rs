//! Low-rank adapters beside linear layers (Hu et al. 2021): which layers have one, and its two matrices.

use super::patterns::matches_pattern;
use super::shapes::Shape;
use super::{Init, ParameterId};
use crate::config::{ConfigError, LoraConfig};
use crate::parallel;

/// The adapter of a layer: `y += scale * (x A^T) B^T`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// `[rank, in]`.
    pub a: ParameterId,
    /// `[out, rank]`.
    pub b: ParameterId,
    /// `alpha / rank`.
    pub scale: f32,
    /// As it was given: the scale is rounded.
    pub alpha: f64,
}

/// The values of an adapter, in the host's memory.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterValues {
    /// `[rank, in]`.
    pub a: Vec<f32>,
    /// `[out, rank]`.
    pub b: Vec<f32>,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// What it adds is scaled by `alpha / rank`.
    pub alpha: f64,
}

impl AdapterValues {
    /// Number of elements of both matrices.
    pub fn len(&self) -> usize {
        self.a.len() + self.b.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `alpha / rank`.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// `weight + scale * B A`, summed in f64, for a weight `[out, in]`.
    #[allow(clippy::cast_possible_truncation, reason = "a weight is f32")]
    pub fn added_to(&self, weight: &[f32]) -> Vec<f32> {
        let cols = self.a.len() / self.rank.max(1);
        let scale = self.scale();
        let element = |index: usize| {
            let (row, col) = (index / cols, index % cols);
            let product = |k: usize| {
                let (b, a) = (self.b[row * self.rank + k], self.a[k * cols + col]);
                f64::from(b) * f64::from(a)
            };
            let delta: f64 = (0..self.rank).map(product).sum();
            (f64::from(weight[index]) + scale * delta) as f32
        };
        parallel::map_indices(weight.len(), element)
    }
}

/// What PEFT calls every linear layer but the head.
const ALL_LINEAR: &str = "all-linear";

/// The name of the matrix `which`, `A` or `B`, of the layer whose weight is `weight`.
pub fn adapter_name(weight: &str, which: char) -> String {
    let layer = weight.strip_suffix(".weight").unwrap_or(weight);
    format!("{layer}.lora_{which}.weight")
}

/// The name of the weight that a matrix of an adapter is beside, and which matrix it is.
pub fn adapted_name(name: &str) -> Option<(String, char)> {
    let layer = |which| name.strip_suffix(&format!(".lora_{which}.weight"));
    let found = ['A', 'B'].map(|which| layer(which).map(|layer| (layer, which)));
    let (layer, which) = found.into_iter().flatten().next()?;
    Some((format!("{layer}.weight"), which))
}

/// The weights among `shapes` that get adapters, by their places.
///
/// # Errors
/// When a target is in the name of no linear layer, or the rank is over the width of a layer.
pub(super) fn targets(shapes: &[Shape], lora: &LoraConfig) -> Result<Vec<usize>, ConfigError> {
    let linears = shapes.iter().enumerate().filter(|(_, s)| s.is_linear());
    let linears: Vec<(usize, &Shape)> = linears.collect();
    let is_of = |target: &str, shape: &Shape| {
        target == ALL_LINEAR || matches_pattern(layer_of(shape), target)
    };
    for target in &lora.targets {
        if !linears.iter().any(|(_, shape)| is_of(target, shape)) {
            let first = linears
                .iter()
                .filter_map(|(_, s)| layer_of(s).strip_prefix("layers.0."));
            let rule = format!(
                "no linear layer has '{target}' in its name; a layer has {}, and {ALL_LINEAR} stands for all of them",
                first.collect::<Vec<_>>().join(", ")
            );
            return Err(ConfigError::Invalid {
                key: "lora_targets",
                found: lora.targets.join(","),
                rule,
            });
        }
    }
    let is_target = |shape: &Shape| lora.targets.iter().any(|target| is_of(target, shape));
    let found = linears.into_iter().filter(|(_, shape)| is_target(shape));
    let found: Vec<(usize, &Shape)> = found.collect();
    if let Some((_, shape)) = found.iter().find(|(_, s)| lora.rank > s.rows.min(s.cols)) {
        return Err(ConfigError::Invalid {
            key: "lora_rank",
            found: lora.rank.to_string(),
            rule: format!(
                "{} is a matrix of {} x {}, whose rank is not higher than {}; choose less",
                layer_of(shape),
                shape.rows,
                shape.cols,
                shape.rows.min(shape.cols)
            ),
        });
    }
    match found.is_empty() {
        false => Ok(found.into_iter().map(|(index, _)| index).collect()),
        true => Err(ConfigError::Invalid {
            key: "lora_targets",
            found: "empty".to_owned(),
            rule: "no layer would be trained; leave it out for q_proj,v_proj".to_owned(),
        }),
    }
}

/// A and B of the adapter beside a weight, before they have a place: A as a linear layer's weight in PyTorch
/// (uniform up to one over the root of its inputs), B zero, so that the model starts as it was.
pub(super) fn matrices(weight: &Shape, rank: usize) -> [Shape; 2] {
    let bound = 1.0 / (weight.cols as f64).sqrt();
    let shape = |which, rows, cols, init| Shape {
        name: adapter_name(&weight.name, which),
        rows,
        cols,
        init,
    };
    [
        shape('A', rank, weight.cols, Init::Uniform { bound }),
        shape('B', weight.rows, rank, Init::ZeroMatrix),
    ]
}

fn layer_of(shape: &Shape) -> &str {
    shape.name.strip_suffix(".weight").unwrap_or(&shape.name)
}
