"""AdamW over dicts of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _gpu_tlm

Arrays = Mapping[str, npt.NDArray[np.float32]]


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with its moments, as ``torch.optim.AdamW`` computes it.

    Args:
        lr: the learning rate of steps that name none.
        betas: decay of both moments.
        eps: added to the root of the corrected second moment.
        weight_decay: decoupled, times the learning rate.
        no_decay: parts of names of parameters without decay, ``*`` for anything; a number at the end of one is a
            whole one, as in the keys of a config.

    Attributes:
        t: steps that are done.
        moment1, moment2: dicts of float32 arrays, filled by the first step.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        no_decay: Iterable[str] = (),
    ) -> None:
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.no_decay = list(no_decay)
        self.t = 0
        self.moment1: dict[str, npt.NDArray[np.float32]] = {}
        self.moment2: dict[str, npt.NDArray[np.float32]] = {}

    def step(
        self, params: Arrays, grads: Mapping[str, npt.NDArray[Any]], lr: float | None = None
    ) -> None:
        """Takes one step, which changes the arrays of ``params`` in place.

        Args:
            params: float32 arrays by name, contiguous and writable.
            grads: float arrays by name, of the same shapes; a parameter without a gradient stays as it is.
            lr: the learning rate of this step.

        Raises:
            TypeError: an array is not of float32.
            ValueError: a gradient is of no parameter, or of another shape.
        """
        unknown = [name for name in grads if name not in params]
        if unknown:
            raise ValueError(f"there is a gradient of '{unknown[0]}', but no such parameter")
        for name in grads:
            for moments in (self.moment1, self.moment2):
                if name not in moments:
                    moments[name] = np.zeros(np.shape(params[name]), dtype=np.float32)
        names = list(grads)
        _gpu_tlm.adamw_in_place(
            [(name, params[name]) for name in names],
            [grads[name] for name in names],
            [self.moment1[name] for name in names],
            [self.moment2[name] for name in names],
            [0.0 if self._is_undecayed(name) else self.weight_decay for name in names],
            lr=self.lr if lr is None else lr,
            t=self.t + 1,
            betas=self.betas,
            eps=self.eps,
        )
        self.t += 1

    def _is_undecayed(self, name: str) -> bool:
        return any(_gpu_tlm.matches_pattern(name, pattern) for pattern in self.no_decay)

    def state_dict(self) -> dict[str, Any]:
        """The steps that are done, and copies of both moments."""
        copies = [{n: a.copy() for n, a in m.items()} for m in (self.moment1, self.moment2)]
        return {"t": self.t, "moment1": copies[0], "moment2": copies[1]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over copies of what ``state_dict`` gave."""
        for key in ("t", "moment1", "moment2"):
            if key not in state:
                raise ValueError(f"the optimizer's state has no '{key}'")
        self.t = int(state["t"])
        self.moment1 = {n: np.array(a, dtype=np.float32) for n, a in state["moment1"].items()}
        self.moment2 = {n: np.array(a, dtype=np.float32) for n, a in state["moment2"].items()}
