"""What the adapters of Stanford's CS336 assignment 1 do, by gpu_tlm alone.

Each function ``run_...`` has the name and the arguments of an adapter there; arrays are numpy's. The end trains a small model
from text to text:

    python examples/cs336.py [text file]
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import gpu_tlm
from gpu_tlm import ops


def run_linear(d_in, d_out, weights, in_features):
    rows = np.reshape(in_features, (-1, d_in))
    return ops.matmul(rows, weights, "nt").reshape(*np.shape(in_features)[:-1], d_out)


def run_embedding(vocab_size, d_model, weights, token_ids):
    return ops.embedding(weights, token_ids)


def run_silu(in_features):
    return ops.swiglu(in_features, np.ones_like(in_features))


def run_swiglu(d_model, d_ff, w1_weight, w2_weight, w3_weight, in_features):
    gate = run_linear(d_model, d_ff, w1_weight, in_features)
    up = run_linear(d_model, d_ff, w3_weight, in_features)
    return run_linear(d_ff, d_model, w2_weight, ops.swiglu(gate, up))


def run_rmsnorm(d_model, eps, weights, in_features):
    return ops.rmsnorm(in_features, weights, eps)


def run_softmax(in_features, dim):
    return np.moveaxis(ops.softmax(np.moveaxis(in_features, dim, -1)), -1, dim)


def run_rope(d_k, theta, max_seq_len, in_query_or_key, token_positions):
    # The same positions for every sequence.
    positions = None if token_positions is None else np.ravel(token_positions)
    return ops.rope(in_query_or_key, theta, positions)


def run_scaled_dot_product_attention(Q, K, V, mask=None):
    """Of ``[..., queries, d_k]``; where the mask is False, a query does not see a key."""
    *batch, queries, d_k = np.shape(Q)
    keys, d_v = np.shape(V)[-2:]
    q, k, v = (np.reshape(x, (-1, *np.shape(x)[-2:])) for x in (Q, K, V))
    scores = np.stack([ops.matmul(*pair, "nt") for pair in zip(q, k)]) / np.float32(np.sqrt(d_k))
    if mask is not None:
        shape = (*batch, queries, keys)
        scores = np.where(np.broadcast_to(mask, shape).reshape(scores.shape), scores, np.float32("-inf"))
    weights = ops.softmax(scores)
    return np.stack([ops.matmul(*pair) for pair in zip(weights, v)]).reshape(*batch, queries, d_v)


def run_multihead_self_attention(
    d_model, num_heads, q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight, in_features
):
    rotate = lambda x: x
    matrices = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attend(d_model, num_heads, matrices, in_features, rotate)


def run_multihead_self_attention_with_rope(
    d_model, num_heads, max_seq_len, theta, q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight, in_features,
    token_positions=None,
):
    rotate = lambda x: run_rope(d_model // num_heads, theta, max_seq_len, x, token_positions)
    matrices = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return attend(d_model, num_heads, matrices, in_features, rotate)


def attend(d_model, num_heads, matrices, in_features, rotate):
    """Causal attention by the kernel that takes all heads at once."""
    *batch, time, _ = np.shape(in_features)
    *projections, output = matrices

    def heads(weight):
        x = run_linear(d_model, d_model, weight, in_features).reshape(-1, time, num_heads, d_model // num_heads)
        return np.swapaxes(x, 1, 2)

    q, k, v = map(heads, projections)
    attended = np.swapaxes(ops.attention(rotate(q), rotate(k), v), 1, 2).reshape(*batch, time, d_model)
    return run_linear(d_model, d_model, output, attended)


def run_transformer_block(d_model, num_heads, d_ff, max_seq_len, theta, weights, in_features):
    names = [f"attn.{name}_proj.weight" for name in ("q", "k", "v", "output")]
    normed = run_rmsnorm(d_model, 1e-5, weights["ln1.weight"], in_features)
    matrices = [weights[name] for name in names]
    attended = run_multihead_self_attention_with_rope(d_model, num_heads, max_seq_len, theta, *matrices, normed)
    x = in_features + attended
    normed = run_rmsnorm(d_model, 1e-5, weights["ln2.weight"], x)
    return x + run_swiglu(d_model, d_ff, *(weights[f"ffn.w{i}.weight"] for i in (1, 2, 3)), normed)


def run_transformer_lm(
    vocab_size, context_length, d_model, num_layers, num_heads, d_ff, rope_theta, weights, in_indices
):
    config = dict(
        vocab_size=vocab_size, context_length=context_length, d_model=d_model, num_layers=num_layers,
        num_heads=num_heads, d_ff=d_ff, rope_theta=rope_theta,
    )
    with gpu_tlm.TransformerLM.from_state_dict(config, weights) as model:
        return model.forward(in_indices)


def run_get_batch(dataset, batch_size, context_length, device=None):
    return gpu_tlm.get_batch(dataset, batch_size, context_length)


run_cross_entropy = gpu_tlm.cross_entropy
run_gradient_clipping = gpu_tlm.gradient_clipping
run_get_lr_cosine_schedule = gpu_tlm.get_lr_cosine_schedule
run_save_checkpoint = gpu_tlm.save_checkpoint


def run_load_checkpoint(src, model, optimizer) -> int:
    return gpu_tlm.load_checkpoint(src, model, optimizer).iteration


def get_adamw_cls() -> Any:
    return gpu_tlm.AdamW


def get_tokenizer(vocab, merges, special_tokens=None):
    return gpu_tlm.Tokenizer(vocab, merges, special_tokens)


run_train_bpe = gpu_tlm.train_bpe


def story(path: str | None) -> str:
    if path is not None:
        return path
    text = "Once there was a cat. The cat sat on a mat and saw a rat. The rat ran, and the cat ran too.<|endoftext|>"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.write(text * 40)
    return file.name


def lines(path: str) -> Iterator[str]:
    with open(path) as file:
        yield from file


def main(arguments: Iterable[str]) -> str:
    """Trains a tokenizer and a model on a text, and gives what the model says."""
    path = story(next(iter(arguments), None))
    special = ["<|endoftext|>"]
    vocab, merges = run_train_bpe(path, 300, special)
    tokenizer = get_tokenizer(vocab, merges, special)
    tokens = np.fromiter(tokenizer.encode_iterable(lines(path)), dtype=np.uint16)
    config = dict(vocab_size=len(vocab), context_length=32, d_model=32, num_layers=2, num_heads=2, d_ff=88)
    steps = 60
    with gpu_tlm.TransformerLM(config) as model:
        params, optimizer = model.state_dict(), gpu_tlm.AdamW(weight_decay=0.1)
        for step in range(steps):
            x, y = run_get_batch(tokens, 8, 32)
            loss, grads = model.loss_and_grads(x, y)
            run_gradient_clipping(grads, 1.0)
            lr = run_get_lr_cosine_schedule(step, 1e-2, 1e-3, 5, steps)
            optimizer.step(params, grads, lr)
            model.load_state_dict(params)
            if step % 10 == 0 or step == steps - 1:
                print(f"step {step}: loss {loss:.3f}, learning rate {lr:.4f}")
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "model.safetensors")
            run_save_checkpoint(model, optimizer, steps, file)
            assert run_load_checkpoint(file, model, optimizer) == steps
        return gpu_tlm.generate_text(model, tokenizer, "Once", max_new_tokens=40, temperature=0.5, top_p=0.9)


if __name__ == "__main__":
    print(main(sys.argv[1:]))
