//! How our parameters lie in files of other programs: under which name, in which rows of a tensor, transposed or
//! not, and with the rows of each head in which order.

use std::ops::Range;

use super::Family;
use crate::config::ModelConfig;

/// Whose names a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Ours, which are those of CS336's `TransformerLM`.
    Plain,
    /// Those of `transformers`, for Llama, Mistral, SmolLM2 and Qwen3.
    Llama,
    /// Those of `transformers`, for GPT-2.
    Gpt2,
    /// Those of GGUF, for the architecture `llama`.
    GgufLlama,
    /// Those of GGUF, for the architecture `qwen3`.
    GgufQwen3,
    /// Those of GGUF, for the architecture `gpt2`.
    GgufGpt2,
}

/// Where one of our parameters lies in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The tensor.
    pub tensor: String,
    /// Rows of it, `[out, in]`, that are the parameter's; elements, of a vector.
    pub rows: Range<usize>,
    /// All its rows.
    pub total_rows: usize,
    /// Whether the file has `[in, out]`.
    pub is_transposed: bool,
    /// The width of each head, where its rows lie as halves, `x0 x1 .. y0 y1 ..`, and ours lie as pairs,
    /// `x0 y0 x1 y1 ..`, of what the rotary embedding turns.
    pub half_split: Option<usize>,
}

/// The last part of our names and of theirs, by the module that they belong to.
type Renames = [(&'static str, &'static str)];

const LLAMA: &Renames = &[
    ("token_embeddings", "model.embed_tokens"),
    ("ln1", "input_layernorm"),
    ("attn.q_proj", "self_attn.q_proj"),
    ("attn.k_proj", "self_attn.k_proj"),
    ("attn.v_proj", "self_attn.v_proj"),
    ("attn.output_proj", "self_attn.o_proj"),
    ("attn.q_norm", "self_attn.q_norm"),
    ("attn.k_norm", "self_attn.k_norm"),
    ("ln2", "post_attention_layernorm"),
    ("ffn.w1", "mlp.gate_proj"),
    ("ffn.w2", "mlp.down_proj"),
    ("ffn.w3", "mlp.up_proj"),
    ("ln_final", "model.norm"),
    ("lm_head", "lm_head"),
];

const GPT2: &Renames = &[
    ("token_embeddings", "transformer.wte"),
    ("position_embeddings", "transformer.wpe"),
    ("ln1", "ln_1"),
    ("attn.q_proj", "attn.c_attn"),
    ("attn.k_proj", "attn.c_attn"),
    ("attn.v_proj", "attn.c_attn"),
    ("attn.output_proj", "attn.c_proj"),
    ("ln2", "ln_2"),
    ("ffn.w1", "mlp.c_fc"),
    ("ffn.w2", "mlp.c_proj"),
    ("ln_final", "transformer.ln_f"),
    ("lm_head", "lm_head"),
];

const GGUF: &Renames = &[
    ("token_embeddings", "token_embd"),
    ("ln1", "attn_norm"),
    ("attn.q_proj", "attn_q"),
    ("attn.k_proj", "attn_k"),
    ("attn.v_proj", "attn_v"),
    ("attn.output_proj", "attn_output"),
    ("attn.q_norm", "attn_q_norm"),
    ("attn.k_norm", "attn_k_norm"),
    ("ln2", "ffn_norm"),
    ("ffn.w1", "ffn_gate"),
    ("ffn.w2", "ffn_down"),
    ("ffn.w3", "ffn_up"),
    ("ln_final", "output_norm"),
    ("lm_head", "output"),
];

const GGUF_GPT2: &Renames = &[
    ("token_embeddings", "token_embd"),
    ("position_embeddings", "position_embd"),
    ("ln1", "attn_norm"),
    ("attn.q_proj", "attn_qkv"),
    ("attn.k_proj", "attn_qkv"),
    ("attn.v_proj", "attn_qkv"),
    ("attn.output_proj", "attn_output"),
    ("ln2", "ffn_norm"),
    ("ffn.w1", "ffn_up"),
    ("ffn.w2", "ffn_down"),
    ("ln_final", "output_norm"),
    ("lm_head", "output"),
];

