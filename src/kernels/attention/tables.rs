//! The kernels of attention, by variant.

use super::super::{SUBGROUPS, binding, either, halves};
use super::AttentionParams;
use crate::gpu::kernel::PORTABLE;
use crate::gpu::limits::WORKGROUP_MEMORY;
use crate::gpu::{Binding, Kernel, Requirement, Role};
use crate::shader;

/// Variant of the portable kernels that reads and writes halves.
pub(super) const PORTABLE_F16: &str = "portable_f16";

/// `operands` is the role of queries, keys and values, and of the output's gradient: they are
/// textures in some variants.
const fn forward_bindings(operands: Role) -> [Binding; 3] {
    [
        binding("qkv", operands),
        binding("output", Role::Out),
        binding("log_sum_exp", Role::Out),
    ]
}

/// Where the document of each query begins, or something that is not read.
const DOCUMENT_FIRST: Binding = either("document_first", Role::In);
/// Where the document of each key ends, or something that is not read.
const DOCUMENT_END: Binding = either("document_end", Role::In);

const fn and<const N: usize, const M: usize>(
    bindings: [Binding; N],
    last: Binding,
) -> [Binding; M] {
    let mut all = [last; M];
    let mut i = 0;
    while i < N {
        all[i] = bindings[i];
        i += 1;
    }
    all
}

const fn forward_bindings_of_documents(operands: Role) -> [Binding; 4] {
    and(forward_bindings(operands), DOCUMENT_FIRST)
}

const fn query_bindings_of_documents(operands: Role) -> [Binding; 8] {
    and(query_bindings(operands), DOCUMENT_FIRST)
}

const fn key_value_bindings_of_documents(operands: Role) -> [Binding; 7] {
    and(key_value_bindings(operands), DOCUMENT_END)
}

/// Both kernels of the backward pass write some columns of `d_qkv`.
const fn query_bindings(operands: Role) -> [Binding; 7] {
    [
        binding("qkv", operands),
        binding("d_output", operands),
        binding("output", Role::In),
        binding("log_sum_exp", Role::In),
        binding("angles", Role::In),
        binding("d_qkv", Role::Out),
        binding("delta", Role::Out),
    ]
}

const fn key_value_bindings(operands: Role) -> [Binding; 6] {
    [
        binding("qkv", operands),
        binding("d_output", operands),
        binding("log_sum_exp", Role::In),
        binding("delta", Role::In),
        binding("angles", Role::In),
        binding("d_qkv", Role::Out),
    ]
}

const FORWARD_HALVES: [Binding; 3] = [
    halves("qkv", Role::In),
    halves("output", Role::Out),
    binding("log_sum_exp", Role::Out),
];

const QUERY_HALVES: [Binding; 7] = [
    halves("qkv", Role::In),
    halves("d_output", Role::In),
    halves("output", Role::In),
    binding("log_sum_exp", Role::In),
    binding("angles", Role::In),
    halves("d_qkv", Role::Out),
    binding("delta", Role::Out),
];

const KEY_VALUE_HALVES: [Binding; 6] = [
    halves("qkv", Role::In),
    halves("d_output", Role::In),
    binding("log_sum_exp", Role::In),
    binding("delta", Role::In),
    binding("angles", Role::In),
    halves("d_qkv", Role::Out),
];

/// What kernels by matrices of 16x16 need, with so many bytes of workgroup memory.
const fn cooperative(at_least: u64) -> [Requirement; 2] {
    let name = WORKGROUP_MEMORY;
    [
        Requirement::Matrices(16),
        Requirement::Limit { name, at_least },
    ]
}

const COOPERATIVE_8X8: &[Requirement] = &[Requirement::Matrices(8)];

/// Output and log-sum-exp of each query row.
pub static FORWARD: Kernel = Kernel {
    name: "attention_forward",
    variant: PORTABLE,
    source: shader!("attention/attention_forward.wgsl"),
    bindings: &forward_bindings_of_documents(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] from halves to halves.
pub static FORWARD_F16: Kernel = Kernel {
    variant: PORTABLE_F16,
    bindings: &and::<3, 4>(FORWARD_HALVES, DOCUMENT_FIRST),
    ..FORWARD
};

/// [`FORWARD_F16`] by cooperative matrices of 16x16.
pub static FORWARD_COOPERATIVE: Kernel = Kernel {
    variant: "cooperative",
    source: shader!("attention/attention_forward.cooperative.wgsl"),
    bindings: &FORWARD_HALVES,
    requires: &cooperative(29_200),
    ..FORWARD_F16
};

/// The same by those of 8x8.
pub static FORWARD_COOPERATIVE_8X8: Kernel = Kernel {
    variant: "cooperative_8x8",
    requires: COOPERATIVE_8X8,
    ..FORWARD_COOPERATIVE
};

/// [`FORWARD`] with operands in textures.
pub static FORWARD_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_forward.texture.wgsl"),
    bindings: &forward_bindings_of_documents(Role::Texture),
    ..FORWARD
};

