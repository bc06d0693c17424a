//! Between words and 2-byte floats (IEEE 754 binary16), rounded to nearest and ties to even.

use super::{FLAT_LANES, binding, by_width, either, halves};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{PORTABLE, QUADS};
use crate::gpu::tensor::HALVES_MULTIPLE;
use crate::gpu::{Dispatch, Elements, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(HalveParams {
    rows: u32,
    cols: u32,
    input_stride: u32,
    quads: u32,
    quad_stride: u32
});
params!(WidenParams {
    rows: u32,
    cols: u32,
    output_stride: u32,
    quads: u32,
    quad_stride: u32
});

/// Words to halves.
pub static HALVE: Kernel = Kernel {
    name: "halve",
    variant: PORTABLE,
    source: shader!("half/halve.wgsl"),
    bindings: &[
        binding("input", Role::In),
        either("factor", Role::In),
        halves("output", Role::Out),
    ],
    params: HalveParams::LAYOUT,
    requires: &[],
};

/// [`HALVE`] for rows of whole quads.
pub static HALVE_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..HALVE
};

/// Halves to words.
pub static WIDEN: Kernel = Kernel {
    name: "widen",
    variant: PORTABLE,
    source: shader!("half/widen.wgsl"),
    bindings: &[halves("input", Role::In), binding("output", Role::Out)],
    params: WidenParams::LAYOUT,
    requires: &[],
};

/// [`WIDEN`] for rows of whole quads.
pub static WIDEN_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..WIDEN
};

/// `input` `[rows, cols]` rounded to halves, times `factor` `[1]` if there is one.
pub fn halve(plan: &mut Plan, input: Tensor, factor: Option<Tensor>) -> Tensor {
    let output = plan.scratch_halves("halved", input.rows, input.cols);
    halve_into(plan, input, factor, output);
    output
}

/// [`halve`] into a given tensor of halves.
///
/// # Panics
/// If the shapes differ: a bug of the caller.
pub fn halve_into(plan: &mut Plan, input: Tensor, factor: Option<Tensor>, output: Tensor) {
    let shape = |t: Tensor| (t.rows, t.cols);
    assert_eq!(shape(input), shape(output), "{input:?} to {output:?}");
    let (kernel, _) = by_width(input.cols | input.row_stride, &HALVE, &HALVE_QUADS);
    for rows in plan.row_blocks(&[input, output], 1) {
        let [input, output] = [input, output].map(|t| t.slice_rows(rows.start, rows.len()));
        // The gap behind a row of a view of some columns belongs to others.
        let quads = output.cols.next_multiple_of(HALVES_MULTIPLE) / 4;
        let params = HalveParams {
            rows: word(rows.len()),
            cols: word(input.cols),
            input_stride: word(input.row_stride),
            quads: word(quads),
            quad_stride: word(output.row_stride / 4),
        };
        let bindings = [input.into(), factor.unwrap_or(input).into(), output.into()];
        plan.push(
            Dispatch::new(kernel, params, bindings)
                .constant("SCALED", factor.is_some().into())
                .workgroups(flat_workgroups(rows.len() * quads, FLAT_LANES)),
        );
    }
}

/// `tensor` as kernels of words take it: itself, or [`widen`] of it.
pub fn in_words(plan: &mut Plan, tensor: Tensor) -> Tensor {
    match tensor.elements {
        Elements::Words => tensor,
        Elements::Halves => widen(plan, tensor),
    }
}

/// `input` `[rows, cols]`, which is of halves, as words.
pub fn widen(plan: &mut Plan, input: Tensor) -> Tensor {
    let output = plan.scratch("widened", input.rows, input.cols);
    widen_into(plan, input, output);
    output
}

/// [`widen`] into a given tensor of words.
///
/// # Panics
/// If the shapes differ: a bug of the caller.
pub fn widen_into(plan: &mut Plan, input: Tensor, output: Tensor) {
    let shape = |t: Tensor| (t.rows, t.cols);
    assert_eq!(shape(input), shape(output), "{input:?} to {output:?}");
    let (kernel, _) = by_width(output.cols | output.row_stride, &WIDEN, &WIDEN_QUADS);
    for rows in plan.row_blocks(&[input, output], 1) {
        let [input, output] = [input, output].map(|t| t.slice_rows(rows.start, rows.len()));
        let quads = input.cols.div_ceil(4);
        let params = WidenParams {
            rows: word(rows.len()),
            cols: word(input.cols),
            output_stride: word(output.row_stride),
            quads: word(quads),
            quad_stride: word(input.row_stride / 4),
        };
        plan.push(
            Dispatch::new(kernel, params, [input.into(), output.into()])
                .workgroups(flat_workgroups(rows.len() * quads, FLAT_LANES)),
        );
    }
}