impl Naming {
    /// That of `transformers` for a family.
    pub fn of_hugging_face(family: Family) -> Self {
        match family {
            Family::Llama | Family::Qwen3 => Self::Llama,
            Family::Gpt2 => Self::Gpt2,
        }
    }

    /// That of GGUF for a family.
    pub fn of_gguf(family: Family) -> Self {
        match family {
            Family::Llama => Self::GgufLlama,
            Family::Qwen3 => Self::GgufQwen3,
            Family::Gpt2 => Self::GgufGpt2,
        }
    }

    fn renames(self) -> Option<&'static Renames> {
        match self {
            Self::Plain => None,
            Self::Llama => Some(LLAMA),
            Self::Gpt2 => Some(GPT2),
            Self::GgufLlama | Self::GgufQwen3 => Some(GGUF),
            Self::GgufGpt2 => Some(GGUF_GPT2),
        }
    }

    /// What stands before the number of a layer.
    fn layers(self) -> &'static str {
        match self {
            Self::Plain => "layers",
            Self::Llama => "model.layers",
            Self::Gpt2 => "transformer.h",
            Self::GgufLlama | Self::GgufQwen3 | Self::GgufGpt2 => "blk",
        }
    }

    /// Whether queries, keys and values are one tensor.
    fn joins_qkv(self) -> bool {
        matches!(self, Self::Gpt2 | Self::GgufGpt2)
    }

    /// Whether matrices of layers are `[in, out]`: `transformers` calls such a layer Conv1D.
    fn is_transposed(self) -> bool {
        self == Self::Gpt2
    }

    /// Whether the rotary embedding turns the first half of a head with the second, as `transformers` has it
    /// and GGUF has it for architectures that are not converted.
    fn is_half_split(self) -> bool {
        matches!(self, Self::Llama | Self::GgufQwen3)
    }

    /// The name of the tensor that our parameter `name` lies in.
    pub(super) fn tensor(self, name: &str) -> String {
        let Some(renames) = self.renames() else {
            return name.to_owned();
        };
        let (module, kind) = name.rsplit_once('.').unwrap_or((name, ""));
        let (layer, module) = match layer_of(module) {
            Some((layer, module)) => (format!("{}.{layer}.", self.layers()), module),
            None => (String::new(), module),
        };
        let renamed = renames.iter().find(|(ours, _)| *ours == module);
        let renamed = renamed.map_or(module, |(_, theirs)| theirs);
        format!("{layer}{renamed}.{kind}")
    }

    /// Where our parameter `name` `[rows, cols]` of a model of `config` lies; a vector has its elements as rows.
    pub fn place(self, config: &ModelConfig, name: &str, rows: usize) -> Place {
        let head_dim = config.head_dim();
        let query_rows = config.num_heads * head_dim;
        let kv_rows = config.num_kv_heads * head_dim;
        let is_of = |module: &str| name.contains(&format!(".attn.{module}."));
        let is_matrix_of_layer = layer_of(name).is_some() && !is_vector(name);
        let first = match () {
            () if !self.joins_qkv() => 0,
            () if is_of("k_proj") => query_rows,
            () if is_of("v_proj") => query_rows + kv_rows,
            () => 0,
        };
        let is_joined = self.joins_qkv() && ["q_proj", "k_proj", "v_proj"].into_iter().any(is_of);
        let is_turned = ["q_proj", "k_proj", "q_norm", "k_norm"]
            .into_iter()
            .any(is_of);
        Place {
            tensor: self.tensor(name),
            rows: first..first + rows,
            total_rows: match is_joined {
                true => query_rows + 2 * kv_rows,
                false => rows,
            },
            is_transposed: self.is_transposed() && is_matrix_of_layer,
            half_split: (self.is_half_split() && is_turned).then_some(head_dim),
        }
    }
}

/// The number in `layers.{i}.` at the start of our names, and what follows.
fn layer_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("layers.")?.split_once('.')
}

fn is_vector(name: &str) -> bool {
    let is_norm = ["ln1.", "ln2.", "ln_final.", "q_norm.", "k_norm."]
        .iter()
        .any(|norm| name.contains(norm));
    is_norm || name.ends_with(".bias")
}
