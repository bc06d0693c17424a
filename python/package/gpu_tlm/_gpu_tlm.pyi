import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union, final, overload

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Ids = npt.NDArray[np.int64]
_FloatsLike = npt.ArrayLike
_IdsLike = npt.ArrayLike
_Path = Union[str, os.PathLike[str]]
_StateDict = dict[str, _Floats]

__version__: str
__all__ = [
    "EncodedIterable",
    "GpuTlmError",
    "SamplingConfig",
    "Tokenizer",
    "TransformerLM",
    "__version__",
    "adamw",
    "adamw_in_place",
    "attention",
    "attention_backward",
    "attention_cached",
    "attention_weights",
    "bias",
    "bias_backward",
    "clip_in_place",
    "cross_entropy",
    "cross_entropy_backward",
    "dequantize",
    "devices",
    "embedding",
    "embedding_backward",
    "gelu",
    "gelu_backward",
    "get_batch",
    "get_lr_cosine_schedule",
    "grad_norm",
    "halve",
    "head_norm",
    "head_norm_backward",
    "layernorm",
    "layernorm_backward",
    "logprobs",
    "matches_pattern",
    "matmul",
    "mean_cross_entropy",
    "read_checkpoint",
    "rmsnorm",
    "rmsnorm_backward",
    "rope",
    "rope_backward",
    "sample",
    "sample_filter",
    "scale",
    "set_device",
    "softmax",
    "softmax_backward",
    "swiglu",
    "swiglu_backward",
    "train",
    "train_bpe",
    "widen",
    "write_checkpoint",
]

class GpuTlmError(RuntimeError): ...

@final
class SamplingConfig:
    temperature: float
    top_k: Optional[int]
    top_p: Optional[float]
    min_p: Optional[float]
    repetition_penalty: float
    max_new_tokens: int
    seed: Optional[int]
    stop: Sequence[str]
    end_token: Union[int, str, None]
    overflow: str
    def __new__(
        cls,
        temperature: float = 1.0,
        top_k: Optional[int] = None,
        top_p: Optional[float] = None,
        min_p: Optional[float] = None,
        repetition_penalty: float = 1.0,
        max_new_tokens: int = 256,
        seed: Optional[int] = None,
        stop: Optional[Sequence[str]] = None,
        end_token: Union[int, str, None] = "auto",
        overflow: str = "exact",
    ) -> SamplingConfig: ...

@final
class EncodedIterable:
    def __iter__(self) -> Iterator[int]: ...
    def __next__(self) -> int: ...

@final
class Tokenizer:
    def __new__(
        cls,
        vocab: Mapping[int, bytes],
        merges: Iterable[tuple[bytes, bytes]],
        special_tokens: Optional[Sequence[str]] = None,
    ) -> Tokenizer: ...
    @staticmethod
    def from_files(
        path_or_vocab: _Path,
        merges: Optional[_Path] = None,
        special_tokens: Optional[Sequence[str]] = None,
    ) -> Tokenizer: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_iterable(self, iterable: Iterable[str]) -> EncodedIterable: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def decode_bytes(self, ids: Iterable[int]) -> bytes: ...
    def token_id(self, text: str) -> Optional[int]: ...
    def save(self, path: _Path) -> None: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def special_tokens(self) -> dict[str, int]: ...
    @property
    def vocab(self) -> dict[int, bytes]: ...
    @property
    def merges(self) -> list[tuple[bytes, bytes]]: ...
    def __len__(self) -> int: ...

_Callback = Callable[[int, list[int], str], object]

