"""Checks the oracle itself: each part against hand-computed numbers or PyTorch's own function."""

import math
import tempfile

import numpy as np
import torch
from torch.nn import functional as F

import safetensors_io
from model import Attention, RMSNorm, SwiGLU, TransformerLM, causal_attention, initialise, rotate
from train import clip_gradients, gradient_norm, learning_rate, loss_and_gradients, sequential_batch

CONFIG = {
    "vocab_size": 11, "d_model": 24, "num_layers": 2, "num_heads": 6, "num_kv_heads": 3, "d_ff": 10,
    "rope_theta": 10000.0, "norm_eps": 1e-5, "tie_embeddings": True,
}


def assert_close(got, want, tolerance=1e-12):
    got, want = torch.as_tensor(got, dtype=torch.float64), torch.as_tensor(want, dtype=torch.float64)
    worst = (got - want).abs().max().item()
    assert got.shape == want.shape and worst <= tolerance, f"got {got}, want {want}, differ by {worst}"


def rotation_matches_hand_computed_numbers():
    # Head width 4: pair 0 turns by 1 radian a position, pair 1 by 10000^(-2/4) = 0.01.
    x = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64).expand(1, 1, 3, 4)
    y = rotate(x, 10000.0)[0, 0]
    assert_close(y[0], x[0, 0, 0])
    assert_close(y[1], [0.5403023058681398, 0.8414709848078965, -0.009999833334166664, 0.9999500004166653])
    assert_close(y[2], [math.cos(2), math.sin(2), -math.sin(0.02), math.cos(0.02)])


def norm_matches_hand_computed_numbers():
    # mean(3^2, 4^2) = 12.5, and the second row is so small that eps decides.
    norm = RMSNorm(2, 1e-5).double()
    x = torch.tensor([[3.0, 4.0], [0.001, -0.001]], dtype=torch.float64)
    want = [[3 / math.sqrt(12.50001), 4 / math.sqrt(12.50001)], [0.001 / math.sqrt(1.1e-5), -0.001 / math.sqrt(1.1e-5)]]
    assert_close(norm(x).detach(), want)


def swiglu_matches_hand_computed_numbers():
    ffn = SwiGLU(1, 1).double()
    for weight, value in ((ffn.w1, 2.0), (ffn.w2, 3.0), (ffn.w3, 5.0)):
        torch.nn.init.constant_(weight.weight, value)
    # silu(2 * 0.5) = 0.7310585786300049; times 5 * 0.5, times 3.
    assert_close(ffn(torch.tensor([[0.5]], dtype=torch.float64)).detach(), [[0.7310585786300049 * 2.5 * 3.0]])


def attention_matches_pytorch():
    q, k, v = torch.randn(3, 2, 4, 9, 8, dtype=torch.float64)
    if hasattr(F, "scaled_dot_product_attention"):
        want = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:  # PyTorch 1.13 has it under a private name; it returns the weights as well.
        want = F._scaled_dot_product_attention(q, k, v, is_causal=True)[0]
    assert_close(causal_attention(q, k, v), want)


