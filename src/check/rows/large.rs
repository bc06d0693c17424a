//! Rows past what one dimension of a grid or one binding of WebGPU's default limits holds.

use super::Table;
use crate::check::Data;
use crate::gpu::{AdapterClass, Elements};
use crate::kernels::{cross_entropy, embedding, rmsnorm, softmax, swiglu};
use crate::reference;

/// One row more than a dimension has workgroups, and not a multiple of any workgroup.
const ROWS: usize = 65_537;
/// One element more than a dimension of workgroups of 64 lanes takes.
const ELEMENTS: usize = 65_535 * 64 + 1;

pub(super) fn rows(table: &mut Table) {
    // Which lanes share a row does not matter here, so the class that takes fewer of them runs.
    let class = AdapterClass::Software;
    let shape = format!("{ROWS}x2");
    table.add_for(class, &softmax::FORWARD, &shape, |case| {
        let input = cheap(case, ROWS, 2);
        let output = softmax::forward(&mut case.plan, input.tensor);
        let want = reference::softmax::forward(&input.values, 2);
        case.expect("output", output, want);
    });
    table.add_for(class, &cross_entropy::FORWARD, &shape, |case| {
        let logits = cheap(case, ROWS, 2);
        let targets: Vec<u32> = (0..ROWS).map(|row| u32::from(row % 3 == 0)).collect();
        let targets_tensor = case.words(&targets);
        let losses = case.plan.scratch("losses", 1, ROWS);
        let scale = 0.5;
        let scale_tensor = case.floats(1, 1, vec![scale]).tensor;
        cross_entropy::forward(
            &mut case.plan,
            logits.tensor,
            targets_tensor,
            losses,
            Some(scale_tensor),
            None,
        );
        let want = reference::cross_entropy::forward(&logits.values, &targets);
        case.expect("losses", losses, want);
        let want = reference::cross_entropy::backward(&logits.values, &targets, scale);
        case.expect("logits", logits.tensor, want);
    });
    table.add_for(class, &rmsnorm::FORWARD, &shape, |case| {
        let (input, weight) = (cheap(case, ROWS, 2), cheap(case, 1, 2));
        let (output, inv_rms) = rmsnorm::forward(
            &mut case.plan,
            input.tensor,
            weight.tensor,
            1e-5,
            Elements::Words,
        );
        let want = reference::rmsnorm::forward(&input.values, &weight.values, 1e-5);
        case.expect("output", output, want.0);
        case.expect("inv_rms", inv_rms, want.1);
    });
    table.add_once(&swiglu::FORWARD, format!("1x{ELEMENTS}"), |case| {
        let gate_up = cheap(case, 1, 2 * ELEMENTS);
        let output = case.plan.scratch("output", 1, ELEMENTS);
        swiglu::forward_into(&mut case.plan, gate_up.tensor, ELEMENTS, output);
        let (gate, up) = gate_up.values.split_at(ELEMENTS);
        let want = reference::swiglu::forward(gate, up);
        case.expect("output", output, want);
    });
    past_the_portable_binding(table);
}

/// A table of 128 MiB and 512 bytes: one row more than WebGPU guarantees in one binding.
fn past_the_portable_binding(table: &mut Table) {
    const D_MODEL: usize = 128;
    const VOCAB: usize = (128 << 20) / 4 / D_MODEL + 1;
    let shape = format!("vocab {VOCAB}, d_model {D_MODEL}, rows 3");
    table.add_once(&embedding::FORWARD_QUADS, shape, |case| {
        let weight = cheap(case, VOCAB, D_MODEL);
        let last = u32::try_from(VOCAB - 1).expect("a token fits u32");
        let tokens = [last, 0, last / 2];
        let tokens_tensor = case.words(&tokens);
        let output = embedding::forward(&mut case.plan, &[weight.tensor], tokens_tensor);
        let want = reference::embedding::forward(&weight.values, &tokens, D_MODEL);
        case.expect_within("output", output, want, 0.0);
    });
    table.last_binds((VOCAB * D_MODEL * 4) as u64);
}

/// Values that cost less than random ones: multiples of 1/64 with a period of no tile's size.
pub(super) fn cheap(case: &mut crate::check::Case, rows: usize, cols: usize) -> Data {
    let values = (0..rows * cols).map(|i| (i % 509) as f64 / 64.0 - 4.0);
    case.floats(rows, cols, values.collect())
}
