//! The whole Transformer in f64: logits, loss, and the gradient of every parameter.
//!
//! A pre-norm decoder without biases: `x += attention(rmsnorm(x)); x += ffn(rmsnorm(x))` in each
//! layer, then `logits = lm_head(rmsnorm(x))`.

use std::collections::BTreeMap;

use super::assert_len;
use super::attention;
use super::attention::AttentionShape;
use super::cross_entropy;
use super::embedding;
use super::exact_parts;
use super::half;
use super::matmul;
use super::matmul::MatmulShape;
use super::rmsnorm;
use super::rope;
use super::rope::RopeShape;
use super::swiglu;

/// Parameters or their gradients, row-major, by name.
pub type Parameters = BTreeMap<String, Vec<f64>>;

/// The sizes and constants of a model, and of the batch that runs through it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerShape {
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Elements of the residual stream, a multiple of `num_heads`.
    pub d_model: usize,
    /// Layers.
    pub num_layers: usize,
    /// Query heads of a layer.
    pub num_heads: usize,
    /// Key and value heads of a layer; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Elements of the hidden layer of the feed-forward part.
    pub d_ff: usize,
    /// Base of the wavelengths of the rotary embedding.
    pub rope_theta: f64,
    /// Added to the mean square in every norm.
    pub norm_eps: f64,
    /// Whether the embedding is also the output projection; then there is no `lm_head.weight`.
    pub tie_embeddings: bool,
    /// Independent sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// Where operands of products and of attention are rounded to binary16: what gradients are multiplied
    /// with meanwhile.
    pub loss_scale: Option<f64>,
}

impl TransformerShape {
    /// `values` as a product takes them.
    fn operand(&self, values: Vec<f64>) -> Vec<f64> {
        match self.loss_scale {
            Some(_) => half::halve(&values, 1.0),
            None => values,
        }
    }

    /// The name and the shape of every parameter, a linear weight as `[out, in]`.
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let query_dim = self.num_heads * self.head_dim();
        let key_dim = self.num_kv_heads * self.head_dim();
        let (d_model, d_ff) = (self.d_model, self.d_ff);
        let embedding = vec![self.vocab_size, d_model];
        let mut table = vec![("token_embeddings.weight".to_string(), embedding.clone())];
        for layer in 0..self.num_layers {
            for (name, shape) in [
                ("ln1", vec![d_model]),
                ("attn.q_proj", vec![query_dim, d_model]),
                ("attn.k_proj", vec![key_dim, d_model]),
                ("attn.v_proj", vec![key_dim, d_model]),
                ("attn.output_proj", vec![d_model, query_dim]),
                ("ln2", vec![d_model]),
                ("ffn.w1", vec![d_ff, d_model]),
                ("ffn.w2", vec![d_model, d_ff]),
                ("ffn.w3", vec![d_ff, d_model]),
            ] {
                table.push((layer_name(layer, name), shape));
            }
        }
        table.push(("ln_final.weight".to_string(), vec![d_model]));
        if !self.tie_embeddings {
            table.push(("lm_head.weight".to_string(), embedding));
        }
        table
    }

    /// Elements of a head.
    fn head_dim(&self) -> usize {
        exact_parts("d_model", self.d_model, self.num_heads)
    }

    /// The shape of rotated queries or keys.
    fn rope(&self, num_heads: usize) -> RopeShape {
        RopeShape {
            time: self.time,
            num_heads,
            head_dim: self.head_dim(),
            theta: self.rope_theta,
        }
    }

    /// The shape of the attention of a layer.
    fn attention(&self) -> AttentionShape {
        AttentionShape {
            batch: self.batch,
            time: self.time,
            num_heads: self.num_heads,
            num_kv_heads: self.num_kv_heads,
            head_dim: self.head_dim(),
        }
    }
}

/// The logits `[batch * time, vocab]` of `tokens` `[batch * time]`.
///
/// # Panics
/// Where `parameters` or `tokens` do not fit `shape`.
pub fn logits(parameters: &Parameters, tokens: &[u32], shape: &TransformerShape) -> Vec<f64> {
    Model::new(parameters, shape).forward(tokens).logits
}

