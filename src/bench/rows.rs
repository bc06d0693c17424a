//! The table of rows: every kernel at shapes of a small model.

mod decoding;
mod layers;
mod matmul;
mod probe;

pub use matmul::matmul_rows;

use super::Row;
use crate::check::Case;
use crate::gpu::{Elements, Kernel, Tensor};
use crate::kernels::adamw::{self, AdamwSettings, AdamwTensors};
use crate::kernels::attention::{self, AttentionShape, Saved};
use crate::kernels::loss_scale::LossScale;
use crate::kernels::sample::{SETTINGS_WORDS, SampleRows, Sampling};
use crate::kernels::sum::Partials;
use crate::kernels::{
    cross_entropy, dequantize, embedding, grad_norm, half, logprobs, loss_scale, sample, softmax,
    sum,
};
use crate::reference;

/// Positions of a batch.
const ROWS: usize = 1024;
const D_MODEL: usize = 128;
const D_FF: usize = 344;
/// A width whose rows are no whole quads.
const ODD_WIDTH: usize = D_MODEL - 2;
const VOCAB: usize = 1024;
const PARAMETERS: usize = 1 << 20;

pub(super) fn all() -> Vec<Row> {
    let mut table = Table { rows: Vec::new() };
    matmul::rows(&mut table);
    attention_rows(&mut table);
    layers::rows(&mut table);
    embedding_rows(&mut table);
    loss_rows(&mut table);
    logprobs_rows(&mut table);
    decoding::rows(&mut table);
    optimiser_rows(&mut table);
    conversion_rows(&mut table);
    sample_rows(&mut table);
    probe::rows(&mut table);
    table.rows
}

struct Table {
    rows: Vec<Row>,
}

impl Table {
    fn add(
        &mut self,
        kernel: &'static Kernel,
        shape: String,
        build: impl Fn(&mut Case) + Send + Sync + 'static,
    ) {
        self.rows.push(Row {
            kernel,
            shape,
            alone: true,
            bytes: None,
            obstacle: None,
            product: None,
            build: Box::new(build),
        });
    }
}

fn tensor(case: &mut Case, rows: usize, cols: usize) -> Tensor {
    case.random(rows, cols, 1.0).tensor
}

fn attention_rows(table: &mut Table) {
    let shape = AttentionShape {
        batch: 8,
        query_rows: 128,
        key_rows: 128,
        num_heads: 4,
        num_kv_heads: 4,
        head_dim: 32,
    };
    use attention::Variant::{
        Cooperative, Cooperative8x8, Storage, StorageF16, Texture, TextureSubgroup,
    };
    for (kernel, variant) in [
        (&attention::FORWARD, Storage),
        (&attention::FORWARD_F16, StorageF16),
        (&attention::FORWARD_COOPERATIVE, Cooperative),
        (&attention::FORWARD_COOPERATIVE_8X8, Cooperative8x8),
        (&attention::FORWARD_TEXTURE, Texture),
        (&attention::FORWARD_TEXTURE_SUBGROUP, TextureSubgroup),
        (&attention::BACKWARD_QUERY, Storage),
        (&attention::BACKWARD_QUERY_F16, StorageF16),
        (&attention::BACKWARD_QUERY_COOPERATIVE, Cooperative),
        (&attention::BACKWARD_QUERY_COOPERATIVE_8X8, Cooperative8x8),
        (&attention::BACKWARD_QUERY_TEXTURE, Texture),
        (&attention::BACKWARD_QUERY_TEXTURE_SUBGROUP, TextureSubgroup),
        (&attention::BACKWARD_KEY_VALUE, Storage),
        (&attention::BACKWARD_KEY_VALUE_F16, StorageF16),
        (&attention::BACKWARD_KEY_VALUE_COOPERATIVE, Cooperative),
        (
            &attention::BACKWARD_KEY_VALUE_COOPERATIVE_8X8,
            Cooperative8x8,
        ),
        (&attention::BACKWARD_KEY_VALUE_TEXTURE, Texture),
        (
            &attention::BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
            TextureSubgroup,
        ),
    ] {
        table.add(
            kernel,
            "batch 8, time 128, heads 4x32".to_owned(),
            move |case| {
                let elements = if variant.is_of_halves() {
                    Elements::Halves
                } else {
                    Elements::Words
                };
                let [qkv, d_output] = [shape.qkv_cols(), D_MODEL]
                    .map(|cols| case.random_of(elements, ROWS, cols, 1.0).tensor);
                let qkv = shape.qkv(qkv);
                let plan = &mut case.plan;
                let (output, log_sum_exp) = attention::forward_by(plan, variant, qkv, shape, None);
                let saved = Saved {
                    qkv,
                    rotation: None,
                    output,
                    log_sum_exp,
                    documents: None,
                };
                attention::backward_by(plan, variant, saved, d_output, shape);
            },
        );
    }
}

