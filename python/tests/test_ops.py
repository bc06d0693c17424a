"""Every op against PyTorch in f64, forward and backward."""

import numpy as np
import pytest
import torch

import gpu_tlm
import reference
from conftest import close
from gpu_tlm import ops


def tensors(*arrays):
    return [torch.tensor(np.asarray(a), dtype=torch.float64, requires_grad=True) for a in arrays]


def grads_of(output, d_output, inputs):
    return [g.numpy() for g in torch.autograd.grad(output, inputs, torch.tensor(d_output).double())]


def normal(rng, *shape):
    return rng.standard_normal(shape).astype("f")


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 7, 3), (33, 65, 130)])
def test_matmul(rng, m, n, k):
    a, b = normal(rng, m, k), normal(rng, k, n)
    want = a.astype("d") @ b.astype("d")
    close(ops.matmul(a, b), want)
    close(ops.matmul(a, b.T, "nt"), want)
    close(ops.matmul(a.T, b, "tn"), want)
    with pytest.raises(ValueError, match="do not fit"):
        ops.matmul(a, normal(rng, k + 1, n))
    with pytest.raises(ValueError, match="form is 'tt'"):
        ops.matmul(a, b, "tt")
    with pytest.raises(ValueError, match="2 dimension"):
        ops.matmul(a[0], b)


def test_embedding(rng):
    weight, ids, d_output = normal(rng, 9, 6), rng.integers(0, 9, (3, 40)), normal(rng, 3, 40, 6)
    assert np.array_equal(ops.embedding(weight, ids), weight[ids])
    want = np.zeros((9, 6))
    np.add.at(want, ids, d_output)
    close(ops.embedding_backward(ids, d_output, 9), want)
    with pytest.raises(ValueError, match="id 9"):
        ops.embedding(weight, [9])
    for count in [0, 2**32, 2**62]:
        with pytest.raises(ValueError, match=f"vocab_size is {count}"):
            ops.embedding_backward(ids, d_output, count)


@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (2, 5, 64)])
def test_norms(rng, shape):
    x, d_output = normal(rng, *shape), normal(rng, *shape)
    weight, bias = normal(rng, shape[-1]), normal(rng, shape[-1])
    inputs = tensors(x, weight, bias)
    rms = inputs[0] * torch.rsqrt(inputs[0].pow(2).mean(-1, keepdim=True) + 1e-5) * inputs[1]
    close(ops.rmsnorm(x, weight), rms.detach().numpy())
    for got, want in zip(ops.rmsnorm_backward(x, weight, d_output), grads_of(rms, d_output, inputs[:2])):
        close(got, want, 1e-4)
    layer = torch.nn.functional.layer_norm(inputs[0], shape[-1:], inputs[1], inputs[2], 1e-3)
    close(ops.layernorm(x, weight, bias, 1e-3), layer.detach().numpy())
    got = ops.layernorm_backward(x, weight, d_output, 1e-3)
    for got, want in zip(got, grads_of(layer, d_output, inputs)):
        close(got, want, 1e-4)
    with pytest.raises(ValueError, match="weight must have the shape"):
        ops.rmsnorm(x, normal(rng, shape[-1] + 1))
    with pytest.raises(ValueError, match="eps is -1"):
        ops.rmsnorm(x, weight, -1.0)


def test_head_norm(rng):
    rows, heads, kv_heads, dim = 5, 4, 2, 6
    qkv, d_output = normal(rng, 2, rows, (heads + 2 * kv_heads) * dim)
    gains = normal(rng, 2, dim)
    x, query, key = tensors(qkv, *gains)
    each = x.view(rows, -1, dim)
    normed = each * torch.rsqrt(each.pow(2).mean(-1, keepdim=True) + 1e-5)
    queries, keys = normed[:, :heads] * query, normed[:, heads : heads + kv_heads] * key
    want = torch.cat([queries, keys, each[:, heads + kv_heads :]], 1).reshape(rows, -1)
    close(ops.head_norm(qkv, *gains, heads, kv_heads), want.detach().numpy())
    got = ops.head_norm_backward(qkv, *gains, d_output, heads, kv_heads)
    for got, want in zip(got, grads_of(want, d_output, [x, query, key])):
        close(got, want, 1e-4)
    with pytest.raises(ValueError, match="columns"):
        ops.head_norm(qkv, *gains, heads, kv_heads + 1)