/// The mean cross-entropy in nats of `targets` `[batch * time]` after `tokens` `[batch * time]`.
///
/// The mean is over the positions whose target is not [`cross_entropy::IGNORED`].
///
/// # Panics
/// Where `parameters`, `tokens` or `targets` do not fit `shape`.
pub fn loss(
    parameters: &Parameters,
    tokens: &[u32],
    targets: &[u32],
    shape: &TransformerShape,
) -> f64 {
    mean_loss(&logits(parameters, tokens, shape), targets)
}

/// The [`loss`], and its gradient for every parameter by name.
///
/// # Panics
/// Where `parameters`, `tokens` or `targets` do not fit `shape`.
pub fn loss_and_gradients(
    parameters: &Parameters,
    tokens: &[u32],
    targets: &[u32],
    shape: &TransformerShape,
) -> (f64, Parameters) {
    let model = Model::new(parameters, shape);
    let saved = model.forward(tokens);
    let scale = shape.loss_scale.unwrap_or(1.0);
    let d_logits = cross_entropy::backward(&saved.logits, targets, scale / counted(targets));
    let mut gradients = model.backward(tokens, &saved, &shape.operand(d_logits));
    for value in gradients.values_mut().flatten() {
        *value /= scale;
    }
    (mean_loss(&saved.logits, targets), gradients)
}

/// The mean loss in nats over the positions that count.
fn mean_loss(logits: &[f64], targets: &[u32]) -> f64 {
    let total: f64 = cross_entropy::forward(logits, targets).iter().sum();
    total / counted(targets)
}

/// The number of positions that count, or 1 where none does.
fn counted(targets: &[u32]) -> f64 {
    let count = targets
        .iter()
        .filter(|&&target| target != cross_entropy::IGNORED)
        .count();
    count.max(1) as f64
}

/// What a norm keeps for its backward pass.
struct NormSaved {
    input: Vec<f64>,
    output: Vec<f64>,
    inv_rms: Vec<f64>,
}

/// What the attention part of a layer keeps for its backward pass.
struct AttentionSaved {
    norm: NormSaved,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    attended: Vec<f64>,
}

/// What the feed-forward part of a layer keeps for its backward pass.
struct FfnSaved {
    norm: NormSaved,
    gate: Vec<f64>,
    up: Vec<f64>,
    hidden: Vec<f64>,
}

/// What a whole forward pass keeps.
struct Saved {
    layers: Vec<(AttentionSaved, FfnSaved)>,
    norm: NormSaved,
    logits: Vec<f64>,
}

/// The parameters with their shape; every forward function stands beside its backward function.
struct Model<'a> {
    parameters: &'a Parameters,
    shape: &'a TransformerShape,
}

impl<'a> Model<'a> {
    /// Checks that `parameters` are those of `shape`.
    fn new(parameters: &'a Parameters, shape: &'a TransformerShape) -> Self {
        let table = shape.parameter_shapes();
        assert!(
            parameters.len() == table.len(),
            "{} parameters, the shape has {}",
            parameters.len(),
            table.len()
        );
        let model = Self { parameters, shape };
        for (name, dims) in table {
            assert_len(&name, model.parameter(&name), dims.iter().product());
        }
        model
    }

    fn forward(&self, tokens: &[u32]) -> Saved {
        assert_len("tokens", tokens, self.shape.batch * self.shape.time);
        let embedding = self.parameter("token_embeddings.weight");
        let mut x = embedding::forward(embedding, tokens, self.shape.d_model);
        let mut layers = Vec::new();
        for layer in 0..self.shape.num_layers {
            let (change, attention) = self.attention_forward(layer, &x);
            add(&mut x, &change);
            let (change, ffn) = self.ffn_forward(layer, &x);
            add(&mut x, &change);
            layers.push((attention, ffn));
        }
        let norm = self.norm_forward("ln_final.weight", &x);
        let logits = self.linear_forward(self.head_name(), &norm.output);
        Saved {
            layers,
            norm,
            logits,
        }
    }

