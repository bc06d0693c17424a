"""The adapters of examples/cs336.py against PyTorch."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import gpu_tlm
import reference
from conftest import close

PATH = Path(__file__).parent.parent / "examples" / "cs336.py"


@pytest.fixture(scope="module")
def cs336():
    spec = importlib.util.spec_from_file_location("cs336", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG = dict(
    vocab_size=40, context_length=16, d_model=16, num_layers=2, num_heads=2, d_ff=24, rope_theta=1000.0
)


def test_a_model_of_ops_is_the_model_and_pytorchs(cs336, rng):
    with gpu_tlm.TransformerLM(CONFIG, seed=4) as model:
        config, weights = model.config, model.state_dict()
    ids = rng.integers(0, 40, (2, 12))
    want = reference.logits(config, reference.weights_of(weights), torch.tensor(ids)).detach().numpy()
    close(cs336.run_transformer_lm(*CONFIG.values(), weights, ids), want)
    x = cs336.run_embedding(40, 16, weights["token_embeddings.weight"], ids)
    for i in range(2):
        block = {n.split(".", 2)[2]: a for n, a in weights.items() if n.startswith(f"layers.{i}.")}
        x = cs336.run_transformer_block(16, 2, 24, 16, 1000.0, block, x)
    x = cs336.run_rmsnorm(16, 1e-5, weights["ln_final.weight"], x)
    close(cs336.run_linear(16, 40, weights["lm_head.weight"], x), want, 1e-4)


def test_single_adapters(cs336, rng):
    x = rng.standard_normal((3, 5, 8)).astype("f")
    t = torch.tensor(x).double()
    close(cs336.run_softmax(x, 1), t.softmax(1).numpy())
    close(cs336.run_silu(x), torch.nn.functional.silu(t).numpy())
    mask = np.tril(np.ones((5, 5), bool))
    close(cs336.run_scaled_dot_product_attention(x, x, x, mask), reference.attention(*[t[:, None]] * 3)[:, 0].numpy())
    weights = (t[:, :3] @ t.transpose(1, 2) / 8**0.5).softmax(-1)
    close(cs336.run_scaled_dot_product_attention(x[:, :3], x, x), (weights @ t).numpy())
    matrices = rng.standard_normal((4, 8, 8)).astype("f")
    names = [f"a.{name}_proj.weight" for name in ("q", "k", "v", "output")]
    state = dict(zip(names, torch.tensor(matrices).double()))
    config = dict(num_heads=2, num_kv_heads=2, positions="rope", rope_theta=100.0)
    want = reference.attend(config, state, "a", t).numpy()
    positions = np.arange(5)[None]
    close(cs336.run_multihead_self_attention_with_rope(8, 2, 64, 100.0, *matrices, x, positions), want)
    want = reference.attend({**config, "positions": "learned"}, state, "a", t).numpy()
    close(cs336.run_multihead_self_attention(8, 2, *matrices, x), want)
    close(cs336.run_rope(8, 100.0, 64, x, np.arange(5)), reference.rope(t, 100.0).numpy())


def test_the_example_learns_its_text(cs336, capsys):
    text = cs336.main([])
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines()]
    # Uniform over 300 tokens is 5.7 nats; the text repeats one story.
    assert losses[0] > 5 and losses[-1] < 1
    assert set(text.split()) & {"there", "was", "cat.", "cat", "sat", "rat"}
