//! Checks the f64 reference itself: gradients against finite differences, values against hand-made cases.

mod layers;
mod sampling;
mod transformer;

use gpu_tlm::reference::adamw::{self, AdamwStep};
use gpu_tlm::reference::attention::{self, AttentionShape};
use gpu_tlm::reference::matmul::{self, MatmulShape};
use gpu_tlm::reference::rope::{self, RopeShape};
use gpu_tlm::reference::{
    cross_entropy, embedding, grad_norm, logprobs, philox, rmsnorm, softmax, sum, swiglu,
};

/// How far `got` may be from `want`: `err <= atol + rtol * |want|`.
#[derive(Clone, Copy)]
struct Tolerance {
    atol: f64,
    rtol: f64,
}

/// Two orders of the same f64 arithmetic: a few hundred roundings of 1e-16.
const ROUNDING: Tolerance = Tolerance {
    atol: 1e-13,
    rtol: 1e-13,
};

/// Central differences of step 1e-5: the third derivative adds about 1e-10, and the rounding of a
/// loss of about 10 another 1e-10; both are multiplied by 100 for the steeper cases.
const DIFFERENCES: Tolerance = Tolerance {
    atol: 1e-8,
    rtol: 1e-7,
};

/// Panics with the name, the index and both values where they differ by more than the tolerance.
#[track_caller]
fn assert_close(name: &str, got: &[f64], want: &[f64], tolerance: Tolerance) {
    assert_eq!(got.len(), want.len(), "{name}: lengths");
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(
            error <= tolerance.atol + tolerance.rtol * want.abs(),
            "{name}[{index}]: got {got:e}, want {want:e}"
        );
    }
}

/// Compares `gradient` with the central difference of `loss` in every element of `input`.
#[track_caller]
fn assert_gradient(name: &str, input: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    let step = 1e-5;
    let mut moved = input.to_vec();
    let mut differences = Vec::with_capacity(input.len());
    for index in 0..input.len() {
        moved[index] = input[index] + step;
        let above = loss(&moved);
        moved[index] = input[index] - step;
        let below = loss(&moved);
        moved[index] = input[index];
        differences.push((above - below) / (2.0 * step));
    }
    assert_close(name, gradient, &differences, DIFFERENCES);
}

/// `len` fixed values in [-1, 1) that depend on `seed`: a linear congruential generator.
fn values(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    next();
    (0..len).map(|_| next()).collect()
}

fn scaled(values: &[f64], factor: f64) -> Vec<f64> {
    values.iter().map(|value| value * factor).collect()
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| a * b).sum()
}

fn transpose(input: &[f64], cols: usize) -> Vec<f64> {
    let rows = input.len() / cols;
    let mut output = vec![0.0; input.len()];
    for row in 0..rows {
        for col in 0..cols {
            output[col * rows + row] = input[row * cols + col];
        }
    }
    output
}

#[test]
fn tolerance_rejects_nan() {
    let caught = std::panic::catch_unwind(|| assert_close("nan", &[f64::NAN], &[0.0], DIFFERENCES));
    assert!(caught.is_err());
}

