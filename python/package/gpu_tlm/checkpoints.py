"""Checkpoints in gpu-tlm's format, which its command line goes on from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _gpu_tlm
from ._gpu_tlm import TransformerLM
from .optim import AdamW

StateDict = dict[str, npt.NDArray[np.float32]]
Path = Union[str, "os.PathLike[str]"]


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    config: dict[str, Any]
    """The model's shape."""
    state_dict: StateDict
    """The parameters."""
    optimizer: Optional[dict[str, Any]]
    """What ``AdamW.load_state_dict`` takes, if the file has moments."""
    iteration: int
    """Iterations that are done."""


def save_checkpoint(
    model: TransformerLM | tuple[Mapping[str, Any], Mapping[str, npt.NDArray[Any]]],
    optimizer: AdamW | None,
    iteration: int,
    out: Path,
) -> None:
    """Writes a checkpoint: to a file beside it that takes its place when it is whole.

    Args:
        model: a model, or a pair of config and state dict.
        optimizer: whose moments are written too; None writes none.
        iteration: iterations that are done.
        out: the file, which usually ends in ``.safetensors``.

    Raises:
        ValueError: the parameters are not those of the config, or the optimizer has no moments of one.
        OSError: the file cannot be written.
    """
    if isinstance(model, TransformerLM):
        config, state = model.config, model.state_dict()
    else:
        config, state = dict(model[0]), dict(model[1])
    moments = None
    if optimizer is not None and optimizer.t > 0:
        moments = (optimizer.moment1, optimizer.moment2)
    steps = iteration if optimizer is None else optimizer.t
    _gpu_tlm.write_checkpoint(out, dict(config), state, moments, iteration, steps)


def load_checkpoint(
    src: Path, model: TransformerLM | None = None, optimizer: AdamW | None = None
) -> Checkpoint:
    """Reads a checkpoint, or a model of any other format that is read.

    Args:
        src: the file or folder.
        model: a model of the same shape, which takes the parameters over.
        optimizer: an optimizer, which takes the moments over.

    Raises:
        FileNotFoundError: there is nothing at src.
        ValueError: the model is of another shape, or the file has no moments for the optimizer.
        GpuTlmError: the file is damaged.
    """
    config, state, moments, iteration, steps = _gpu_tlm.read_checkpoint(src)
    optimizer_state = None
    if moments is not None:
        optimizer_state = {"t": steps, "moment1": moments[0], "moment2": moments[1]}
    if model is not None:
        model.load_state_dict(state)
    if optimizer is not None:
        if optimizer_state is None:
            raise ValueError(f"'{os.fspath(src)}' has no moments of AdamW")
        optimizer.load_state_dict(optimizer_state)
    return Checkpoint(config, state, optimizer_state, iteration)
