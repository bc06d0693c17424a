//! Gated linear unit with SiLU (Shazeer 2020).

use super::{FLAT_LANES, binding};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::PORTABLE;
use crate::gpu::{Dispatch, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(SwigluParams { len: u32 });

/// `silu(gate) * up`.
pub static FORWARD: Kernel = Kernel {
    name: "swiglu_forward",
    variant: PORTABLE,
    source: shader!("swiglu_forward.wgsl"),
    bindings: &[
        binding("gate", Role::In),
        binding("up", Role::In),
        binding("output", Role::Out),
    ],
    params: SwigluParams::LAYOUT,
    requires: &[],
};

/// Gradients for gate and up.
pub static BACKWARD: Kernel = Kernel {
    name: "swiglu_backward",
    variant: PORTABLE,
    source: shader!("swiglu_backward.wgsl"),
    bindings: &[
        binding("gate", Role::In),
        binding("up", Role::In),
        binding("d_output", Role::In),
        binding("d_gate", Role::Out),
        binding("d_up", Role::Out),
    ],
    params: SwigluParams::LAYOUT,
    requires: &[],
};

/// `silu(gate) * up`, element by element; all of one shape and stride.
pub fn forward(plan: &mut Plan, gate: Tensor, up: Tensor) -> Tensor {
    let output = plan.scratch_like("gated", gate);
    push(plan, &FORWARD, [gate, up, output], 5);
    output
}

/// Gradients for gate and up, from that of the output.
pub fn backward(plan: &mut Plan, gate: Tensor, up: Tensor, d_output: Tensor) -> (Tensor, Tensor) {
    let d_gate = plan.scratch_like("d_gate", gate);
    let d_up = plan.scratch_like("d_up", up);
    push(plan, &BACKWARD, [gate, up, d_output, d_gate, d_up], 10);
    (d_gate, d_up)
}

/// A lane a quad, in as many launches as the bindings ask for.
fn push<const N: usize>(
    plan: &mut Plan,
    kernel: &'static Kernel,
    tensors: [Tensor; N],
    flops_per_element: usize,
) {
    for rows in plan.row_blocks(&tensors, 1) {
        // What is computed in gaps between rows is never read.
        let blocks = tensors.map(|t| t.slice_rows(rows.start, rows.len()).with_gaps());
        let len = blocks[0].len();
        assert!(
            blocks.iter().all(|block| block.len() == len),
            "{} takes tensors that lie alike",
            kernel.label()
        );
        let params = SwigluParams { len: word(len) };
        plan.push(
            Dispatch::new(kernel, params, blocks.map(Tensor::into))
                .workgroups(flat_workgroups(len.div_ceil(4), FLAT_LANES))
                .flops(flops_per_element * rows.len() * tensors[0].cols),
        );
    }
}