#[test]
fn matmul_forms_agree_with_hand_made_products() {
    let shape = MatmulShape { m: 2, n: 2, k: 3 };
    let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let b = [7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
    let want = [58.0, 64.0, 139.0, 154.0];
    assert_close("nn", &matmul::nn(&a, &b, shape), &want, ROUNDING);
    for (m, n, k) in [(1, 1, 1), (1, 7, 3), (5, 1, 2), (4, 6, 17)] {
        let shape = MatmulShape { m, n, k };
        let (a, b) = (values(1, m * k), values(2, k * n));
        let columns = transpose(&b, n);
        let want: Vec<f64> = (0..m * n)
            .map(|index| dot(&a[index / n * k..][..k], &columns[index % n * k..][..k]))
            .collect();
        let nn = matmul::nn(&a, &b, shape);
        let nt = matmul::nt(&a, &columns, shape);
        let tn = matmul::tn(&transpose(&a, k), &b, shape);
        assert_close(&format!("nn {shape:?}"), &nn, &want, ROUNDING);
        assert_close(&format!("nt {shape:?}"), &nt, &want, ROUNDING);
        assert_close(&format!("tn {shape:?}"), &tn, &want, ROUNDING);
    }
}

#[test]
fn embedding_looks_up_rows_and_adds_gradients_by_token() {
    let (vocab, d_model) = (4, 3);
    let weight = values(3, vocab * d_model);
    let tokens = [2, 0, 2, 2, 3];
    let output = embedding::forward(&weight, &tokens, d_model);
    assert_close("row 0", &output[..3], &weight[6..9], ROUNDING);
    assert_close("row 4", &output[12..], &weight[9..], ROUNDING);
    let d_output = values(4, tokens.len() * d_model);
    let d_weight = embedding::backward(&d_output, &tokens, vocab, d_model);
    assert_eq!(d_weight[3..6], [0.0; 3], "token 1 does not occur");
    assert_gradient("d_weight", &weight, &d_weight, |weight| {
        dot(&embedding::forward(weight, &tokens, d_model), &d_output)
    });
}

#[test]
fn rmsnorm_matches_its_formula() {
    // The mean square of (3, 4) is 12.5; 12.5 + 3.5 has the root 4.
    let (output, inv_rms) = rmsnorm::forward(&[3.0, 4.0], &[1.0, 2.0], 3.5);
    assert_close("inv_rms", &inv_rms, &[0.25], ROUNDING);
    assert_close("output", &output, &[0.75, 2.0], ROUNDING);
}

#[test]
fn rmsnorm_gradients_match_finite_differences() {
    for (rows, cols, size) in [(1, 1, 1.0), (3, 5, 1.0), (2, 17, 30.0), (2, 16, 0.1)] {
        let name = format!("[{rows}, {cols}] of size {size}");
        let eps = 1e-5;
        let input = scaled(&values(5, rows * cols), size);
        let (weight, d_output) = (values(6, cols), values(7, rows * cols));
        let (_, inv_rms) = rmsnorm::forward(&input, &weight, eps);
        let (d_input, d_weight) = rmsnorm::backward(&input, &weight, &inv_rms, &d_output);
        assert_gradient(&format!("d_input {name}"), &input, &d_input, |input| {
            dot(&rmsnorm::forward(input, &weight, eps).0, &d_output)
        });
        assert_gradient(&format!("d_weight {name}"), &weight, &d_weight, |weight| {
            dot(&rmsnorm::forward(&input, weight, eps).0, &d_output)
        });
    }
}

#[test]
fn rope_turns_pairs_by_position_and_frequency() {
    let shape = RopeShape {
        time: 2,
        num_heads: 1,
        head_dim: 4,
        theta: 10_000.0,
    };
    // Four rows are two sequences, so rows 0 and 2 stand at position 0 and stay as they are.
    let input = [1.0, 0.0, 0.0, 2.0].repeat(4);
    let turned = [
        1f64.cos(),
        1f64.sin(),
        -2.0 * 0.01f64.sin(),
        2.0 * 0.01f64.cos(),
    ];
    let want = [&input[..4], &turned, &input[..4], &turned].concat();
    assert_close("forward", &rope::forward(&input, shape), &want, ROUNDING);
}

#[test]
fn rope_gradient_matches_finite_differences() {
    for (time, num_heads, head_dim) in [(1, 1, 2), (5, 2, 6), (3, 1, 16)] {
        let shape = RopeShape {
            time,
            num_heads,
            head_dim,
            theta: 100.0,
        };
        let len = 2 * time * num_heads * head_dim;
        let (input, d_output) = (values(8, len), values(9, len));
        let d_input = rope::backward(&d_output, shape);
        assert_gradient(&format!("{shape:?}"), &input, &d_input, |input| {
            dot(&rope::forward(input, shape), &d_output)
        });
    }
}

/// Attention shapes: batch, time, num_heads, num_kv_heads, head_dim.
const ATTENTION_SHAPES: [[usize; 5]; 6] = [
    [1, 1, 1, 1, 16],
    [2, 5, 2, 2, 6],
    [2, 5, 4, 2, 16],
    [1, 17, 3, 1, 6],
    [1, 17, 2, 1, 16],
    [1, 5, 2, 1, 80],
];

fn attention_shape(sizes: [usize; 5]) -> AttentionShape {
    let [batch, time, num_heads, num_kv_heads, head_dim] = sizes;
    AttentionShape {
        batch,
        time,
        num_heads,
        num_kv_heads,
        head_dim,
    }
}

/// Queries, keys, values and the output's gradient for a shape.
fn attention_inputs(shape: AttentionShape) -> [Vec<f64>; 4] {
    let rows = shape.batch * shape.time * shape.head_dim;
    let (q_len, k_len) = (rows * shape.num_heads, rows * shape.num_kv_heads);
    [
        scaled(&values(10, q_len), 2.0),
        values(11, k_len),
        values(12, k_len),
        values(13, q_len),
    ]
}

#[test]
fn attention_matches_hand_made_softmax() {
    // Heads 0 and 1 share the key head 0, heads 2 and 3 the key head 1; a head has 4 elements, so
    // scores are halved. The scores of the second row are (0, ln 3): it weighs values 1 to 3.
    let shape = attention_shape([1, 2, 4, 2, 4]);
    let query = [2.0 * 3f64.ln(), 0.0, 0.0, 0.0].repeat(8);
    let key_rows = [[0.0; 8], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]].concat();
    let value_rows = [[1.0; 4], [10.0; 4], [5.0; 4], [50.0; 4]].concat();
    let (output, log_sum_exp) = attention::forward(&query, &key_rows, &value_rows, shape);
    let want = [1.0, 1.0, 10.0, 10.0, 4.0, 4.0, 40.0, 40.0];
    for (head, want) in want.into_iter().enumerate() {
        let name = format!("row and head {head}");
        assert_close(&name, &output[head * 4..][..4], &[want; 4], ROUNDING);
    }
    assert_close(
        "log_sum_exp",
        &log_sum_exp,
        &[0.0, 4f64.ln()].repeat(4),
        ROUNDING,
    );
}

