//! Writes checkpoints that `torch.load` and the optimizer's `load_state_dict` take.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::layout::Layout;
use crate::files;
use crate::interop::{ElementType, InteropError, TensorInfo};

/// What a checkpoint for PyTorch holds, but for the elements of the tensors.
#[derive(Clone, Copy, Debug)]
pub struct TorchCheckpoint<'a> {
    /// The tensors of `model_state_dict`, in its order, of floats.
    pub tensors: &'a [TensorInfo],
    /// Pairs of a tensor and an earlier one that it is tied to, by their places in `tensors`. Both are
    /// views of one storage then, whose elements are asked for once.
    pub tied: &'a [(usize, usize)],
    /// The `optimizer_state_dict`.
    pub optimizer: Option<&'a AdamWState>,
    /// The `iteration`.
    pub iteration: Option<u64>,
    /// Further entries, beside those.
    pub metadata: &'a Map<String, Value>,
}

/// The state of a `torch.optim.AdamW`.
#[derive(Clone, Debug)]
pub struct AdamWState {
    /// Number of steps that were made. Torch keeps it as an f32.
    pub step: u64,
    /// How both moments are stored.
    pub element_type: ElementType,
    /// As `torch.optim.AdamW` was given them.
    pub groups: Vec<AdamWGroup>,
}

/// Parameters with common hyperparameters.
#[derive(Clone, Debug)]
pub struct AdamWGroup {
    /// Learning rate.
    pub lr: f64,
    /// Decay of both moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The group's parameters by their places in [`TorchCheckpoint::tensors`], in the order in which the
    /// optimizer gets them. Of tied tensors only the first is one.
    pub parameters: Vec<usize>,
}

/// Elements that [`fn@write`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Those of a tensor.
    Tensor(usize),
    /// The first moment of a tensor.
    ExpAvg(usize),
    /// The second moment of a tensor.
    ExpAvgSq(usize),
}

/// Writes `checkpoint` to the file at `path`, whole or not at all. `elements` gives those of one tensor at a
/// time, in the order of the file: row-major, little end first.
///
/// `torch.load` of PyTorch 2 takes the file with `weights_only=True`. That of 1.13 does so where the file has
/// neither an optimizer nor floats as metadata, since there it knows no float; else it has to be told
/// `weights_only=False`, as for files of its own.
///
/// # Errors
/// When a tensor has a type that is not of floats, or other elements than its shape says; when metadata has
/// a key of the checkpoint; and when the file cannot be written, or `elements` cannot be read.
pub fn write(
    path: &Path,
    checkpoint: &TorchCheckpoint<'_>,
    elements: &mut dyn FnMut(Content) -> io::Result<Vec<u8>>,
) -> Result<(), InteropError> {
    let layout = Layout::new(path, checkpoint);
    let written = files::write_with(path, |out| layout.write(out, elements));
    written.map_err(|error| {
        error
            .downcast::<InteropError>()
            .unwrap_or_else(|source| InteropError::Unwritable {
                path: path.to_owned(),
                source,
            })
    })
}