def test_rope(rng):
    x, d_output = normal(rng, 2, 3, 9, 8), normal(rng, 2, 3, 9, 8)
    (t,) = tensors(x)
    want = reference.rope(t, 500.0)
    close(ops.rope(x, 500.0), want.detach().numpy())
    close(ops.rope_backward(d_output, 500.0), grads_of(want, d_output, [t])[0])
    moved = ops.rope(x[:, :, :2], 500.0, positions=[7, 8])
    later = np.zeros_like(x)
    later[:, :, 7:9] = x[:, :, :2]
    close(moved, ops.rope(later, 500.0)[:, :, 7:9])
    with pytest.raises(ValueError, match="even"):
        ops.rope(x[..., :7])
    with pytest.raises(ValueError, match="positions must have the shape"):
        ops.rope(x, positions=[1])


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 3, 64)])
def test_activations(rng, shape):
    x, up, d_output = (normal(rng, *shape) * 3 for _ in range(3))
    gate_t, up_t = tensors(x, up)
    glu = torch.nn.functional.silu(gate_t) * up_t
    close(ops.swiglu(x, up), glu.detach().numpy())
    for got, want in zip(ops.swiglu_backward(x, up, d_output), grads_of(glu, d_output, [gate_t, up_t])):
        close(got, want)
    (t,) = tensors(x)
    gelu = 0.5 * t * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (t + 0.044715 * t**3)))
    close(ops.gelu(x), gelu.detach().numpy())
    close(ops.gelu_backward(x, d_output), grads_of(gelu, d_output, [t])[0], 1e-4)
    with pytest.raises(ValueError, match="up must have the shape"):
        ops.swiglu(x, normal(rng, 4))


def test_softmax(rng):
    x, d_output = normal(rng, 4, 3, 70) * 5, normal(rng, 4, 3, 70)
    (t,) = tensors(x)
    want = t.softmax(-1)
    got = ops.softmax(x)
    close(got, want.detach().numpy())
    close(ops.softmax_backward(got, d_output), grads_of(want, d_output, [t])[0], 1e-4)
    close(ops.softmax([1e4, 1e4 - 1]), ops.softmax([0.0, -1.0]))


@pytest.mark.parametrize("batch, heads, kv_heads, time, dim", [(1, 1, 1, 1, 2), (2, 4, 2, 70, 16), (1, 3, 3, 5, 80)])
def test_attention(rng, batch, heads, kv_heads, time, dim):
    q, d_output = normal(rng, 2, batch, heads, time, dim)
    k, v = normal(rng, 2, batch, kv_heads, time, dim)
    inputs = tensors(q, k, v)
    want = reference.attention(*inputs)
    close(ops.attention(q, k, v), want.detach().numpy(), 1e-4)
    for got, want in zip(ops.attention_backward(q, k, v, d_output), grads_of(want, d_output, inputs)):
        # The gradient of a single key is an exact zero.
        close(got, want, 1e-4) if time > 1 else np.testing.assert_allclose(got, want, atol=1e-5)
    with pytest.raises(ValueError, match="key must have the shape"):
        ops.attention(q, k[:, :, :, :1], v)
    with pytest.raises(ValueError, match="even and at most 128"):
        ops.attention(q[..., :1], k[..., :1], v[..., :1])


def test_documents_see_themselves_alone(rng):
    lengths = [[4, 1, 9], [14]]
    documents = np.array([np.repeat(np.arange(len(row)), row) for row in lengths])
    q, d_output = normal(rng, 2, 2, 4, 14, 8)
    k, v = normal(rng, 2, 2, 2, 14, 8)
    got = ops.attention(q, k, v, documents)
    grads = ops.attention_backward(q, k, v, d_output, documents)
    for row, own in enumerate(lengths):
        ends = np.cumsum(own)
        for first, end in zip(ends - own, ends):
            part = (slice(row, row + 1), slice(None), slice(first, end))
            inputs = tensors(q[part], k[part], v[part])
            want = reference.attention(*inputs)
            close(got[part], want.detach().numpy(), 1e-4)
            for gradient, want in zip(grads, grads_of(want, d_output[part], inputs)):
                # The gradient of a single key is an exact zero.
                close(gradient[part], want, 1e-4, scale=1.0 if end - first == 1 else 0.0)
    close(ops.attention(q, k, v, np.zeros((2, 14), int)), ops.attention(q, k, v))
    with pytest.raises(ValueError, match=r"documents must have the shape \(2, 14\)"):
        ops.attention(q, k, v, documents[:1])
    with pytest.raises(TypeError, match="documents must be integers"):
        ops.attention(q, k, v, documents + 0.5)