fn embedding_rows(table: &mut Table) {
    for (kernel, cols) in [
        (&embedding::FORWARD, ODD_WIDTH),
        (&embedding::FORWARD_QUADS, D_MODEL),
        (&embedding::FORWARD_F16, D_MODEL),
        (&embedding::FORWARD_Q8_0, D_MODEL),
        (&embedding::BACKWARD_SEGMENTS, ODD_WIDTH),
        (&embedding::BACKWARD_SEGMENTS_QUADS, D_MODEL),
        (&embedding::BACKWARD, ODD_WIDTH),
        (&embedding::BACKWARD_QUADS, D_MODEL),
    ] {
        table.add(
            kernel,
            format!("vocab {VOCAB}, d_model {cols}, rows {ROWS}"),
            move |case| {
                let tokens: Vec<u32> = (0..ROWS).map(|_| case.below(VOCAB)).collect();
                let read = kernel.bindings[1];
                let weight = match read.elements {
                    _ if read.is_q8_0 => case.random_q8_0(VOCAB, cols, 1.0).tensor,
                    elements => {
                        let elements = elements.unwrap_or(Elements::Words);
                        case.random_of(elements, VOCAB, cols, 1.0).tensor
                    }
                };
                let d_weight = tensor(case, VOCAB, cols);
                let d_output = tensor(case, ROWS, cols);
                let sorted = embedding::Segments::sort(&tokens, VOCAB);
                let segments = embedding::SegmentTensors {
                    order: case.words(&sorted.order),
                    segment_starts: case.words(&sorted.segment_starts),
                    token_segments: case.words(&sorted.token_segments),
                };
                let tokens = case.words(&tokens);
                embedding::forward(&mut case.plan, &[weight], tokens);
                embedding::backward(&mut case.plan, d_output, &segments, &[d_weight], false);
            },
        );
    }
}

fn loss_rows(table: &mut Table) {
    for (kernel, vocab) in [
        (&cross_entropy::FORWARD, VOCAB - 1),
        (&cross_entropy::FORWARD_QUADS, VOCAB),
        (&cross_entropy::LOSS_SUM, VOCAB),
    ] {
        table.add(kernel, format!("{ROWS}x{vocab}"), move |case| {
            let targets: Vec<u32> = (0..ROWS).map(|_| case.below(vocab)).collect();
            let targets = case.words(&targets);
            let logits = tensor(case, ROWS, vocab);
            let [losses, total, scale] = [ROWS, 1, 1].map(|len| tensor(case, 1, len));
            cross_entropy::forward(&mut case.plan, logits, targets, losses, Some(scale), None);
            cross_entropy::loss_sum(&mut case.plan, losses, total, scale, false);
        });
    }
}

fn logprobs_rows(table: &mut Table) {
    for top in [0, logprobs::MAX_TOP] {
        let shape = format!("{ROWS}x{VOCAB}, top {top}");
        table.add(&logprobs::TOKEN_LOGPROBS, shape, move |case| {
            let tokens: Vec<u32> = (0..ROWS).map(|_| case.below(VOCAB)).collect();
            let tokens = case.words(&tokens);
            let logits = tensor(case, ROWS, VOCAB);
            let plan = &mut case.plan;
            let output = plan.scratch("logprobs", ROWS, logprobs::row_words(top));
            logprobs::token_logprobs(plan, logits, tokens, top, output);
        });
    }
}

/// Between f32 and what takes less memory.
fn conversion_rows(table: &mut Table) {
    for (kernel, cols) in [
        (&half::HALVE, D_MODEL + 1),
        (&half::HALVE_QUADS, D_MODEL),
        (&half::WIDEN, D_MODEL + 1),
        (&half::WIDEN_QUADS, D_MODEL),
    ] {
        table.add(kernel, format!("{ROWS}x{cols}"), move |case| {
            let input = case.random(ROWS, cols, 1.0);
            let halves = half::halve(&mut case.plan, input.tensor, None);
            half::widen(&mut case.plan, halves);
        });
    }
    for (kernel, elements) in [
        (&dequantize::DEQUANTIZE, Elements::Words),
        (&dequantize::DEQUANTIZE_F16, Elements::Halves),
    ] {
        table.add(kernel, format!("{ROWS}x{D_MODEL}"), move |case| {
            let input = case.random_q8_0(ROWS, D_MODEL, 1.0).tensor;
            let output = case.plan.scratch_of(elements, "output", ROWS, D_MODEL);
            dequantize::dequantize_into(&mut case.plan, input, output);
        });
    }
}

