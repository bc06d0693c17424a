"""A Transformer of Llama's and GPT-2's parts in PyTorch, and byte-pair encoding, both as plain as they get."""

from __future__ import annotations

import math
import re
from collections import Counter

import torch
import torch.nn.functional as F


def norm(config, weights, name, x):
    eps = config["norm_eps"]
    if config["norm"] == "layer":
        bias = weights[name + ".bias"]
        return F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], bias, eps)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weights[name + ".weight"]


def linear(weights, name, x):
    return F.linear(x, weights[name + ".weight"], weights.get(name + ".bias"))


def rope(x, theta):
    """Turns neighbouring elements of ``[..., time, head_dim]``."""
    time, dim = x.shape[-2:]
    frequencies = theta ** (-torch.arange(0, dim, 2, dtype=x.dtype) / dim)
    angles = torch.arange(time, dtype=x.dtype)[:, None] * frequencies
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def attention(q, k, v):
    """Causal, of ``[batch, heads, time, head_dim]``; keys and values are shared by groups."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1) @ v


def attend(config, weights, name, x):
    batch, time, _ = x.shape
    heads, kv_heads = config["num_heads"], config["num_kv_heads"]

    def project(which, count):
        y = linear(weights, f"{name}.{which}_proj", x)
        return y.view(batch, time, count, -1).transpose(1, 2)

    q, k, v = project("q", heads), project("k", kv_heads), project("v", kv_heads)
    if config["positions"] == "rope":
        q, k = rope(q, config["rope_theta"]), rope(k, config["rope_theta"])
    y = attention(q, k, v).transpose(1, 2).reshape(batch, time, -1)
    return linear(weights, name + ".output_proj", y)


def feed_forward(config, weights, name, x):
    hidden = linear(weights, name + ".w1", x)
    if config["activation"] == "gelu":
        # As in PyTorch 2, whose F.gelu has it.
        cubic = hidden + 0.044715 * hidden**3
        hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * cubic))
    else:
        hidden = F.silu(hidden) * linear(weights, name + ".w3", x)
    return linear(weights, name + ".w2", hidden)


def logits(config, weights, ids):
    """Of ids ``[batch, time]``."""
    x = weights["token_embeddings.weight"][ids]
    if config["positions"] == "learned":
        x = x + weights["position_embeddings.weight"][: ids.shape[1]]
    for i in range(config["num_layers"]):
        block = f"layers.{i}"
        x = x + attend(config, weights, block + ".attn", norm(config, weights, block + ".ln1", x))
        x = x + feed_forward(config, weights, block + ".ffn", norm(config, weights, block + ".ln2", x))
    x = norm(config, weights, "ln_final", x)
    tied = config["tie_embeddings"]
    return F.linear(x, weights["token_embeddings.weight" if tied else "lm_head.weight"])


def weights_of(state_dict):
    """Arrays as f64 tensors that take gradients."""
    return {n: torch.tensor(a, dtype=torch.float64, requires_grad=True) for n, a in state_dict.items()}


# GPT-2's pre-tokens for ASCII.
PRETOKENS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")


def split(text, special_tokens):
    pattern = "|".join(map(re.escape, sorted(special_tokens, key=len, reverse=True)))
    return re.split(f"({pattern})", text) if special_tokens else [text]


def train_bpe(text, vocab_size, special_tokens):
    """The most frequent pair is merged, of equally frequent ones the greatest. Gives the merges."""
    words = Counter()
    for part in split(text, special_tokens):
        if part not in special_tokens:
            words.update(tuple(bytes([b]) for b in w.encode()) for w in PRETOKENS.findall(part))
    merges = []
    while 256 + len(special_tokens) + len(merges) < vocab_size:
        pairs = Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        new = Counter()
        for word, count in words.items():
            new[merge(word, best)] += count
        words = new
    return merges


def merge(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def encode(text, vocab, merges, special_tokens):
    ids = {token: id for id, token in vocab.items()}
    out = []
    for part in split(text, special_tokens):
        if part in special_tokens:
            out.append(ids[part.encode()])
            continue
        for word in PRETOKENS.findall(part):
            word = tuple(bytes([b]) for b in word.encode())
            for pair in merges:
                word = merge(word, pair)
            out.extend(ids[token] for token in word)
    return out
