//! Rows of embedding, RoPE, SwiGLU, softmax and the partial sums.

use super::{Table, added};
use crate::kernels::by_width;
use crate::kernels::rope::RopeTable;
use crate::kernels::{embedding, rope, softmax, sum, swiglu};
use crate::reference;

/// Ragged `[rows, cols]`: size one, around a workgroup of 8 and of 64 lanes, more columns than
/// lanes by far.
pub(super) const SHAPES: [(usize, usize); 8] = [
    (1, 1),
    (1, 67),
    (7, 8),
    (5, 9),
    (3, 63),
    (4, 64),
    (33, 65),
    (2, 1030),
];

pub(super) fn rows(table: &mut Table) {
    embedding_rows(table);
    rope_rows(table);
    swiglu_rows(table);
    softmax_rows(table);
    sum_rows(table);
}

fn embedding_rows(table: &mut Table) {
    // Few tokens in many rows make segments of 32 and more; many tokens leave most without a row.
    for (vocab, d_model, rows) in [
        (1, 1, 1),
        (3, 5, 130),
        (61, 33, 48),
        (7, 64, 65),
        (33, 24, 70),
        (300, 7, 9),
    ] {
        let shape = format!("vocab {vocab}, d_model {d_model}, rows {rows}");
        let forward = by_width(d_model, &embedding::FORWARD, &embedding::FORWARD_QUADS).0;
        table.add_once(forward, &shape, move |case| {
            let tokens: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
            let weight = case.random(vocab, d_model, 1.0);
            let tokens_tensor = case.words(&tokens);
            let output = embedding::forward(&mut case.plan, &[weight.tensor], tokens_tensor);
            case.expect(
                "output",
                output,
                reference::embedding::forward(&weight.values, &tokens, d_model),
            );
        });
        for accumulate in [false, true] {
            let build = move |case: &mut super::Case| {
                let tokens: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
                let d_output = case.random(rows, d_model, 1.0);
                let d_weight = case.random(vocab, d_model, 1.0);
                let sorted = embedding::Segments::sort(&tokens, vocab);
                let segments = embedding::SegmentTensors {
                    order: case.words(&sorted.order),
                    segment_starts: case.words(&sorted.segment_starts),
                    token_segments: case.words(&sorted.token_segments),
                };
                let plan = &mut case.plan;
                embedding::backward(
                    plan,
                    d_output.tensor,
                    &segments,
                    &[d_weight.tensor],
                    accumulate,
                );
                let mut want =
                    reference::embedding::backward(&d_output.values, &tokens, vocab, d_model);
                if accumulate {
                    want = added(&d_weight.values, want);
                }
                case.expect("d_weight", d_weight.tensor, want);
            };
            let shape = format!("{shape}, accumulate {accumulate}");
            let segments = by_width(
                d_model,
                &embedding::BACKWARD_SEGMENTS,
                &embedding::BACKWARD_SEGMENTS_QUADS,
            );
            let sums = by_width(d_model, &embedding::BACKWARD, &embedding::BACKWARD_QUADS);
            table.add_once(segments.0, &shape, build);
            table.add_once(sums.0, &shape, build);
        }
    }
}

fn rope_rows(table: &mut Table) {
    const THETA: f64 = 10_000.0;
    for (batch, time, num_heads, head_dim) in [
        (1, 1, 1, 2),
        (2, 5, 3, 16),
        (1, 70, 2, 32),
        (3, 9, 1, 80),
        (2, 11, 3, 14),
    ] {
        let shape = format!("batch {batch}, time {time}, heads {num_heads}, head_dim {head_dim}");
        let reference_shape = reference::rope::RopeShape {
            time,
            num_heads,
            head_dim,
            theta: THETA,
        };
        let forward = by_width(head_dim, &rope::FORWARD, &rope::FORWARD_QUADS).0;
        let backward = by_width(head_dim, &rope::BACKWARD, &rope::BACKWARD_QUADS).0;
        for (kernel, is_forward) in [(forward, true), (backward, false)] {
            table.add_once(kernel, &shape, move |case| {
                let values = case.random(batch * time, num_heads * head_dim, 1.0);
                let angles = rope::angles(time, head_dim, THETA);
                let angles = angles.into_iter().map(f64::from).collect();
                let table = RopeTable {
                    angles: case.floats(time, head_dim, angles).tensor,
                };
                let want = if is_forward {
                    rope::forward(&mut case.plan, table, values.tensor, num_heads);
                    reference::rope::forward(&values.values, reference_shape)
                } else {
                    rope::backward(&mut case.plan, table, values.tensor, num_heads);
                    reference::rope::backward(&values.values, reference_shape)
                };
                case.expect("values", values.tensor, want);
            });
        }
    }
}