    fn backward(&self, tokens: &[u32], saved: &Saved, d_logits: &[f64]) -> Parameters {
        let mut gradients = Parameters::new();
        let into = &mut gradients;
        let d_norm = self.linear_backward(self.head_name(), &saved.norm.output, d_logits, into);
        let mut d_x = self.norm_backward("ln_final.weight", &saved.norm, &d_norm, into);
        for (layer, (attention, ffn)) in saved.layers.iter().enumerate().rev() {
            // The residual connection passes d_x on unchanged, beside what the branch adds.
            let d_branch = self.ffn_backward(layer, ffn, &d_x, into);
            add(&mut d_x, &d_branch);
            let d_branch = self.attention_backward(layer, attention, &d_x, into);
            add(&mut d_x, &d_branch);
        }
        let TransformerShape {
            vocab_size,
            d_model,
            ..
        } = *self.shape;
        let d_weight = embedding::backward(&d_x, tokens, vocab_size, d_model);
        accumulate(into, "token_embeddings.weight", d_weight);
        gradients
    }

    fn attention_forward(&self, layer: usize, x: &[f64]) -> (Vec<f64>, AttentionSaved) {
        let name = |part: &str| layer_name(layer, part);
        let norm = self.norm_forward(&name("ln1"), x);
        let q = self.linear_forward(&name("attn.q_proj"), &norm.output);
        let k = self.linear_forward(&name("attn.k_proj"), &norm.output);
        let v = self.linear_forward(&name("attn.v_proj"), &norm.output);
        let shape = self.shape;
        let q = shape.operand(rope::forward(&q, shape.rope(shape.num_heads)));
        let k = shape.operand(rope::forward(&k, shape.rope(shape.num_kv_heads)));
        let v = shape.operand(v);
        let (attended, _) = attention::forward(&q, &k, &v, shape.attention());
        let attended = shape.operand(attended);
        let output = self.linear_forward(&name("attn.output_proj"), &attended);
        let saved = AttentionSaved {
            norm,
            q,
            k,
            v,
            attended,
        };
        (output, saved)
    }

    fn attention_backward(
        &self,
        layer: usize,
        saved: &AttentionSaved,
        d_output: &[f64],
        into: &mut Parameters,
    ) -> Vec<f64> {
        let name = |part: &str| layer_name(layer, part);
        let AttentionSaved {
            norm,
            q,
            k,
            v,
            attended,
        } = saved;
        let shape = self.shape;
        let d_output = shape.operand(d_output.to_vec());
        let d_attended = self.linear_backward(&name("attn.output_proj"), attended, &d_output, into);
        let d_attended = shape.operand(d_attended);
        let (d_q, d_k, d_v) =
            attention::backward(q, k, v, attended, &d_attended, shape.attention());
        let d_q = shape.operand(rope::backward(&d_q, shape.rope(shape.num_heads)));
        let d_k = shape.operand(rope::backward(&d_k, shape.rope(shape.num_kv_heads)));
        let d_v = shape.operand(d_v);
        let mut d_norm = self.linear_backward(&name("attn.q_proj"), &norm.output, &d_q, into);
        for (part, d_part) in [("attn.k_proj", d_k), ("attn.v_proj", d_v)] {
            let d_input = self.linear_backward(&name(part), &norm.output, &d_part, into);
            add(&mut d_norm, &d_input);
        }
        self.norm_backward(&name("ln1"), norm, &d_norm, into)
    }

    fn ffn_forward(&self, layer: usize, x: &[f64]) -> (Vec<f64>, FfnSaved) {
        let name = |part: &str| layer_name(layer, part);
        let norm = self.norm_forward(&name("ln2"), x);
        let gate = self.linear_forward(&name("ffn.w1"), &norm.output);
        let up = self.linear_forward(&name("ffn.w3"), &norm.output);
        // They meet before they are rounded for the backward pass.
        let hidden = self.shape.operand(swiglu::forward(&gate, &up));
        let [gate, up] = [gate, up].map(|values| self.shape.operand(values));
        let output = self.linear_forward(&name("ffn.w2"), &hidden);
        let saved = FfnSaved {
            norm,
            gate,
            up,
            hidden,
        };
        (output, saved)
    }

