//! Checks the reference of the whole model: logits against its formulas, gradients against differences.

use gpu_tlm::reference::transformer::{self, Parameters, TransformerShape};
use gpu_tlm::reference::{cross_entropy, grad_norm};

use super::{ROUNDING, assert_close, assert_gradient, dot, scaled, values};

const MODEL: TransformerShape = TransformerShape {
    vocab_size: 7,
    d_model: 24,
    num_layers: 2,
    num_heads: 4,
    num_kv_heads: 2,
    d_ff: 10,
    rope_theta: 50.0,
    norm_eps: 1e-5,
    tie_embeddings: false,
    batch: 2,
    time: 4,
    loss_scale: None,
};
const TOKENS: [u32; 8] = [3, 1, 6, 1, 0, 3, 3, 2];
const TARGETS: [u32; 8] = [1, 6, 1, 0, 3, cross_entropy::IGNORED, 2, 5];

/// Parameters of about the size that keeps activations near 1, gains around 1.
fn model_parameters(shape: &TransformerShape) -> Parameters {
    let mut parameters = Parameters::new();
    for (seed, (name, dims)) in (100..).zip(shape.parameter_shapes()) {
        let raw = values(seed, dims.iter().product());
        let value = match dims.len() {
            1 => raw.iter().map(|value| 1.0 + 0.3 * value).collect(),
            _ => scaled(&raw, 0.6),
        };
        parameters.insert(name, value);
    }
    parameters
}

/// One sequence's logits from the formulas, token by token, with none of the reference's functions.
fn formula_logits(parameters: &Parameters, tokens: &[u32], shape: &TransformerShape) -> Vec<f64> {
    let apply = |name: &str, x: &[f64]| -> Vec<f64> {
        let weight = &parameters[name];
        weight.chunks(x.len()).map(|row| dot(row, x)).collect()
    };
    let norm = |name: &str, x: &[f64]| -> Vec<f64> {
        let rms = (dot(x, x) / x.len() as f64 + shape.norm_eps).sqrt();
        x.iter()
            .zip(&parameters[name])
            .map(|(x, gain)| x / rms * gain)
            .collect()
    };
    let plus = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x + y).collect::<Vec<_>>();
    let size = shape.d_model / shape.num_heads;
    // The rotation of a query and a key leaves an angle that depends on their distance alone.
    let score = |query: &[f64], key: &[f64], distance: usize| -> f64 {
        let pair = |i: usize| {
            let angle = distance as f64 / shape.rope_theta.powf(2.0 * i as f64 / size as f64);
            let (a, b, c, d) = (query[2 * i], query[2 * i + 1], key[2 * i], key[2 * i + 1]);
            (a * c + b * d) * angle.cos() + (a * d - b * c) * angle.sin()
        };
        (0..size / 2).map(pair).sum::<f64>() / (size as f64).sqrt()
    };
    let embedding = parameters["token_embeddings.weight"].chunks(shape.d_model);
    let rows: Vec<&[f64]> = embedding.collect();
    let mut stream: Vec<Vec<f64>> = tokens.iter().map(|&t| rows[t as usize].to_vec()).collect();
    for layer in 0..shape.num_layers {
        let name = |part: &str| format!("layers.{layer}.{part}.weight");
        let normed: Vec<_> = stream.iter().map(|x| norm(&name("ln1"), x)).collect();
        let project =
            |part: &str| -> Vec<_> { normed.iter().map(|x| apply(&name(part), x)).collect() };
        let (q, k, v) = (
            project("attn.q_proj"),
            project("attn.k_proj"),
            project("attn.v_proj"),
        );
        for now in 0..tokens.len() {
            let mut attended = Vec::new();
            for head in 0..shape.num_heads {
                let shared = head * shape.num_kv_heads / shape.num_heads * size;
                let query = &q[now][head * size..][..size];
                let weights: Vec<f64> = (0..=now)
                    .map(|then| score(query, &k[then][shared..][..size], now - then).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                attended.extend((0..size).map(|dim| {
                    let terms = weights.iter().zip(&v).map(|(w, v)| w * v[shared + dim]);
                    terms.sum::<f64>() / total
                }));
            }
            stream[now] = plus(&stream[now], &apply(&name("attn.output_proj"), &attended));
            let normed = norm(&name("ln2"), &stream[now]);
            let gate = apply(&name("ffn.w1"), &normed);
            let up = apply(&name("ffn.w3"), &normed);
            let silu = gate.iter().map(|x| x / (1.0 + (-x).exp()));
            let hidden: Vec<f64> = silu.zip(&up).map(|(gate, up)| gate * up).collect();
            stream[now] = plus(&stream[now], &apply(&name("ffn.w2"), &hidden));
        }
    }
    let head = match shape.tie_embeddings {
        true => "token_embeddings.weight",
        false => "lm_head.weight",
    };
    let last = stream
        .iter()
        .map(|x| apply(head, &norm("ln_final.weight", x)));
    last.collect::<Vec<_>>().concat()
}

#[test]
fn transformer_logits_match_the_formulas() {
    for tie_embeddings in [false, true] {
        let shape = TransformerShape {
            tie_embeddings,
            ..MODEL
        };
        let parameters = model_parameters(&shape);
        let got = transformer::logits(&parameters, &TOKENS, &shape);
        let sequences = TOKENS.chunks(shape.time);
        let want: Vec<_> = sequences
            .map(|tokens| formula_logits(&parameters, tokens, &shape))
            .collect();
        let name = format!("logits, tied {tie_embeddings}");
        assert_close(&name, &got, &want.concat(), ROUNDING);
    }
}

#[test]
fn transformer_gradients_match_finite_differences() {
    for tie_embeddings in [false, true] {
        let shape = TransformerShape {
            tie_embeddings,
            ..MODEL
        };
        let parameters = model_parameters(&shape);
        let (loss, gradients) =
            transformer::loss_and_gradients(&parameters, &TOKENS, &TARGETS, &shape);
        assert_eq!(
            loss,
            transformer::loss(&parameters, &TOKENS, &TARGETS, &shape)
        );
        assert!(gradients.keys().eq(parameters.keys()));
        for (name, gradient) in &gradients {
            // A gradient of zeros would match nothing but a parameter that has no effect.
            assert!(grad_norm::norm(gradient) > 1e-3, "{name} has a gradient");
            let label = format!("{name}, tied {tie_embeddings}");
            assert_gradient(&label, &parameters[name], gradient, |moved| {
                let mut parameters = parameters.clone();
                parameters.insert(name.clone(), moved.to_vec());
                transformer::loss(&parameters, &TOKENS, &TARGETS, &shape)
            });
        }
    }
}

#[test]
fn transformer_logits_do_not_depend_on_later_tokens() {
    let parameters = model_parameters(&MODEL);
    let before = transformer::logits(&parameters, &TOKENS, &MODEL);
    let mut tokens = TOKENS;
    tokens[2] = 5;
    let after = transformer::logits(&parameters, &tokens, &MODEL);
    let position = |index: usize| index * MODEL.vocab_size;
    assert_eq!(before[..position(2)], after[..position(2)]);
    assert_ne!(
        before[position(2)..position(4)],
        after[position(2)..position(4)]
    );
    assert_eq!(
        before[position(4)..],
        after[position(4)..],
        "other sequence"
    );
}