fn swiglu_rows(table: &mut Table) {
    for (rows, cols) in SHAPES {
        // At scale 30 the sigmoid saturates on both sides.
        for scale in [1.0, 30.0] {
            let shape = format!("{rows}x{cols}, scale {scale}");
            table.add_once(&swiglu::FORWARD, &shape, move |case| {
                let gate = case.random(rows, cols, scale);
                let up = case.random(rows, cols, 1.0);
                let output = swiglu::forward(&mut case.plan, gate.tensor, up.tensor);
                case.expect(
                    "output",
                    output,
                    reference::swiglu::forward(&gate.values, &up.values),
                );
            });
            table.add_once(&swiglu::BACKWARD, &shape, move |case| {
                let gate = case.random(rows, cols, scale);
                let up = case.random(rows, cols, 1.0);
                let d_output = case.random(rows, cols, 1.0);
                let (d_gate, d_up) =
                    swiglu::backward(&mut case.plan, gate.tensor, up.tensor, d_output.tensor);
                let want = reference::swiglu::backward(&gate.values, &up.values, &d_output.values);
                case.expect("d_gate", d_gate, want.0);
                case.expect("d_up", d_up, want.1);
            });
        }
    }
}

fn softmax_rows(table: &mut Table) {
    for (rows, cols) in SHAPES {
        for scale in [0.0, 1.0, 30.0] {
            let shape = format!("{rows}x{cols}, scale {scale}");
            table.add(&softmax::FORWARD, &shape, move |case| {
                let input = case.random(rows, cols, scale);
                let output = softmax::forward(&mut case.plan, input.tensor);
                case.expect(
                    "output",
                    output,
                    reference::softmax::forward(&input.values, cols),
                );
            });
        }
        table.add(&softmax::BACKWARD, format!("{rows}x{cols}"), move |case| {
            let input = case.random(rows, cols, 1.0);
            let output = case.floats(rows, cols, reference::softmax::forward(&input.values, cols));
            let d_output = case.random(rows, cols, 1.0);
            let d_input = softmax::backward(&mut case.plan, output.tensor, d_output.tensor);
            // The reference sees the probabilities as f32 holds them.
            #[allow(clippy::cast_possible_truncation, reason = "rounds as the upload does")]
            let rounded: Vec<f64> = output.values.iter().map(|&v| f64::from(v as f32)).collect();
            case.expect(
                "d_input",
                d_input,
                reference::softmax::backward(&rounded, &d_output.values, cols),
            );
        });
    }
}

fn sum_rows(table: &mut Table) {
    for (partials, len) in SHAPES {
        for accumulate in [false, true] {
            let shape = format!("{partials}x{len}, accumulate {accumulate}");
            let kernel = by_width(len, &sum::PARTIALS, &sum::PARTIALS_QUADS).0;
            table.add_once(kernel, shape, move |case| {
                let input = case.random(partials, len, 1.0);
                let output = case.random(1, len, 1.0);
                sum::sum_partials(&mut case.plan, input.tensor, output.tensor, accumulate);
                let mut want = reference::sum::sum_leading(&input.values, len);
                if accumulate {
                    want = added(&output.values, want);
                }
                case.expect("output", output.tensor, want);
            });
        }
    }
}