#[test]
fn attention_gradients_match_finite_differences() {
    for sizes in ATTENTION_SHAPES {
        let shape = attention_shape(sizes);
        let [q, k, v, d_output] = attention_inputs(shape);
        let (output, _) = attention::forward(&q, &k, &v, shape);
        let (d_q, d_k, d_v) = attention::backward(&q, &k, &v, &output, &d_output, shape);
        let loss =
            |q: &[f64], k: &[f64], v: &[f64]| dot(&attention::forward(q, k, v, shape).0, &d_output);
        assert_gradient(&format!("d_q {sizes:?}"), &q, &d_q, |q| loss(q, &k, &v));
        assert_gradient(&format!("d_k {sizes:?}"), &k, &d_k, |k| loss(&q, k, &v));
        assert_gradient(&format!("d_v {sizes:?}"), &v, &d_v, |v| loss(&q, &k, v));
        for batch in 0..shape.batch {
            let row_len = shape.num_heads * shape.head_dim;
            let first = &d_q[batch * shape.time * row_len..][..row_len];
            assert!(first.iter().all(|&value| value == 0.0), "d_q of row 0");
        }
    }
}

#[test]
fn attention_ignores_the_future_and_survives_large_scores() {
    let shape = attention_shape([1, 5, 4, 2, 6]);
    let [q, k, v, _] = attention_inputs(shape);
    let (before, before_log) = attention::forward(&q, &k, &v, shape);
    let (mut k_changed, mut v_changed) = (k.clone(), v.clone());
    let row_len = shape.num_kv_heads * shape.head_dim;
    for index in 3 * row_len..5 * row_len {
        k_changed[index] = 1e3;
        v_changed[index] = -1e3;
    }
    let (after, after_log) = attention::forward(&q, &k_changed, &v_changed, shape);
    let first_rows = 3 * shape.num_heads * shape.head_dim;
    assert_eq!(before[..first_rows], after[..first_rows]);
    assert_ne!(before[first_rows..], after[first_rows..]);
    for head in 0..shape.num_heads {
        assert_eq!(before_log[head * 5..][..3], after_log[head * 5..][..3]);
    }
    let (output, log) = attention::forward(&scaled(&q, 1e5), &k, &v, shape);
    assert!(output.iter().chain(&log).all(|value| value.is_finite()));
}

