"""Times training steps of the standard models by PyTorch on this machine's CPU, eager, in float32.

Usage: pytorch_steps.py S|M
Prints one JSON object, for the number of threads that is fastest. The model is the oracle's
(tests/oracle/model.py), with PyTorch's fused attention where it has one; clipping and AdamW are
PyTorch's.
"""

import json
import os
import statistics
import sys
import time

import torch
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests", "oracle"))
import model as oracle

MODELS = {"S": (128, 4, 344, 1024, 128), "M": (512, 16, 1344, 10000, 256)}
BATCH_SIZE = 8
STEPS, ENOUGH_S = range(5, 51), 10.0


def fused_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def median_step(name):
    """Seconds of a step."""
    d_model, heads, d_ff, vocab, context = MODELS[name]
    config = {
        "vocab_size": vocab, "d_model": d_model, "num_layers": 4, "num_heads": heads, "num_kv_heads": heads,
        "d_ff": d_ff, "rope_theta": 10000.0, "norm_eps": 1e-5, "tie_embeddings": False,
    }
    torch.manual_seed(1)
    net = oracle.TransformerLM(config)
    oracle.initialise(net, 1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4)
    batch = torch.randint(vocab, (BATCH_SIZE, context + 1))
    times, began = [], time.perf_counter()
    while len(times) < STEPS.start or (len(times) < STEPS.stop and time.perf_counter() - began < ENOUGH_S):
        start = time.perf_counter()
        logits = net(batch[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main(name):
    if hasattr(F, "scaled_dot_product_attention"):
        oracle.causal_attention = fused_attention
    steps = {}
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):
        torch.set_num_threads(threads)
        steps[threads] = median_step(name)
    threads = min(steps, key=steps.get)
    print(json.dumps({
        "pytorch": torch.__version__, "threads": threads,
        "tokens_per_s": BATCH_SIZE * MODELS[name][-1] / steps[threads], "ms_per_step": steps[threads] * 1e3,
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
