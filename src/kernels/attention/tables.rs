//! The kernels of attention, by variant.

use super::super::{SUBGROUPS, binding};
use super::{AttentionParams, DeltaParams};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::{Binding, Kernel, Role};
use crate::shader;

/// `operands` is the role of queries, keys and values, and of the output's gradient: they are
/// textures in some variants.
const fn forward_bindings(operands: Role) -> [Binding; 5] {
    [
        binding("query", operands),
        binding("key", operands),
        binding("value", operands),
        binding("output", Role::Out),
        binding("log_sum_exp", Role::Out),
    ]
}

/// Output and log-sum-exp of each query row.
pub static FORWARD: Kernel = Kernel {
    name: "attention_forward",
    variant: PORTABLE,
    source: shader!("attention/attention_forward.wgsl"),
    bindings: &forward_bindings(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] with operands in textures.
pub static FORWARD_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_forward.texture.wgsl"),
    bindings: &forward_bindings(Role::Texture),
    ..FORWARD
};

/// [`FORWARD_TEXTURE`] by subgroups that share what their lanes load.
pub static FORWARD_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_forward.texture_subgroup.wgsl"),
    requires: SUBGROUPS,
    ..FORWARD_TEXTURE
};

/// Dot product of output and its gradient, a number a query row.
pub static BACKWARD_DELTA: Kernel = Kernel {
    name: "attention_backward_delta",
    variant: PORTABLE,
    source: shader!("attention/attention_backward_delta.wgsl"),
    bindings: &[
        binding("output", Role::In),
        binding("d_output", Role::In),
        binding("delta", Role::Out),
    ],
    params: DeltaParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_DELTA`] for rows of whole quads.
pub static BACKWARD_DELTA_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_DELTA
};

const fn backward_inputs(operands: Role) -> [Binding; 6] {
    [
        binding("query", operands),
        binding("key", operands),
        binding("value", operands),
        binding("d_output", operands),
        binding("log_sum_exp", Role::In),
        binding("delta", Role::In),
    ]
}

const fn query_bindings(operands: Role) -> [Binding; 7] {
    let [a, b, c, d, e, f] = backward_inputs(operands);
    [a, b, c, d, e, f, binding("d_query", Role::Out)]
}

const fn key_value_bindings(operands: Role) -> [Binding; 8] {
    let [a, b, c, d, e, f] = backward_inputs(operands);
    [
        a,
        b,
        c,
        d,
        e,
        f,
        binding("d_key", Role::Out),
        binding("d_value", Role::Out),
    ]
}

/// The variants that turn a rotated query's or key's gradient back also read the angles, and the one
/// for queries computes delta itself.
const fn rotated_query_bindings() -> [Binding; 9] {
    let [q, k, v, d_output, log_sum_exp, _, d_query] = query_bindings(Role::Texture);
    let output = binding("output", Role::In);
    let angles = binding("angles", Role::In);
    let delta = binding("delta", Role::Out);
    [
        q,
        k,
        v,
        d_output,
        output,
        log_sum_exp,
        angles,
        d_query,
        delta,
    ]
}

const fn rotated_key_value_bindings() -> [Binding; 9] {
    let [a, b, c, d, e, f, d_key, d_value] = key_value_bindings(Role::Texture);
    let angles = binding("angles", Role::In);
    [a, b, c, d, e, f, angles, d_key, d_value]
}

/// Gradient for the queries.
pub static BACKWARD_QUERY: Kernel = Kernel {
    name: "attention_backward_query",
    variant: PORTABLE,
    source: shader!("attention/attention_backward_query.wgsl"),
    bindings: &query_bindings(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_QUERY`] with operands in textures.
pub static BACKWARD_QUERY_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_backward_query.texture.wgsl"),
    bindings: &query_bindings(Role::Texture),
    ..BACKWARD_QUERY
};

/// [`BACKWARD_QUERY_TEXTURE`] by subgroups that share what their lanes load.
pub static BACKWARD_QUERY_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_backward_query.texture_subgroup.wgsl"),
    bindings: &rotated_query_bindings(),
    requires: SUBGROUPS,
    ..BACKWARD_QUERY_TEXTURE
};

/// Gradients for keys and values.
pub static BACKWARD_KEY_VALUE: Kernel = Kernel {
    name: "attention_backward_key_value",
    variant: PORTABLE,
    source: shader!("attention/attention_backward_key_value.wgsl"),
    bindings: &key_value_bindings(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_KEY_VALUE`] with operands in textures.
pub static BACKWARD_KEY_VALUE_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_backward_key_value.texture.wgsl"),
    bindings: &key_value_bindings(Role::Texture),
    ..BACKWARD_KEY_VALUE
};

/// [`BACKWARD_KEY_VALUE_TEXTURE`] by subgroups that share what their lanes load.
pub static BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_backward_key_value.texture_subgroup.wgsl"),
    bindings: &rotated_key_value_bindings(),
    requires: SUBGROUPS,
    ..BACKWARD_KEY_VALUE_TEXTURE
};