#[test]
fn swiglu_matches_its_formula_and_finite_differences() {
    // sigmoid(ln 3) is 3/4.
    let output = swiglu::forward(&[3f64.ln(), 0.0, -1e4, 1e4], &[2.0, 5.0, 1.0, 1.0]);
    assert_close(
        "forward",
        &output,
        &[1.5 * 3f64.ln(), 0.0, 0.0, 1e4],
        ROUNDING,
    );
    let gate = [&values(14, 7)[..], &[0.0, 30.0, -30.0, 3.0, -3.0]].concat();
    let (up, d_output) = (values(15, gate.len()), values(16, gate.len()));
    let (d_gate, d_up) = swiglu::backward(&gate, &up, &d_output);
    let loss = |gate: &[f64], up: &[f64]| dot(&swiglu::forward(gate, up), &d_output);
    assert_gradient("d_gate", &gate, &d_gate, |gate| loss(gate, &up));
    assert_gradient("d_up", &up, &d_up, |up| loss(&gate, up));
    let (far, _) = swiglu::backward(&[-1e4, 1e4], &[1.0; 2], &[1.0; 2]);
    assert_close("far from 0", &far, &[0.0, 1.0], ROUNDING);
}

#[test]
fn softmax_matches_its_formula_and_finite_differences() {
    let row = [0.0, 3f64.ln(), f64::NEG_INFINITY];
    let far: Vec<f64> = row.iter().map(|value| value + 1e6).collect();
    let output = softmax::forward(&[&row[..], &far].concat(), 3);
    assert_close("row", &output[..3], &[0.25, 0.75, 0.0], ROUNDING);
    // Adding 1e6 rounds ln 3 to a multiple of 1e-10.
    let coarse = Tolerance {
        atol: 1e-9,
        rtol: 0.0,
    };
    assert_close("far row", &output[3..], &[0.25, 0.75, 0.0], coarse);
    for (rows, cols) in [(1, 1), (3, 7)] {
        let (input, d_output) = (values(17, rows * cols), values(18, rows * cols));
        let d_input = softmax::backward(&softmax::forward(&input, cols), &d_output, cols);
        assert_gradient(&format!("[{rows}, {cols}]"), &input, &d_input, |input| {
            dot(&softmax::forward(input, cols), &d_output)
        });
    }
}

#[test]
fn logprobs_are_those_of_the_softmax_with_the_lowest_id_first_among_equals() {
    // Probabilities of 1/8, 1/2, 1/8 and 1/4, and a token that cannot be.
    let logits = [0.125, 0.5, 0.125, 0.25, 0.0].map(|p: f64| p.ln() + 3.0);
    let rows = logprobs::token_logprobs(&[logits, logits].concat(), &[1, 4], 4);
    let ids: Vec<usize> = rows[0].top.iter().map(|top| top.0).collect();
    assert_eq!(ids, [1, 3, 0, 2]);
    let got = [rows[0].token, rows[0].top[1].1, rows[0].top[3].1];
    let want = [0.5, 0.25, 0.125].map(f64::ln);
    assert_close("logprobs", &got, &want, ROUNDING);
    assert_eq!(rows[1].token, f64::NEG_INFINITY);
    assert_eq!(
        logprobs::token_logprobs(&[7.0], &[0], 20)[0].top,
        [(0, 0.0)]
    );
}