@pytest.mark.parametrize("batch, heads, kv_heads, time, dim", [(1, 1, 1, 1, 2), (2, 4, 2, 37, 16), (3, 3, 1, 5, 6)])
def test_other_forms_of_attention(rng, batch, heads, kv_heads, time, dim):
    q = normal(rng, batch, heads, time, dim)
    k, v = normal(rng, 2, batch, kv_heads, time, dim)
    want = reference.attention(*tensors(q, k, v)).detach().numpy()
    close(ops.attention_cached(q[:, :, -1], k, v), want[:, :, -1], 1e-4)
    weights = ops.attention_weights(q, k)
    assert not np.triu(weights, 1).any()
    close(weights @ v.repeat(heads // kv_heads, 1).astype("d"), want, 1e-4)
    with pytest.raises(ValueError, match="value must have the shape"):
        ops.attention_cached(q[:, :, -1], k, v[..., :1])
    with pytest.raises(ValueError, match="3 dimension"):
        ops.attention_cached(q, k, v)


def test_bias_and_scale(rng):
    x, bias = normal(rng, 3, 5, 7), normal(rng, 7)
    close(ops.bias(x, bias), x.astype("d") + bias)
    close(ops.bias_backward(x), x.astype("d").sum((0, 1)))
    close(ops.scale(x, -2.5), x * -2.5)


def test_cross_entropy(rng):
    logits, targets = normal(rng, 3, 4, 33) * 5, rng.integers(0, 33, (3, 4))
    (t,) = tensors(logits)
    losses = torch.nn.functional.cross_entropy(t.flatten(0, 1), torch.tensor(targets).flatten(), reduction="none")
    close(ops.cross_entropy(logits, targets), losses.detach().numpy().reshape(3, 4))
    want = grads_of(losses.sum() * 0.25, 1.0, [t])[0]
    close(ops.cross_entropy_backward(logits, targets, 0.25), want)
    targets[0, 1:3] = -100
    got, d_logits = ops.cross_entropy(logits, targets), ops.cross_entropy_backward(logits, targets, 0.25)
    counts = targets >= 0
    assert not got[~counts].any() and not d_logits[~counts].any()
    close(got[counts], losses.detach().numpy().reshape(3, 4)[counts])
    close(d_logits[counts], want[counts])


def test_logprobs(rng):
    logits, ids = normal(rng, 2, 3, 40) * 4, rng.integers(0, 40, (2, 3))
    want = torch.tensor(logits).double().log_softmax(-1).numpy()
    own, top, of_top = ops.logprobs(logits, ids, 5)
    close(own, np.take_along_axis(want, ids[..., None], -1)[..., 0])
    order = np.argsort(-want, -1)[..., :5]
    assert np.array_equal(top, order) and top.dtype == np.int64
    close(of_top, np.take_along_axis(want, order, -1))
    assert ops.logprobs(logits[0, :, :2], [0, 1, 0], 3)[1][0, 2] == -1
    with pytest.raises(ValueError, match="top is 21"):
        ops.logprobs(logits, ids, 21)


def test_adamw_and_norm(rng):
    p, g, m = normal(rng, 3, 5, 4)
    v = np.abs(normal(rng, 5, 4))
    before = p.copy()
    new, m1, m2 = ops.adamw(p, g, m, v, lr=0.1, t=3, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2, clip=0.5)
    d = 0.5 * g.astype("d")
    want1, want2 = 0.8 * m + 0.2 * d, 0.9 * v + 0.1 * d * d
    step = want1 / (1 - 0.8**3) / (np.sqrt(want2 / (1 - 0.9**3)) + 1e-3)
    close(m1, want1)
    close(m2, want2)
    close(new, p * (1 - 0.1 * 0.2) - 0.1 * step)
    assert np.array_equal(p, before)
    norm, clip = ops.grad_norm([p, g], 0.5)
    want = np.sqrt(np.square(p.astype("d")).sum() + np.square(g.astype("d")).sum())
    close(norm, want)
    close(clip, 0.5 / (want + 1e-6))
    with pytest.raises(ValueError, match="counted from 1"):
        ops.adamw(p, g, m, v, lr=0.1, t=0)
    with pytest.raises(ValueError, match="moment1 must have the shape"):
        ops.adamw(p, g, m[0], v, lr=0.1, t=1)


def test_sampling(rng):
    logits = normal(rng, 6, 50) * 2
    for options, keeps in [
        ({"top_k": 3}, lambda p: np.argsort(-p)[:3]),
        ({"min_p": 0.2}, lambda p: np.flatnonzero(p >= 0.2 * p.max())),
        ({"top_p": 0.5}, lambda p: np.argsort(-p)[: 1 + np.searchsorted(np.cumsum(-np.sort(-p)), 0.5)]),
        ({"temperature": 0.0}, lambda p: [p.argmax()]),
    ]:
        kept = ops.sample_filter(logits, gpu_tlm.SamplingConfig(**options))
        for row, got in zip(logits, kept):
            p = np.exp(row - row.max())
            want = np.sort(keeps(p / p.sum()))
            assert np.array_equal(np.flatnonzero(got > -np.inf), want)
            assert np.array_equal(got[want], row[want])
    penal = ops.sample_filter(logits[0], gpu_tlm.SamplingConfig(repetition_penalty=2.0), [4, 5])
    want = logits[0].copy()
    want[4:6] = np.where(want[4:6] > 0, want[4:6] / 2, want[4:6] * 2)
    close(penal, want)
    sampling = gpu_tlm.SamplingConfig(seed=9)
    # 4000 draws: a share is off by at most 5 standard deviations of 0.008.
    draws = ops.sample(np.tile(logits[0] * 2, (4000, 1)), sampling)
    p = np.exp(2 * logits[0].astype("d"))
    share = np.bincount(draws, minlength=50) / 4000
    assert np.abs(share - p / p.sum()).max() < 0.04
    assert ops.sample(logits[0] * 2, sampling, counter=7) == draws[7]
    with pytest.raises(gpu_tlm.GpuTlmError, match="row 0 has NaN"):
        ops.sample(np.full(4, np.nan, "f"), sampling)
    with pytest.raises(ValueError, match="fewer than 1048576"):
        ops.sample(np.zeros(1 << 20, "f"), sampling)
    with pytest.raises(ValueError, match="top-k"):
        ops.sample_filter(logits, gpu_tlm.SamplingConfig(top_k=0))


def test_halves(rng):
    x = normal(rng, 3, 5, 7) * 100
    assert np.array_equal(ops.halve(x), x.astype(np.float16))
    assert np.array_equal(ops.halve(x, 0.5), (0.5 * x).astype(np.float16))
    assert np.array_equal(ops.widen(x.astype(np.float16)), x.astype(np.float16).astype("f"))
    with pytest.raises(TypeError, match="array of float16, not of float32"):
        ops.widen(x)


def test_blocks_of_bytes(rng):
    quants = rng.integers(-128, 128, (3, 5 * 32)).astype(np.int8)
    scales = np.abs(normal(rng, 3, 5) / 50).astype(np.float16)
    want = quants.astype("f") * scales.astype("f").repeat(32, 1)
    assert np.array_equal(ops.dequantize(quants, scales), want)
    with pytest.raises(ValueError, match="finite and not negative"):
        ops.dequantize(quants, -scales)
    with pytest.raises(ValueError, match="33 columns"):
        ops.dequantize(quants[:, :33], scales)
    with pytest.raises(ValueError, match=r"scales must have the shape \(3, 5\)"):
        ops.dequantize(quants, scales[:2])
    with pytest.raises(TypeError, match="array of int8, not of int64"):
        ops.dequantize(quants.astype(int), scales)


def test_empty_and_wrong_arrays_are_refused():
    empty = np.zeros((0, 3), "f")
    for use in [ops.softmax, ops.gelu, ops.halve, ops.bias_backward]:
        with pytest.raises(ValueError, match="empty"):
            use(empty)
        with pytest.raises(TypeError, match="array of floats"):
            use(np.ones((2, 2), int))
        with pytest.raises(TypeError):
            use("text")