@final
class TransformerLM:
    def __new__(
        cls, config: Mapping[str, Any], *, seed: int = 0, device: Optional[str] = None
    ) -> TransformerLM: ...
    @staticmethod
    def load(
        path: _Path,
        *,
        base: Optional[_Path] = None,
        context_length: Optional[int] = None,
        config: Optional[Mapping[str, Any]] = None,
        device: Optional[str] = None,
    ) -> TransformerLM: ...
    @staticmethod
    def from_state_dict(
        config: Mapping[str, Any],
        state_dict: Mapping[str, _FloatsLike],
        *,
        device: Optional[str] = None,
    ) -> TransformerLM: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def tokenizer(self) -> Optional[Tokenizer]: ...
    @property
    def device(self) -> str: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def state_dict(self) -> _StateDict: ...
    def load_state_dict(self, state_dict: Mapping[str, _FloatsLike]) -> None: ...
    def forward(self, ids: _IdsLike) -> _Floats: ...
    def __call__(self, ids: _IdsLike) -> _Floats: ...
    def loss_and_grads(self, ids: _IdsLike, targets: _IdsLike) -> tuple[float, _StateDict]: ...
    @overload
    def generate(
        self,
        prompt: str,
        sampling: Optional[SamplingConfig] = None,
        *,
        tokenizer: Optional[Tokenizer] = None,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> str: ...
    @overload
    def generate(
        self,
        prompt: list[str],
        sampling: Optional[SamplingConfig] = None,
        *,
        tokenizer: Optional[Tokenizer] = None,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> list[str]: ...
    @overload
    def generate(
        self,
        prompt: list[int],
        sampling: Optional[SamplingConfig] = None,
        *,
        tokenizer: Optional[Tokenizer] = None,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> list[int]: ...
    @overload
    def generate(
        self,
        prompt: list[list[int]],
        sampling: Optional[SamplingConfig] = None,
        *,
        tokenizer: Optional[Tokenizer] = None,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> list[list[int]]: ...
    @overload
    def generate(
        self,
        prompt: _IdsLike,
        sampling: Optional[SamplingConfig] = None,
        *,
        tokenizer: Optional[Tokenizer] = None,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> Any: ...
    def chat(
        self,
        messages: Union[list[dict[str, Any]], tuple[dict[str, Any], ...]],
        sampling: Optional[SamplingConfig] = None,
        *,
        callback: Optional[_Callback] = None,
        **overrides: Any,
    ) -> str: ...
    def close(self) -> None: ...
    def __enter__(self) -> TransformerLM: ...
    def __exit__(self, *_exception: object) -> None: ...

def devices() -> list[dict[str, Any]]: ...
def set_device(name: Optional[str] = None) -> None: ...
def train(
    config: Union[Mapping[str, Any], _Path],
    callback: Optional[Callable[[dict[str, Any]], object]] = None,
    *,
    replace: bool = False,
) -> dict[str, Any]: ...
def train_bpe(
    input_path: _Path,
    vocab_size: int,
    special_tokens: Optional[Sequence[str]] = None,
    *,
    special_ids: str = "first",
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]: ...
def get_batch(
    tokens: _IdsLike,
    batch_size: int,
    context_length: int,
    *,
    seed: Optional[int] = None,
    iteration: int = 0,
) -> tuple[_Ids, _Ids]: ...
def get_lr_cosine_schedule(
    it: int,
    max_learning_rate: float,
    min_learning_rate: float,
    warmup_iters: int,
    cosine_cycle_iters: int,
) -> float: ...
def write_checkpoint(
    path: _Path,
    config: Mapping[str, Any],
    state_dict: Mapping[str, _FloatsLike],
    moments: Optional[tuple[Mapping[str, _FloatsLike], Mapping[str, _FloatsLike]]],
    iteration: int,
    steps: int,
) -> None: ...
def read_checkpoint(
    path: _Path,
) -> tuple[dict[str, Any], _StateDict, Optional[tuple[_StateDict, _StateDict]], int, int]: ...
def adamw_in_place(
    parameters: Sequence[tuple[str, _Floats]],
    gradients: Sequence[_FloatsLike],
    moment1: Sequence[_Floats],
    moment2: Sequence[_Floats],
    weight_decay: Sequence[float],
    *,
    lr: float,
    t: int,
    betas: tuple[float, float],
    eps: float,
) -> None: ...
def clip_in_place(gradients: Sequence[tuple[str, _Floats]], max_norm: float) -> float: ...
def matches_pattern(name: str, pattern: str) -> bool: ...
def mean_cross_entropy(logits: _FloatsLike, targets: _IdsLike) -> float: ...
def adamw(
    parameter: _FloatsLike,
    gradient: _FloatsLike,
    moment1: _FloatsLike,
    moment2: _FloatsLike,
    *,
    lr: float,
    t: int,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    clip: float = 1.0,
) -> tuple[_Floats, _Floats, _Floats]: ...
def attention(
    query: _FloatsLike,
    key: _FloatsLike,
    value: _FloatsLike,
    documents: Optional[_IdsLike] = None,
) -> _Floats: ...
def attention_backward(
    query: _FloatsLike,
    key: _FloatsLike,
    value: _FloatsLike,
    d_output: _FloatsLike,
    documents: Optional[_IdsLike] = None,
) -> tuple[_Floats, _Floats, _Floats]: ...
def attention_cached(query: _FloatsLike, key: _FloatsLike, value: _FloatsLike) -> _Floats: ...
def attention_weights(query: _FloatsLike, key: _FloatsLike) -> _Floats: ...
def bias(x: _FloatsLike, bias: _FloatsLike) -> _Floats: ...
def bias_backward(d_output: _FloatsLike) -> _Floats: ...
def cross_entropy(logits: _FloatsLike, targets: _IdsLike) -> _Floats: ...
def cross_entropy_backward(
    logits: _FloatsLike, targets: _IdsLike, scale: float = 1.0
) -> _Floats: ...
def dequantize(quants: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> _Floats: ...
def embedding(weight: _FloatsLike, ids: _IdsLike) -> _Floats: ...
def embedding_backward(ids: _IdsLike, d_output: _FloatsLike, vocab_size: int) -> _Floats: ...
def gelu(x: _FloatsLike) -> _Floats: ...
def gelu_backward(x: _FloatsLike, d_output: _FloatsLike) -> _Floats: ...
def grad_norm(gradients: Sequence[_FloatsLike], max_norm: float) -> tuple[float, float]: ...
def halve(x: _FloatsLike, factor: Optional[float] = None) -> npt.NDArray[np.float16]: ...
def head_norm(
    qkv: _FloatsLike,
    query_gain: _FloatsLike,
    key_gain: _FloatsLike,
    num_heads: int,
    num_kv_heads: int,
    eps: float = 1e-5,
) -> _Floats: ...
def head_norm_backward(
    qkv: _FloatsLike,
    query_gain: _FloatsLike,
    key_gain: _FloatsLike,
    d_output: _FloatsLike,
    num_heads: int,
    num_kv_heads: int,
    eps: float = 1e-5,
) -> tuple[_Floats, _Floats, _Floats]: ...
def layernorm(
    x: _FloatsLike, weight: _FloatsLike, bias: _FloatsLike, eps: float = 1e-5
) -> _Floats: ...
def layernorm_backward(
    x: _FloatsLike, weight: _FloatsLike, d_output: _FloatsLike, eps: float = 1e-5
) -> tuple[_Floats, _Floats, _Floats]: ...
def logprobs(
    logits: _FloatsLike, ids: _IdsLike, top: int = 0
) -> tuple[_Floats, _Ids, _Floats]: ...
def matmul(a: _FloatsLike, b: _FloatsLike, form: str = "nn") -> _Floats: ...
def rmsnorm(x: _FloatsLike, weight: _FloatsLike, eps: float = 1e-5) -> _Floats: ...
def rmsnorm_backward(
    x: _FloatsLike, weight: _FloatsLike, d_output: _FloatsLike, eps: float = 1e-5
) -> tuple[_Floats, _Floats]: ...
def rope(
    x: _FloatsLike, theta: float = 10000.0, positions: Optional[_IdsLike] = None
) -> _Floats: ...
def rope_backward(
    d_output: _FloatsLike, theta: float = 10000.0, positions: Optional[_IdsLike] = None
) -> _Floats: ...
def sample(
    logits: _FloatsLike,
    sampling: SamplingConfig,
    context: Optional[_IdsLike] = None,
    counter: int = 0,
) -> _Ids: ...
def sample_filter(
    logits: _FloatsLike, sampling: SamplingConfig, context: Optional[_IdsLike] = None
) -> _Floats: ...
def scale(x: _FloatsLike, factor: float) -> _Floats: ...
def softmax(x: _FloatsLike) -> _Floats: ...
def softmax_backward(output: _FloatsLike, d_output: _FloatsLike) -> _Floats: ...
def swiglu(gate: _FloatsLike, up: _FloatsLike) -> _Floats: ...
def swiglu_backward(
    gate: _FloatsLike, up: _FloatsLike, d_output: _FloatsLike
) -> tuple[_Floats, _Floats]: ...
def widen(x: npt.NDArray[np.float16]) -> _Floats: ...
