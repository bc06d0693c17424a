//! What parameters a model has: their names, shapes and initial distributions, in the order of the table.

use super::Init;
use crate::config::{Activation, ModelConfig, Norm, Positions};

/// A parameter before it has a place.
pub(super) struct Shape {
    pub(super) name: String,
    /// 1 for a gain or a bias.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) init: Init,
}

impl Shape {
    /// Whether it is the matrix of a linear layer of a block.
    pub(super) fn is_linear(&self) -> bool {
        self.name.starts_with("layers.") && !self.init.is_of_vector()
    }
}

/// The parameters of a model of `config`.
pub(super) fn shapes(config: &ModelConfig) -> Vec<Shape> {
    let mut shapes = Vec::new();
    let (vocab_size, d_model) = (config.vocab_size, config.d_model);
    let mut add = |name: String, rows, cols, init| {
        shapes.push(Shape {
            name,
            rows,
            cols,
            init,
        });
    };
    let normal = |std| Init::TruncatedNormal { std };
    add(
        "token_embeddings.weight".into(),
        vocab_size,
        d_model,
        normal(1.0),
    );
    if config.architecture.positions == Positions::Learned {
        let rows = config.context_length;
        let init = normal(POSITION_STD);
        add(POSITION_EMBEDDINGS.into(), rows, d_model, init);
    }
    for layer in 0..config.num_layers {
        add_block(config, &mut |name, rows, cols, init| {
            add(format!("layers.{layer}.{name}"), rows, cols, init);
        });
    }
    add_norm(config, &mut |name, rows, cols, init| {
        add(format!("ln_final{name}"), rows, cols, init);
    });
    if !config.tie_embeddings {
        let init = linear(vocab_size, d_model);
        add("lm_head.weight".into(), vocab_size, d_model, init);
    }
    shapes
}

/// The name of the vectors of positions.
pub(super) const POSITION_EMBEDDINGS: &str = "position_embeddings.weight";

/// Of vectors for positions, as in GPT-2.
const POSITION_STD: f64 = 0.02;

/// Of a matrix `[out, input]` (Glorot and Bengio 2010).
fn linear(out: usize, input: usize) -> Init {
    Init::TruncatedNormal {
        std: (2.0 / (input + out) as f64).sqrt(),
    }
}

type Add<'a> = dyn FnMut(&str, usize, usize, Init) + 'a;

fn add_block(config: &ModelConfig, add: &mut Add<'_>) {
    let architecture = &config.architecture;
    let (d_model, d_ff, head_dim) = (config.d_model, config.d_ff, config.head_dim());
    let query_width = config.num_heads * head_dim;
    let kv_width = config.num_kv_heads * head_dim;
    add_norm(config, &mut |name, rows, cols, init| {
        add(&format!("ln1{name}"), rows, cols, init);
    });
    let attention = [
        ("attn.q_proj", query_width, d_model),
        ("attn.k_proj", kv_width, d_model),
        ("attn.v_proj", kv_width, d_model),
        ("attn.output_proj", d_model, query_width),
    ];
    add_linears(config, &attention, add);
    if architecture.qk_norm {
        add("attn.q_norm.weight", 1, head_dim, Init::Ones);
        add("attn.k_norm.weight", 1, head_dim, Init::Ones);
    }
    add_norm(config, &mut |name, rows, cols, init| {
        add(&format!("ln2{name}"), rows, cols, init);
    });
    let (up, down) = (("ffn.w1", d_ff, d_model), ("ffn.w2", d_model, d_ff));
    match architecture.activation {
        Activation::Swiglu => add_linears(config, &[up, down, ("ffn.w3", d_ff, d_model)], add),
        Activation::Gelu => add_linears(config, &[up, down], add),
    }
}

/// Matrices `[out, input]`, and behind them their biases.
fn add_linears(config: &ModelConfig, layers: &[(&str, usize, usize)], add: &mut Add<'_>) {
    for &(name, out, input) in layers {
        add(&format!("{name}.weight"), out, input, linear(out, input));
    }
    if config.architecture.biases {
        for &(name, out, _) in layers {
            add(&format!("{name}.bias"), 1, out, Init::Zeros);
        }
    }
}

fn add_norm(config: &ModelConfig, add: &mut Add<'_>) {
    add(".weight", 1, config.d_model, Init::Ones);
    if config.architecture.norm == Norm::Layer {
        add(".bias", 1, config.d_model, Init::Zeros);
    }
}