#[test]
fn cross_entropy_matches_its_formula_and_finite_differences() {
    // Equal logits cost ln(vocab); a logit ln 3 beside ln 1 costs ln(4/3), and the other ln 4.
    let logits = [7.0, 7.0, 3f64.ln(), 0.0, 3f64.ln(), 0.0, -1e5, 1e5];
    let losses = cross_entropy::forward(&logits, &[1, 0, 1, 0]);
    let want = [2f64.ln(), (4f64 / 3.0).ln(), 4f64.ln(), 2e5];
    assert_close("losses", &losses, &want, ROUNDING);
    let (vocab, scale) = (5, 0.25);
    let targets = [4, cross_entropy::IGNORED, 0, 2];
    let logits = scaled(&values(19, vocab * targets.len()), 3.0);
    assert_eq!(cross_entropy::forward(&logits, &targets)[1], 0.0);
    let d_logits = cross_entropy::backward(&logits, &targets, scale);
    assert_eq!(d_logits[vocab..2 * vocab], [0.0; 5]);
    assert_gradient("d_logits", &logits, &d_logits, |logits| {
        scale * cross_entropy::forward(logits, &targets).iter().sum::<f64>()
    });
}

#[test]
fn clip_factor_brings_a_large_norm_to_the_maximum() {
    assert_eq!(grad_norm::norm(&[3.0, 0.0, -4.0]), 5.0);
    assert_eq!(grad_norm::clip_factor(5.0, 5.0), 1.0);
    assert_eq!(grad_norm::clip_factor(0.0, 1.0), 1.0);
    assert_eq!(grad_norm::clip_factor(4.0, 1.0), 1.0 / 4.000_001);
}

#[test]
fn sum_leading_adds_rows() {
    let partials = [1.0, 2.0, 10.0, 20.0, 100.0, 200.0];
    assert_eq!(sum::sum_leading(&partials, 2), [111.0, 222.0]);
    assert_eq!(sum::sum_leading(&partials, 6), partials);
}

#[test]
fn adamw_matches_hand_derived_steps() {
    // The rule in decimal arithmetic, rounded to 16 digits, from 1 with the gradients 0.5 and -1. With the
    // eps of 0.5 the first denominator is sqrt(0.25) + 0.5 = 1.
    let cases = [
        (1e-8, [0.899_000_002, 0.934_711_354_238_565_6]),
        (0.5, [0.949, 0.970_478_858_072_616_9]),
    ];
    for (eps, want) in cases {
        let (mut parameter, mut moment1, mut moment2) = ([1.0], [0.0], [0.0]);
        let moments = [(0.05, 0.000_25), (-0.055, 0.001_249_75)];
        for (index, (gradient, moments)) in [0.5, -1.0].into_iter().zip(moments).enumerate() {
            let step = AdamwStep {
                learning_rate: 0.1,
                beta1: 0.9,
                beta2: 0.999,
                eps,
                weight_decay: 0.01,
                step: 1 + u32::try_from(index).unwrap(),
            };
            adamw::update(
                &mut parameter,
                &[gradient],
                &mut moment1,
                &mut moment2,
                &step,
            );
            let got = [parameter[0], moment1[0], moment2[0]];
            let want = [want[index], moments.0, moments.1];
            let name = format!("eps {eps} step {}: parameter, moments", step.step);
            assert_close(&name, &got, &want, ROUNDING);
        }
    }
}

#[test]
fn philox_gives_the_known_answers_of_random123() {
    let ones = u32::MAX;
    let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    for (counter, key, want) in [
        (
            [0; 4],
            [0; 2],
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        ),
        (
            [ones; 4],
            [ones; 2],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        ),
        (
            pi,
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ] {
        assert_eq!(philox::philox4x32_10(counter, key), want);
    }
}