    fn ffn_backward(
        &self,
        layer: usize,
        saved: &FfnSaved,
        d_output: &[f64],
        into: &mut Parameters,
    ) -> Vec<f64> {
        let name = |part: &str| layer_name(layer, part);
        let d_output = self.shape.operand(d_output.to_vec());
        let d_hidden = self.linear_backward(&name("ffn.w2"), &saved.hidden, &d_output, into);
        let (d_gate, d_up) = swiglu::backward(&saved.gate, &saved.up, &d_hidden);
        let [d_gate, d_up] = [d_gate, d_up].map(|d| self.shape.operand(d));
        let input = &saved.norm.output;
        let mut d_norm = self.linear_backward(&name("ffn.w1"), input, &d_gate, into);
        add(
            &mut d_norm,
            &self.linear_backward(&name("ffn.w3"), input, &d_up, into),
        );
        self.norm_backward(&name("ln2"), &saved.norm, &d_norm, into)
    }

    fn norm_forward(&self, name: &str, input: &[f64]) -> NormSaved {
        let (output, inv_rms) = rmsnorm::forward(input, self.parameter(name), self.shape.norm_eps);
        NormSaved {
            input: input.to_vec(),
            output: self.shape.operand(output),
            inv_rms,
        }
    }

    fn norm_backward(
        &self,
        name: &str,
        saved: &NormSaved,
        d_output: &[f64],
        into: &mut Parameters,
    ) -> Vec<f64> {
        let NormSaved { input, inv_rms, .. } = saved;
        let weight = self.parameter(name);
        let d_weight = rmsnorm::backward_weight(input, inv_rms, d_output, weight.len());
        accumulate(into, name, d_weight);
        rmsnorm::backward_input(input, weight, inv_rms, d_output)
    }

    /// `input` `[rows, in]` times the transposed weight `[out, in]`.
    fn linear_forward(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let weight = self.shape.operand(self.parameter(name).to_vec());
        let rows = self.shape.batch * self.shape.time;
        let k = exact_parts("input", input.len(), rows);
        let n = exact_parts(name, weight.len(), k);
        matmul::nt(input, &weight, MatmulShape { m: rows, n, k })
    }

    /// Adds the gradient of the weight to `into` and returns that of the input `[rows, in]`.
    fn linear_backward(
        &self,
        name: &str,
        input: &[f64],
        d_output: &[f64],
        into: &mut Parameters,
    ) -> Vec<f64> {
        let weight = self.shape.operand(self.parameter(name).to_vec());
        let rows = self.shape.batch * self.shape.time;
        let in_dim = exact_parts("input", input.len(), rows);
        let out_dim = exact_parts(name, weight.len(), in_dim);
        let weight_shape = MatmulShape {
            m: out_dim,
            n: in_dim,
            k: rows,
        };
        let input_shape = MatmulShape {
            m: rows,
            n: in_dim,
            k: out_dim,
        };
        accumulate(into, name, matmul::tn(d_output, input, weight_shape));
        matmul::nn(d_output, &weight, input_shape)
    }

    fn head_name(&self) -> &'static str {
        if self.shape.tie_embeddings {
            "token_embeddings.weight"
        } else {
            "lm_head.weight"
        }
    }

    fn parameter(&self, name: &str) -> &'a [f64] {
        match self.parameters.get(name) {
            Some(values) => values,
            None => panic!("there is no parameter {name}"),
        }
    }
}

/// The full name of a layer's parameter.
fn layer_name(layer: usize, part: &str) -> String {
    format!("layers.{layer}.{part}.weight")
}

/// Adds `change` to `total`.
fn add(total: &mut [f64], change: &[f64]) {
    assert_len("change", change, total.len());
    for index in 0..total.len() {
        total[index] += change[index];
    }
}

/// Adds a gradient to what `gradients` holds under `name`: a tied weight gets two.
fn accumulate(gradients: &mut Parameters, name: &str, gradient: Vec<f64>) {
    match gradients.get_mut(name) {
        Some(total) => add(total, &gradient),
        None => {
            gradients.insert(name.to_string(), gradient);
        }
    }
}
