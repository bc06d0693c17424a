//! Rows of embedding, RoPE, SwiGLU, softmax and the partial sums.

use super::{Table, added, side_by_side};
use crate::check::Case;
use crate::gpu::{AdapterClass, Plan};
use crate::kernels::by_width;
use crate::kernels::rope::RopeTable;
use crate::kernels::sum::{Partials, Sums};
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
        table.add_once(&embedding::FORWARD_F16, &shape, move |case| {
            let tokens: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
            let weight = case.random_halves(vocab, d_model, 1.0);
            let tokens_tensor = case.words(&tokens);
            let output = embedding::forward(&mut case.plan, &[weight.tensor], tokens_tensor);
            let want = reference::embedding::forward(&weight.values, &tokens, d_model);
            case.expect_exactly("output", output, &want);
        });
        let blocks = d_model.next_multiple_of(32);
        let of_blocks = format!("vocab {vocab}, d_model {blocks}, rows {rows}");
        table.add_once(&embedding::FORWARD_Q8_0, of_blocks, move |case| {
            let d_model = blocks;
            let tokens: Vec<u32> = (0..rows).map(|_| case.below(vocab)).collect();
            let weight = case.random_q8_0(vocab, d_model, 1.0);
            let tokens_tensor = case.words(&tokens);
            let output = embedding::forward(&mut case.plan, &[weight.tensor], tokens_tensor);
            let want = reference::embedding::forward(&weight.values, &tokens, d_model);
            case.expect_exactly("output", output, &want);
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
        table.add_once(&rope::FORWARD, &shape, move |case| {
            // Behind the heads that are turned, one that stays as it is.
            let (rows, cols) = (batch * time, num_heads * head_dim);
            let heads = case.random(rows, cols, 1.0).values;
            let other = case.random(rows, head_dim, 1.0).values;
            let values = side_by_side(rows, &[&heads, &other]);
            let values = case.floats(rows, cols + head_dim, values).tensor;
            let angles = rope::angles(time, head_dim, THETA);
            let angles = angles.into_iter().map(f64::from).collect();
            let table = RopeTable {
                angles: case.floats(time, head_dim, angles).tensor,
            };
            rope::forward(&mut case.plan, table, values, num_heads);
            let want = reference::rope::forward(&heads, reference_shape);
            case.expect("values", values, side_by_side(rows, &[&want, &other]));
        });
    }
}

fn swiglu_rows(table: &mut Table) {
    for (rows, cols) in SHAPES {
        // At scale 30 the sigmoid saturates on both sides.
        for scale in [1.0, 30.0] {
            let shape = format!("{rows}x{cols}, scale {scale}");
            let kernels = [
                by_width(cols, &swiglu::FORWARD, &swiglu::FORWARD_QUADS),
                by_width(cols, &swiglu::BACKWARD, &swiglu::BACKWARD_QUADS),
            ];
            for (kernel, _) in kernels {
                table.add_once(kernel, &shape, move |case| {
                    swiglu_row(case, rows, cols, scale);
                });
            }
        }
    }
}

/// Forward and backward, with a gap of four columns between gate and up.
pub(super) fn swiglu_row(case: &mut Case, rows: usize, cols: usize, scale: f64) {
    let gate = case.random(rows, cols, scale).values;
    let up = case.random(rows, cols, 1.0).values;
    let d_output = case.random(rows, cols, 1.0);
    let nothing = vec![f64::NAN; 4 * rows];
    let gate_up = side_by_side(rows, &[&gate, &nothing, &up]);
    let gate_up = case.floats(rows, 2 * cols + 4, gate_up).tensor;
    let output = case.plan.scratch("output", rows, cols);
    swiglu::forward_into(&mut case.plan, gate_up, cols + 4, output);
    let d = swiglu::backward(&mut case.plan, gate_up, cols + 4, d_output.tensor);
    case.expect("output", output, reference::swiglu::forward(&gate, &up));
    let want = reference::swiglu::backward(&gate, &up, &d_output.values);
    case.expect("d_gate", d.columns(0, cols), want.0);
    case.expect("d_up", d.columns(cols + 4, cols), want.1);
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

/// Sums of some lengths to a buffer with gaps.
fn sums_row(case: &mut Case, lens: &[usize], accumulate: bool, push: fn(&mut Plan, Vec<Partials>)) {
    let total = lens.iter().map(|len| len.next_multiple_of(64)).sum();
    let before = case.random(1, total, 1.0);
    let mut want = before.values.clone();
    let mut sums = Vec::new();
    let mut first = 0;
    for (number, &len) in lens.iter().enumerate() {
        let partials = case.random(number + 2, len, 1.0);
        let output = before.tensor.slice(first, len);
        sums.push(Partials {
            partials: partials.tensor,
            output,
            accumulate,
        });
        let sum = reference::sum::sum_leading(&partials.values, len);
        for (place, value) in want[first..].iter_mut().zip(sum) {
            *place = if accumulate { *place + value } else { value };
        }
        first += len.next_multiple_of(64);
    }
    push(&mut case.plan, sums);
    case.expect("output", before.tensor, want);
}

fn sum_rows(table: &mut Table) {
    for accumulate in [false, true] {
        for lens in [&[4, 68][..], &[64, 4, 300, 8, 12, 128]] {
            let shape = format!("{lens:?}, accumulate {accumulate}");
            table.add_once(&sum::SEVERAL, shape, move |case| {
                sums_row(case, lens, accumulate, |plan, sums| {
                    sum::sum_several(plan, &sums)
                });
            });
        }
        // Two launches of several, and sums that go alone.
        let shape = format!("fourteen, accumulate {accumulate}");
        table.add_for(AdapterClass::Gpu, &sum::SEVERAL, shape, move |case| {
            let lens = [8, 4, 12, 7, 8, 8, 8, 8, 9, 16, 4, 8, 12, 8];
            sums_row(case, &lens, accumulate, |plan, all| {
                let mut sums = Sums::default();
                for sum in all {
                    sums.add(plan, sum.partials, sum.output, sum.accumulate);
                }
                sums.flush(plan);
            });
        });
    }
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
