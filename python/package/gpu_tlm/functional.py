"""Functions over arrays and models under the names that people who have written them once know."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _gpu_tlm
from ._gpu_tlm import SamplingConfig, Tokenizer, TransformerLM


def cross_entropy(logits: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """The mean cross-entropy in nats.

    Args:
        logits: floats ``[..., vocab_size]``.
        targets: integers ``[...]``, each below vocab_size; -100 for rows that do not count, as in PyTorch. Where
            none does, the mean is 0.

    Raises:
        TypeError: targets are no integers, or logits no floats.
        ValueError: the shapes do not fit, or a target is out of range.
    """
    return _gpu_tlm.mean_cross_entropy(logits, targets)


def gradient_clipping(
    grads: MutableMapping[str, npt.NDArray[np.float32]] | Sequence[npt.NDArray[np.float32]],
    max_norm: float,
) -> float:
    """Scales gradients in place so that their L2 norm over all of them is at most ``max_norm``.

    Args:
        grads: a dict or list of float32 arrays.
        max_norm: over 0. As in PyTorch the factor is ``max_norm / (norm + 1e-6)``.

    Returns:
        the norm before.
    """
    if isinstance(grads, MutableMapping):
        pairs = list(grads.items())
    else:
        pairs = [(f"gradient {index}", array) for index, array in enumerate(grads)]
    return _gpu_tlm.clip_in_place(pairs, max_norm)


def generate_text(
    model: TransformerLM,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float | None = None,
    *,
    callback: Callable[[int, list[int], str], Any] | None = None,
    **sampling: Any,
) -> str:
    """The text that the model adds to a prompt, up to the token that ends texts.

    Args:
        model: the model.
        tokenizer: the one that it was trained with.
        prompt: text to go on from.
        max_new_tokens, temperature, top_p: as in `SamplingConfig`, whose other fields may be given too.
        callback: as for `TransformerLM.generate`.
    """
    config = SamplingConfig(
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, **sampling
    )
    text = model.generate(prompt, config, tokenizer=tokenizer, callback=callback)
    assert isinstance(text, str)
    return text
