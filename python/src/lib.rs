//! The Python package `gpu_tlm`: a thin layer over the library of the same name, which computes everything.

mod arrays;
mod device;
mod errors;
mod generate;
mod json;
mod loaded;
mod model;
mod ops;
mod sampling;
mod state_dict;
mod tokenizer;
mod train;

use pyo3::prelude::*;

/// What the package `gpu_tlm` is made of.
#[pymodule]
mod _gpu_tlm {
    #[pymodule_export]
    use crate::device::{devices, set_device};
    #[pymodule_export]
    use crate::errors::GpuTlmError;
    #[pymodule_export]
    use crate::model::TransformerLM;
    #[pymodule_export]
    use crate::ops::attention::{
        attention, attention_backward, attention_cached, attention_weights,
    };
    #[pymodule_export]
    use crate::ops::layers::{
        bias, bias_backward, embedding, embedding_backward, gelu, gelu_backward, rope,
        rope_backward, scale, softmax, softmax_backward, swiglu, swiglu_backward,
    };
    #[pymodule_export]
    use crate::ops::loss::{
        cross_entropy, cross_entropy_backward, logprobs, mean_cross_entropy, sample, sample_filter,
    };
    #[pymodule_export]
    use crate::ops::norms::{
        head_norm, head_norm_backward, layernorm, layernorm_backward, rmsnorm, rmsnorm_backward,
    };
    #[pymodule_export]
    use crate::ops::optimiser::{adamw, adamw_in_place, clip_in_place, grad_norm, matches_pattern};
    #[pymodule_export]
    use crate::ops::products::{dequantize, halve, matmul, widen};
    #[pymodule_export]
    use crate::sampling::SamplingConfig;
    #[pymodule_export]
    use crate::tokenizer::{EncodedIterable, Tokenizer, train_bpe};
    #[pymodule_export]
    use crate::train::{
        get_batch, get_lr_cosine_schedule, read_checkpoint, train, write_checkpoint,
    };

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's name of it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
