"""Small models, and what tests compare with."""

from __future__ import annotations

import numpy as np
import pytest

import gpu_tlm

CONFIG = dict(
    vocab_size=61, context_length=24, d_model=16, num_layers=2, num_heads=4, num_kv_heads=2, d_ff=40
)

# Kernels sum a few hundred f32 products, whose rounding is some 1e-7 of the largest each; the reference is in f64.
TOLERANCE = 2e-5


def close(got, want, tolerance: float = TOLERANCE, scale: float = 0.0) -> None:
    """Within a tolerance of each value and of the root mean square of all, or of a larger scale."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape
    rms = float(np.sqrt(np.mean(np.square(want)))) if want.size else 0.0
    error = np.abs(got - want) - tolerance * np.abs(want)
    assert np.all(error <= tolerance * max(rms, scale, 1e-30)), f"off by up to {error.max()}, rms {rms}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(scope="session")
def model():
    with gpu_tlm.TransformerLM(CONFIG, seed=3) as model:
        yield model


TEXT = (
    "the cat sat on the mat. the cat ate the rat, and then the cat sat again.<|endoftext|>"
    "a dog can't see what the cat's seen; it'll bark at 12345 cats!  two  spaces\n\nlines<|endoftext|>"
) * 8
END = "<|endoftext|>"