def grouped_attention_matches_loop_over_heads():
    attention = Attention(CONFIG).double()
    x = torch.randn(1, 5, 24, dtype=torch.float64)
    heads = []
    for head in range(6):
        rows, kv_rows = slice(4 * head, 4 * head + 4), slice(4 * (head // 2), 4 * (head // 2) + 4)
        q = rotate(x @ attention.q_proj.weight[rows].T, 10000.0)
        k = rotate(x @ attention.k_proj.weight[kv_rows].T, 10000.0)
        heads.append(causal_attention(q, k, x @ attention.v_proj.weight[kv_rows].T))
    want = torch.cat(heads, dim=-1) @ attention.output_proj.weight.T
    assert_close(attention(x).detach(), want.detach())


def later_tokens_do_not_change_earlier_logits():
    model = TransformerLM(CONFIG).double()
    tokens = torch.arange(7)[None]
    changed = tokens.clone()
    changed[0, 4] = 10
    before, after = model(tokens).detach(), model(changed).detach()
    assert_close(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def gradient_matches_finite_difference():
    model = TransformerLM(CONFIG).double()
    initialise(model, 1)
    inputs, targets = torch.randint(11, (2, 3, 7))
    loss_and_gradients(model, inputs, targets)
    step = 1e-5
    for name, weight in model.named_parameters():
        gradient, direction = weight.grad.clone(), torch.randn_like(weight)
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
            losses.append(F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()).item())
            with torch.no_grad():
                weight -= sign * step * direction
        slope, want = (losses[0] - losses[1]) / (2 * step), (gradient * direction).sum().item()
        # The difference quotient's own error is step^2 plus rounding / step, here near 1e-9.
        assert abs(slope - want) <= 1e-7 + 1e-6 * abs(want), f"{name}: {slope} and {want}"


def initial_weights_follow_the_rule():
    model = TransformerLM({**CONFIG, "vocab_size": 3000, "d_model": 60, "tie_embeddings": False})
    initialise(model, 2)
    # Cutting a normal at 3 std leaves 0.98658 of its standard deviation.
    for weight, std in ((model.token_embeddings.weight, 1.0), (model.lm_head.weight, math.sqrt(2 / 3060))):
        assert weight.abs().max() <= 3 * std and abs(weight.std().item() / std - 0.98658) < 0.01
    assert (model.ln_final.weight == 1).all()


def clipping_matches_pytorch():
    model = TransformerLM(CONFIG).double()
    inputs, targets = torch.randint(11, (2, 3, 7))
    loss_and_gradients(model, inputs, targets)
    norm = gradient_norm(model)
    clip_gradients(model, norm, 0.0)
    clip_gradients(model, norm, 2 * norm.item())
    assert gradient_norm(model) == norm, "these two must change nothing"
    clip_gradients(model, norm, 0.01)
    clipped = [weight.grad.clone() for weight in model.parameters()]
    loss_and_gradients(model, inputs, targets)
    assert_close(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01), norm)
    for weight, want in zip(model.parameters(), clipped):
        assert_close(weight.grad, want)


def schedules_pass_through_their_corners():
    config = {"learning_rate": 1.0, "min_learning_rate": 0.2, "warmup_iters": 10, "cosine_cycle_iters": 110}
    corners = {
        "cosine": {0: 0.0, 5: 0.5, 10: 1.0, 60: 0.6, 110: 0.2, 200: 0.2},
        "constant": {0: 0.0, 5: 0.5, 10: 1.0, 200: 1.0},
        "wsd": {0: 0.0, 5: 0.5, 10: 1.0, 88: 1.0, 99: 0.6, 110: 0.2, 200: 0.2},
    }
    for schedule, points in corners.items():
        for iteration, want in points.items():
            assert_close(learning_rate({**config, "schedule": schedule}, iteration), want)


def batches_wrap_around():
    # 11 tokens hold floor(10 / 3) = 3 windows; the last token is a target only.
    inputs, targets = sequential_batch(np.arange(11, dtype=np.uint16), {"batch_size": 2, "context_length": 3}, 1)
    assert inputs.tolist() == [[6, 7, 8], [0, 1, 2]] and targets.tolist() == [[7, 8, 9], [1, 2, 3]]


def safetensors_round_trip():
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1, -2], dtype=np.int32),
              "scalar": np.array(2.5)}
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        safetensors_io.save(file.name, arrays, {"made_by": "check"})
        loaded = safetensors_io.load(file.name)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype and np.array_equal(loaded[name], array)


CHECKS = [
    rotation_matches_hand_computed_numbers, norm_matches_hand_computed_numbers, swiglu_matches_hand_computed_numbers,
    attention_matches_pytorch, grouped_attention_matches_loop_over_heads, later_tokens_do_not_change_earlier_logits,
    gradient_matches_finite_difference, initial_weights_follow_the_rule, clipping_matches_pytorch,
    schedules_pass_through_their_corners, batches_wrap_around, safetensors_round_trip,
]

if __name__ == "__main__":
    torch.manual_seed(0)
    for check in CHECKS:
        check()
        print(f"ok  {check.__name__}")
