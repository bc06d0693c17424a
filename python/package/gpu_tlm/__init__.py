"""Transformer language models on any GPU, from text to tokens to text.

Everything is computed by the WGSL kernels of gpu-tlm; arrays of numpy go in and come out.
"""

from . import ops
from ._gpu_tlm import (
    GpuTlmError,
    SamplingConfig,
    Tokenizer,
    TransformerLM,
    __version__,
    devices,
    get_batch,
    get_lr_cosine_schedule,
    set_device,
    train,
    train_bpe,
)
from .checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from .functional import cross_entropy, generate_text, gradient_clipping
from .optim import AdamW

__all__ = [
    "AdamW",
    "Checkpoint",
    "GpuTlmError",
    "SamplingConfig",
    "Tokenizer",
    "TransformerLM",
    "__version__",
    "cross_entropy",
    "devices",
    "generate_text",
    "get_batch",
    "get_lr_cosine_schedule",
    "gradient_clipping",
    "load_checkpoint",
    "ops",
    "save_checkpoint",
    "set_device",
    "train",
    "train_bpe",
]
