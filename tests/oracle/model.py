"""The language model in plain PyTorch: a pre-norm decoder without biases.

RMSNorm, rotary positions on interleaved pairs, causal attention with grouped
keys and values, SwiGLU. The parameter names are those of gpu-tlm's checkpoints.
"""

import torch
from torch import nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + self.eps) * self.weight


def rotate(x, theta):
    """Rotates the pairs (2i, 2i+1) of x [B, H, T, D] by position * theta^(-2i/D)."""
    time, width = x.shape[-2:]
    # Angles in float64, so that the float32 model has no error but its own rounding.
    pair = torch.arange(0, width, 2, dtype=torch.float64)
    angle = torch.arange(time, dtype=torch.float64)[:, None] * theta ** (-pair / width)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def causal_attention(q, k, v):
    """softmax(q k^T / sqrt(D)) v over the past; q, k, v [B, H, T, D]."""
    time, width = q.shape[-2:]
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    scores = q @ k.transpose(-1, -2) / width**0.5
    return scores.masked_fill(future, float("-inf")).softmax(dim=-1) @ v


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        d_model, self.theta = config["d_model"], config["rope_theta"]
        self.heads, self.kv_heads = config["num_heads"], config["num_kv_heads"]
        kv_width = d_model // self.heads * self.kv_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, kv_width, bias=False)
        self.v_proj = nn.Linear(d_model, kv_width, bias=False)
        self.output_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.kv_heads, -1).transpose(1, 2)
        # Neighbouring query heads share a key head: query head h reads key head h // group.
        group = self.heads // self.kv_heads
        k = rotate(k, self.theta).repeat_interleave(group, dim=1)
        v = v.repeat_interleave(group, dim=1)
        y = causal_attention(rotate(q, self.theta), k, v)
        return self.output_proj(y.transpose(1, 2).reshape(batch, time, d_model))


class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.w1 = nn.Linear(d_model, d_ff, bias=False)
        self.w2 = nn.Linear(d_ff, d_model, bias=False)
        self.w3 = nn.Linear(d_model, d_ff, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln1 = RMSNorm(config["d_model"], config["norm_eps"])
        self.attn = Attention(config)
        self.ln2 = RMSNorm(config["d_model"], config["norm_eps"])
        self.ffn = SwiGLU(config["d_model"], config["d_ff"])

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.ffn(self.ln2(x))


class TransformerLM(nn.Module):
    """Token ids [B, T] to logits [B, T, V]."""

    def __init__(self, config):
        super().__init__()
        self.token_embeddings = nn.Embedding(config["vocab_size"], config["d_model"])
        self.layers = nn.ModuleList([Block(config) for _ in range(config["num_layers"])])
        self.ln_final = RMSNorm(config["d_model"], config["norm_eps"])
        self.tied = config["tie_embeddings"]
        if not self.tied:
            self.lm_head = nn.Linear(config["d_model"], config["vocab_size"], bias=False)

    def forward(self, tokens):
        x = self.token_embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        x = self.ln_final(x)
        return F.linear(x, self.token_embeddings.weight) if self.tied else self.lm_head(x)


def initialise(model, seed):
    """Fills the weights: linear std sqrt(2/(in+out)), embedding std 1, both cut at 3 std; gains 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
                continue
            std = 1.0 if name == "token_embeddings.weight" else (2.0 / sum(weight.shape)) ** 0.5
            weight.copy_(truncated_normal(weight.shape, std, generator))


def truncated_normal(shape, std, generator):
    """Draws from N(0, std^2) and draws again what lies beyond 3 std."""
    values = torch.randn(shape, generator=generator)
    while (beyond := values.abs() > 3.0).any():
        values[beyond] = torch.randn(int(beyond.sum()), generator=generator)
    return values * std