fn optimiser_rows(table: &mut Table) {
    for (kernel, len) in [
        (&sum::PARTIALS, D_MODEL * D_MODEL - 1),
        (&sum::PARTIALS_QUADS, D_MODEL * D_MODEL),
    ] {
        table.add(kernel, format!("16x{len}"), move |case| {
            let partials = tensor(case, 16, len);
            let output = tensor(case, 1, len);
            sum::sum_partials(&mut case.plan, partials, output, false);
        });
    }
    table.add(
        &sum::SEVERAL,
        format!("6 of 4x{}", D_MODEL * D_MODEL),
        |case| {
            let len = D_MODEL * D_MODEL;
            let output = tensor(case, 6, len);
            let sums = [0, 1, 2, 3, 4, 5].map(|row| Partials {
                partials: tensor(case, 4, len),
                output: output.slice_rows(row, 1),
                accumulate: false,
            });
            sum::sum_several(&mut case.plan, &sums);
        },
    );
    table.add(&loss_scale::UPDATE, format!("{PARAMETERS}"), |case| {
        let gradient = tensor(case, 1, PARAMETERS);
        let step = tensor(case, 1, adamw::STEP_WORDS);
        let state = case.words(&LossScale::default().to_words());
        let norm_and_clip = case.plan.scratch("norm_and_clip", 1, 2);
        let settings = AdamwSettings {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
        };
        let squares = grad_norm::squares(&mut case.plan, &[gradient]);
        let state = loss_scale::State(state);
        let inputs = (squares, step);
        loss_scale::update(&mut case.plan, inputs, norm_and_clip, state, 1.0, &settings);
    });
    for kernel in [&grad_norm::SQUARES, &grad_norm::CLIP, &adamw::UPDATE] {
        table.add(kernel, format!("{PARAMETERS}"), |case| {
            let [parameter, gradient, moment1] = [(); 3].map(|()| tensor(case, 1, PARAMETERS));
            let moment2 = case.floats(1, PARAMETERS, vec![1.0; PARAMETERS]).tensor;
            let settings = AdamwSettings {
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-8,
                weight_decay: 0.1,
            };
            let step = case
                .floats(1, adamw::STEP_WORDS, vec![1e-3, 0.1, 0.03])
                .tensor;
            let norm_and_clip = case.floats(1, 2, vec![1.0, 1.0]).tensor;
            let tensors = AdamwTensors {
                parameter,
                gradient,
                moment1,
                moment2,
            };
            grad_norm::norm_and_clip(&mut case.plan, &[gradient], norm_and_clip, 1.0);
            adamw::update(&mut case.plan, tensors, step, norm_and_clip, &settings);
        });
    }
}

fn sample_rows(table: &mut Table) {
    for kernel in [&softmax::FORWARD, &softmax::BACKWARD] {
        table.add(kernel, format!("{ROWS}x{VOCAB}"), |case| {
            let [input, d_output] = [(); 2].map(|()| case.random(ROWS, VOCAB, 1.0));
            let output = softmax::forward(&mut case.plan, input.tensor);
            softmax::backward(&mut case.plan, output, d_output.tensor);
            let want = reference::softmax::forward(&input.values, VOCAB);
            case.expect("output", output, want);
        });
    }
    const SAMPLES: usize = 8;
    const SAMPLED_VOCAB: usize = 8192;
    const CONTEXT: usize = 256;
    let plain = Sampling {
        temperature: 0.8,
        ..Sampling::default()
    };
    let [greedy, top_k, top_p, every] = [
        (0.0, None, None, None, 1.0),
        (0.8, Some(50), None, None, 1.0),
        (0.8, None, Some(0.9), None, 1.0),
        (0.8, Some(50), Some(0.9), Some(0.05), 1.1),
    ]
    .map(
        |(temperature, top_k, top_p, min_p, repetition_penalty)| Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            repetition_penalty,
        },
    );
    for (kernel, name, sampling) in [
        (&sample::FILTER, "greedy", greedy),
        (&sample::FILTER, "k 50", top_k),
        (&sample::FILTER, "p 0.9", top_p),
        (&sample::FILTER, "every filter", every),
        (&sample::DRAW, "all kept", plain),
    ] {
        let shape = format!("{SAMPLES}x{SAMPLED_VOCAB}, {name}");
        table.add(kernel, shape, move |case| {
            let logits = case.random(SAMPLES, SAMPLED_VOCAB, 3.0).tensor;
            let settings = (0..SAMPLES).flat_map(|row| sampling.words(CONTEXT, 1, row as u64));
            let settings: Vec<u32> = settings.collect();
            let rows = SampleRows {
                logits,
                settings: case.words(&settings).reshape(SAMPLES, SETTINGS_WORDS),
                context: case
                    .words(&[7; SAMPLES * CONTEXT])
                    .reshape(SAMPLES, CONTEXT),
            };
            let tokens = case.plan.scratch("tokens", 1, SAMPLES);
            sample::filter(&mut case.plan, &rows);
            sample::draw(&mut case.plan, logits, rows.settings, tokens);
        });
    }
}
