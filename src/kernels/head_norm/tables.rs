//! What the kernels of heads' norms bind.

use super::super::binding;
use super::{ForwardParams, InputParams, WeightParams};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Kernel, Role};
use crate::shader;

/// Normalises queries and keys, copies values, and keeps the inverse root mean square of each head.
pub static FORWARD: Kernel = Kernel {
    name: "head_norm_forward",
    variant: PORTABLE,
    source: shader!("head_norm/head_norm_forward.wgsl"),
    bindings: &[
        binding("projected", Role::In),
        binding("query_gain", Role::In),
        binding("key_gain", Role::In),
        binding("normed", Role::Out),
        binding("inv_rms", Role::Out),
    ],
    params: ForwardParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for heads of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// Gradient for queries and keys as they were projected, in place.
pub static BACKWARD_INPUT: Kernel = Kernel {
    name: "head_norm_backward_input",
    variant: PORTABLE,
    source: shader!("head_norm/head_norm_backward_input.wgsl"),
    bindings: &[
        binding("projected", Role::In),
        binding("query_gain", Role::In),
        binding("key_gain", Role::In),
        binding("inv_rms", Role::In),
        binding("d_heads", Role::InOut),
    ],
    params: InputParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_INPUT`] for heads of whole quads.
pub static BACKWARD_INPUT_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_INPUT
};

/// Gradients for both gains, one partial sum of each a block of rows.
pub static BACKWARD_WEIGHT: Kernel = Kernel {
    name: "head_norm_backward_weight",
    variant: PORTABLE,
    source: shader!("head_norm/head_norm_backward_weight.wgsl"),
    bindings: &[
        binding("projected", Role::In),
        binding("inv_rms", Role::In),
        binding("d_normed", Role::In),
        binding("query_partials", Role::Out),
        binding("key_partials", Role::Out),
    ],
    params: WeightParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_WEIGHT`] for heads of whole quads.
pub static BACKWARD_WEIGHT_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_WEIGHT
};
