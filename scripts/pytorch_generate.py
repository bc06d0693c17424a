"""Times new tokens of the standard models by PyTorch with a cache on this machine's CPU, eager, in float32.

Usage: pytorch_generate.py S|M [BATCH...]
Prints one JSON object: for each batch the median step over a full window, for the number of threads that is
fastest. The model's shape is the oracle's (tests/oracle/model.py); keys and values are kept in tensors that were
made before, and attention is PyTorch's fused one where it has one. A token is drawn by multinomial.
"""

import json
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as F

MODELS = {"S": (128, 4, 344, 1024, 128), "M": (512, 16, 1344, 10000, 256)}
LAYERS, STEPS = 4, 41


class Cached:
    """The model with weights of no meaning, one position a call."""

    def __init__(self, name, batch):
        self.d_model, self.heads, d_ff, vocab, self.context = MODELS[name]
        torch.manual_seed(1)

        def weight(rows, cols):
            return torch.randn(rows, cols) * 0.02

        width = self.d_model
        self.embedding = weight(vocab, width)
        self.head = weight(vocab, width)
        self.layers = [
            (weight(3 * width, width), weight(width, width), weight(2 * d_ff, width), weight(width, d_ff))
            for _ in range(LAYERS)
        ]
        shape = (batch, self.heads, self.context, width // self.heads)
        self.caches = [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYERS)]
        pair = torch.arange(0, width // self.heads, 2, dtype=torch.float64)
        angle = self.context * 10000.0 ** (-pair / (width // self.heads))
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def rotate(self, x):
        even, odd = x[..., 0::2], x[..., 1::2]
        return torch.stack((even * self.cos - odd * self.sin, even * self.sin + odd * self.cos), dim=-1).flatten(-2)

    def step(self, tokens, place):
        x = self.embedding[tokens]
        batch = len(tokens)
        for (qkv, output, gate_up, down), (keys, values) in zip(self.layers, self.caches):
            normed = F.rms_norm(x, (self.d_model,), eps=1e-5) if hasattr(F, "rms_norm") else norm(x)
            q, k, v = (normed @ qkv.T).view(batch, 3, self.heads, 1, -1).unbind(1)
            keys[:, :, place], values[:, :, place] = self.rotate(k).squeeze(2), v.squeeze(2)
            attended = attend(self.rotate(q), keys, values)
            x = x + attended.reshape(batch, -1) @ output.T
            gate, up = (norm(x) @ gate_up.T).chunk(2, dim=-1)
            x = x + (F.silu(gate) * up) @ down.T
        logits = norm(x) @ self.head.T
        return torch.multinomial(logits.softmax(dim=-1), 1).squeeze(1)


def attend(q, keys, values):
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, keys, values)
    return (q @ keys.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1) @ values


def norm(x):
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + 1e-5)


@torch.inference_mode()
def median_step(name, batch):
    """Seconds of a step over a full window."""
    net = Cached(name, batch)
    tokens = torch.zeros(batch, dtype=torch.long)
    times = []
    for step in range(STEPS + 3):
        start = time.perf_counter()
        tokens = net.step(tokens, step % net.context)
        tokens.tolist()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def main(name, *batches):
    rows = []
    for batch in map(int, batches or ("1", "8", "32")):
        steps = {}
        for threads in range(1, len(os.sched_getaffinity(0)) + 1):
            torch.set_num_threads(threads)
            steps[threads] = median_step(name, batch)
        threads = min(steps, key=steps.get)
        rows.append({
            "batch_size": batch, "threads": threads,
            "ms_per_step": steps[threads] * 1e3, "tokens_per_s": batch / steps[threads],
        })
    print(json.dumps({"pytorch": torch.__version__, "batches": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