/// [`FORWARD_TEXTURE`] by subgroups that share what their lanes load.
pub static FORWARD_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_forward.texture_subgroup.wgsl"),
    bindings: &forward_bindings(Role::Texture),
    requires: SUBGROUPS,
    ..FORWARD_TEXTURE
};

/// Gradient for the queries, and the dot product of output and its gradient for each query row.
pub static BACKWARD_QUERY: Kernel = Kernel {
    name: "attention_backward_query",
    variant: PORTABLE,
    source: shader!("attention/attention_backward_query.wgsl"),
    bindings: &query_bindings_of_documents(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_QUERY`] from halves to halves.
pub static BACKWARD_QUERY_F16: Kernel = Kernel {
    variant: PORTABLE_F16,
    bindings: &and::<7, 8>(QUERY_HALVES, DOCUMENT_FIRST),
    ..BACKWARD_QUERY
};

/// [`BACKWARD_QUERY_F16`] by cooperative matrices of 16x16.
pub static BACKWARD_QUERY_COOPERATIVE: Kernel = Kernel {
    variant: "cooperative",
    source: shader!("attention/attention_backward_query.cooperative.wgsl"),
    bindings: &QUERY_HALVES,
    requires: &cooperative(32_000),
    ..BACKWARD_QUERY_F16
};

/// The same by those of 8x8.
pub static BACKWARD_QUERY_COOPERATIVE_8X8: Kernel = Kernel {
    variant: "cooperative_8x8",
    requires: COOPERATIVE_8X8,
    ..BACKWARD_QUERY_COOPERATIVE
};

/// [`BACKWARD_QUERY`] with operands in textures.
pub static BACKWARD_QUERY_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_backward_query.texture.wgsl"),
    bindings: &query_bindings_of_documents(Role::Texture),
    ..BACKWARD_QUERY
};

/// [`BACKWARD_QUERY_TEXTURE`] by subgroups that share what their lanes load.
pub static BACKWARD_QUERY_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_backward_query.texture_subgroup.wgsl"),
    bindings: &query_bindings(Role::Texture),
    requires: SUBGROUPS,
    ..BACKWARD_QUERY_TEXTURE
};

/// Gradients for keys and values.
pub static BACKWARD_KEY_VALUE: Kernel = Kernel {
    name: "attention_backward_key_value",
    variant: PORTABLE,
    source: shader!("attention/attention_backward_key_value.wgsl"),
    bindings: &key_value_bindings_of_documents(Role::In),
    params: AttentionParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_KEY_VALUE`] from halves to halves.
pub static BACKWARD_KEY_VALUE_F16: Kernel = Kernel {
    variant: PORTABLE_F16,
    bindings: &and::<6, 7>(KEY_VALUE_HALVES, DOCUMENT_END),
    ..BACKWARD_KEY_VALUE
};

/// [`BACKWARD_KEY_VALUE_F16`] by cooperative matrices of 16x16.
pub static BACKWARD_KEY_VALUE_COOPERATIVE: Kernel = Kernel {
    variant: "cooperative",
    source: shader!("attention/attention_backward_key_value.cooperative.wgsl"),
    bindings: &KEY_VALUE_HALVES,
    requires: &cooperative(32_256),
    ..BACKWARD_KEY_VALUE_F16
};

/// The same by those of 8x8.
pub static BACKWARD_KEY_VALUE_COOPERATIVE_8X8: Kernel = Kernel {
    variant: "cooperative_8x8",
    requires: COOPERATIVE_8X8,
    ..BACKWARD_KEY_VALUE_COOPERATIVE
};

/// [`BACKWARD_KEY_VALUE`] with operands in textures.
pub static BACKWARD_KEY_VALUE_TEXTURE: Kernel = Kernel {
    variant: "texture",
    source: shader!("attention/attention_backward_key_value.texture.wgsl"),
    bindings: &key_value_bindings_of_documents(Role::Texture),
    ..BACKWARD_KEY_VALUE
};

/// [`BACKWARD_KEY_VALUE_TEXTURE`] by subgroups that share what their lanes load.
pub static BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP: Kernel = Kernel {
    variant: "texture_subgroup",
    source: shader!("attention/attention_backward_key_value.texture_subgroup.wgsl"),
    bindings: &key_value_bindings(Role::Texture),
    requires: SUBGROUPS,
    ..BACKWARD_KEY_VALUE_TEXTURE
};
