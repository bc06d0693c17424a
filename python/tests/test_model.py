import re
import threading
import time

import numpy as np
import pytest
import torch

import gpu_tlm
import reference
from conftest import CONFIG, close

SHAPES = {
    "llama": {},
    "tied": {"tie_embeddings": True},
    "gpt2": {
        "norm": "layer", "activation": "gelu", "positions": "learned", "biases": True,
        "tie_embeddings": True, "num_kv_heads": 4,
    },
}


@pytest.fixture(scope="module", params=SHAPES)
def any_model(request):
    with gpu_tlm.TransformerLM({**CONFIG, **SHAPES[request.param]}, seed=1) as model:
        # Initial biases are zero, which would hide them.
        rng = np.random.default_rng(2)
        state = {n: a + 0.05 * rng.standard_normal(a.shape).astype("f") for n, a in model.state_dict().items()}
        model.load_state_dict(state)
        yield model


def test_logits_are_those_of_pytorch(any_model, rng):
    weights = reference.weights_of(any_model.state_dict())
    # Around the lengths that are planned, and up to the context.
    for shape in [(1, 1), (3, 5), (2, 16), (2, 17), (1, 24)]:
        ids = rng.integers(0, 61, shape)
        want = reference.logits(any_model.config, weights, torch.tensor(ids)).detach().numpy()
        got = any_model.forward(ids)
        assert got.dtype == np.float32
        close(got, want)
        close(any_model(ids[0]), want[0])


def test_many_sequences_take_several_passes(rng):
    config = {**CONFIG, "vocab_size": 3000, "num_layers": 1}
    with gpu_tlm.TransformerLM(config) as model:
        weights = reference.weights_of(model.state_dict())
        ids = rng.integers(0, 3000, (190, 24))
        want = reference.logits(model.config, weights, torch.tensor(ids)).detach().numpy()
        close(model.forward(ids), want)


def test_a_vocabulary_over_a_million_has_logits_of_any_length_and_no_draws():
    config = {**CONFIG, "vocab_size": 1 << 20, "d_model": 4, "num_heads": 2, "num_layers": 1, "d_ff": 8, "tie_embeddings": True}
    with gpu_tlm.TransformerLM(config) as model:
        one = model.forward([5])
        # More than the first had memory for.
        close(model.forward([5] + [7] * 19)[:1], one)
        with pytest.raises(ValueError, match="vocab_size is 1048576"):
            model.generate([5])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16, np.uint64, np.int64])
def test_ids_may_be_of_any_integer_type(model, dtype):
    ids = np.arange(12, dtype=dtype).reshape(2, 6)
    assert np.array_equal(model.forward(ids), model.forward(ids.tolist()))
    assert np.array_equal(model.forward(ids[:, ::2]), model.forward(ids[:, ::2].copy()))


def test_loss_and_gradients_are_those_of_pytorch(any_model, rng):
    # The longest first: what it leaves of positions must not stay.
    for shape in [(3, 24), (2, 7), (1, 1)]:
        ids, targets = rng.integers(0, 61, (2, *shape))
        targets[0, 3:6] = -100
        loss, grads = any_model.loss_and_grads(ids, targets)
        weights = reference.weights_of(any_model.state_dict())
        logits = reference.logits(any_model.config, weights, torch.tensor(ids))
        want = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten())
        want.backward()
        close(loss, want.item())
        assert list(grads) == list(any_model.state_dict())
        wanted = {name: weight.grad.numpy() for name, weight in weights.items()}
        # The gradient for biases of keys is none, since softmax sees differences alone: what is left is rounding.
        scale = np.median([np.abs(grad).max() for grad in wanted.values()])
        for name, grad in grads.items():
            close(grad, wanted[name], scale=scale if "k_proj.bias" in name else 0.0)


def test_nothing_is_learned_where_no_target_counts(model):
    loss, grads = model.loss_and_grads([[1, 2, 3]], [[-100] * 3])
    assert loss == 0
    assert all(not grad.any() for grad in grads.values())


def test_a_state_dict_makes_the_same_model(model):
    state = model.state_dict()
    ids = [[1, 2, 3]]
    with gpu_tlm.TransformerLM.from_state_dict(model.config, state) as other:
        assert np.array_equal(other.forward(ids), model.forward(ids))
        changed = {n: 2 * a for n, a in state.items()}
        before = other.loss_and_grads(ids, ids)[0]
        greedy = other.generate([5, 6], max_new_tokens=8, temperature=0)
        other.load_state_dict(changed)
        assert not np.array_equal(other.forward(ids), model.forward(ids))
        assert other.loss_and_grads(ids, ids)[0] != before
        assert other.generate([5, 6], max_new_tokens=8, temperature=0) != greedy
    torch_state = {n: torch.tensor(a) for n, a in state.items()}
    with gpu_tlm.TransformerLM.from_state_dict(model.config, torch_state) as other:
        assert np.array_equal(other.forward(ids), model.forward(ids))


def test_a_tied_head_may_be_named_twice():
    with gpu_tlm.TransformerLM({**CONFIG, "tie_embeddings": True}) as model:
        state = model.state_dict()
        state["lm_head.weight"] = state["token_embeddings.weight"]
        model.load_state_dict(state)
        state["lm_head.weight"] = state["lm_head.weight"] + 1
        with pytest.raises(ValueError, match="ties it"):
            model.load_state_dict(state)


def test_greedy_tokens_are_the_likeliest_one_by_one(model):
    ids = [7, 8, 9]
    # Up to the context and beyond, where the window moves.
    for _ in range(30):
        logits = model.forward(ids[-24:])[-1]
        ids.append(int(logits.argmax()))
    assert model.generate([7, 8, 9], max_new_tokens=30, temperature=0) == ids[3:]


def test_seeds_repeat_and_sequences_do_not_mix(model):
    sampling = gpu_tlm.SamplingConfig(seed=4, max_new_tokens=10, top_p=0.9)
    alone = [model.generate(p, sampling) for p in ([1, 2], [3], [4, 5, 6])]
    assert model.generate([[1, 2], [3], [4, 5, 6]], sampling) == alone
    assert model.generate(np.array([[1, 2], [1, 2]]), sampling) == [alone[0]] * 2
    assert model.generate([1, 2], sampling, seed=5) != alone[0]
    # 10 draws among 61 tokens.
    assert len({tuple(model.generate([1, 2], sampling, seed=None)) for _ in range(3)}) == 3
    assert sampling.seed == 4


def test_an_end_token_ends_and_is_left_out(model):
    ids = model.generate([7], max_new_tokens=12, temperature=0)
    end = ids[3]
    ended = model.generate([7], max_new_tokens=12, temperature=0, end_token=end)
    assert ended == ids[: ids.index(end)]


def test_a_callback_sees_the_pieces_and_may_end_everything(model):
    pieces = []
    model.generate([1], max_new_tokens=5, seed=1, callback=lambda i, ids, text: pieces.append((i, ids, text)))
    assert [p[0] for p in pieces] == [0] * len(pieces)
    assert sum((p[1] for p in pieces), []) == model.generate([1], max_new_tokens=5, seed=1)
    got = model.generate([[1], [2]], max_new_tokens=50, seed=1, callback=lambda *_: False)
    assert 1 <= len(got[0]) < 50 and len(got) == 2

    def fails(*_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        model.generate([1], callback=fails)
    assert len(model.generate([1], max_new_tokens=3, seed=1, end_token=None)) == 3


def test_texts_go_on_with_a_tokenizer(model):
    # Bytes alone: 61 tokens would not hold them, so the ids are those of a larger model.
    tokenizer = gpu_tlm.Tokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"])
    with gpu_tlm.TransformerLM({**CONFIG, "vocab_size": 257}, seed=1) as larger:
        ids = larger.generate(list(b"ab"), max_new_tokens=9, seed=3)
        sampling = gpu_tlm.SamplingConfig(max_new_tokens=9, seed=3)
        text = larger.generate("ab", sampling, tokenizer=tokenizer)
        assert text == tokenizer.decode(ids)
        assert larger.generate(["ab", "ab"], sampling, tokenizer=tokenizer) == [text, text]
        assert gpu_tlm.generate_text(larger, tokenizer, "ab", 9, seed=3) == text
        # Bytes that are no character of their own match no text.
        stop = re.search("[ -~]{2}", text).group()
        stopped = gpu_tlm.generate_text(larger, tokenizer, "ab", 9, seed=3, stop=[stop])
        assert stopped == text[: text.index(stop)]
    with pytest.raises(ValueError, match="gives id 97, but the model knows 0 to 60"):
        model.generate("ab", tokenizer=tokenizer)


def test_a_callback_cannot_use_its_model(model):
    uses = [lambda: model.forward([1]), lambda: model.generate([1]), model.state_dict, model.close, lambda: model.device]
    said = []

    def callback(*_):
        assert not model.closed
        for use in uses:
            with pytest.raises(gpu_tlm.GpuTlmError, match="callback") as raised:
                use()
            said.append(str(raised.value))

    model.generate([1], max_new_tokens=1, callback=callback)
    assert len(said) == len(uses)
    model.forward([1])


def test_mappings_are_dicts(model):
    from collections import ChainMap
    from types import MappingProxyType

    state = MappingProxyType(model.state_dict())
    with gpu_tlm.TransformerLM.from_state_dict(ChainMap(model.config), state) as other:
        assert np.array_equal(other.forward([1, 2]), model.forward([1, 2]))


def test_closed_models_say_so():
    with gpu_tlm.TransformerLM(CONFIG) as model:
        assert not model.closed
    assert model.closed
    model.close()
    for use in [
        lambda: model.forward([1]),
        lambda: model.loss_and_grads([1], [1]),
        lambda: model.generate([1]),
        model.state_dict,
        lambda: model.device,
    ]:
        with pytest.raises(gpu_tlm.GpuTlmError, match="the model was closed"):
            use()
    assert model.config["d_model"] == 16


def test_the_interpreter_lock_is_released_and_threads_may_share_a_model(model, rng):
    ids = rng.integers(0, 61, (100, 24))
    want = model.forward(ids)
    got = []
    thread = threading.Thread(target=lambda: got.append(model.forward(np.tile(ids, (4, 1)))))
    ticks = 0
    thread.start()
    while thread.is_alive():
        ticks += 1
        time.sleep(0.001)
    # With the lock held, this thread would have come to run at the beginning and the end alone.
    assert ticks > 3
    assert np.array_equal(got[0][:100], want)


def test_wrong_arguments_are_python_exceptions(model, tmp_path):
    state = model.state_dict()
    cases = [
        (ValueError, "id 61 at position 1 is outside of 0 to 60", lambda: model.forward([1, 61])),
        (ValueError, "id -1", lambda: model.forward(np.array([-1]))),
        (ValueError, "id -", lambda: model.forward(np.array([2**64 - 1], dtype=np.uint64))),
        (TypeError, "ids must be integers, not float64", lambda: model.forward([0.5])),
        (TypeError, "ids must be integers, not bool", lambda: model.forward([True])),
        (TypeError, "ids must be integers", lambda: model.forward("text")),
        (TypeError, "ids cannot be made an array", lambda: model.forward([[1], [1, 2]])),
        (ValueError, "ids is empty", lambda: model.forward([])),
        (ValueError, "dimension", lambda: model.forward(np.zeros((1, 1, 1), int))),
        (ValueError, "longer than the model's context of 24", lambda: model.forward([0] * 25)),
        (ValueError, "longer than the model's context", lambda: model.loss_and_grads([0] * 25, [0] * 25)),
        (ValueError, "targets must have the shape", lambda: model.loss_and_grads([1, 2], [1])),
        (ValueError, "targets: id -1 ", lambda: model.loss_and_grads([1, 2], [1, -1])),
        (ValueError, "prompt is empty", lambda: model.generate([])),
        (ValueError, "prompt is empty", lambda: model.generate([[1], []])),
        (ValueError, "needs a tokenizer", lambda: model.generate("text")),
        (ValueError, "need a tokenizer", lambda: model.generate([1], stop=["a"])),
        (ValueError, "temperature is -1", lambda: model.generate([1], temperature=-1.0)),
        (ValueError, "top-p is 2", lambda: model.generate([1], top_p=2.0)),
        (ValueError, "overflow is 'x'", lambda: model.generate([1], overflow="x")),
        (ValueError, "end_token is 61", lambda: model.generate([1], end_token=61)),
        (ValueError, "tokenizer", lambda: model.generate([1], end_token="</s>")),
        (ValueError, "no chat template", lambda: model.chat([{"role": "user", "content": "Hello"}])),
        (ValueError, "message 0 has a role that is", lambda: model.chat([{"role": "robot", "content": "Hello"}])),
        (ValueError, "message 1 has no content", lambda: model.chat([{"role": "user", "content": ""}, {"role": "user"}])),
        (ValueError, "messages are none", lambda: model.chat([])),
        (TypeError, "messages must be a list, not str", lambda: model.chat("Hello")),
        (TypeError, "unexpected keyword 'top_q'", lambda: model.generate([1], top_q=1)),
        (TypeError, "sampling", lambda: model.generate([1], sampling=3)),
        (TypeError, "temperature", lambda: gpu_tlm.SamplingConfig(temperature="hot")),
        (ValueError, "unknown key 'depth'", lambda: gpu_tlm.TransformerLM({**CONFIG, "depth": 3})),
        (ValueError, "'d_model' is 17", lambda: gpu_tlm.TransformerLM({**CONFIG, "d_model": 17})),
        (ValueError, "'d_model' has the value", lambda: gpu_tlm.TransformerLM({**CONFIG, "d_model": "x"})),
        (TypeError, "config must be a dict", lambda: gpu_tlm.TransformerLM([1])),
        (ValueError, "vocab_size", lambda: gpu_tlm.TransformerLM({})),
        (ValueError, "no adapter matches 'abacus'", lambda: gpu_tlm.TransformerLM(CONFIG, device="abacus")),
        (ValueError, "no adapter matches 'abacus'", lambda: gpu_tlm.set_device("abacus")),
        (ValueError, "has no 'ln_final.weight'",
         lambda: model.load_state_dict({n: a for n, a in state.items() if n != "ln_final.weight"})),
        (ValueError, "has 'extra', which", lambda: model.load_state_dict({**state, "extra": state["ln_final.weight"]})),
        (ValueError, r"must have the shape \(16,\), not \(3,\)",
         lambda: model.load_state_dict({**state, "ln_final.weight": np.zeros(3)})),
        (TypeError, "array of floats, not of int64",
         lambda: model.load_state_dict({**state, "ln_final.weight": np.zeros(16, int)})),
        (TypeError, "must be a dict of names", lambda: model.load_state_dict(3)),
        (ValueError, "a batch of 65544 tokens is over 65536",
         lambda: model.loss_and_grads(np.zeros((2731, 24), int), np.zeros((2731, 24), int))),
        (MemoryError, "do not fit", lambda: gpu_tlm.TransformerLM({**CONFIG, "d_model": 1 << 15, "num_layers": 64, "num_heads": 512})),
        (OverflowError, "negative int", lambda: gpu_tlm.TransformerLM(CONFIG, seed=-1)),
        (FileNotFoundError, "none", lambda: gpu_tlm.TransformerLM.load(tmp_path / "none")),
        ((ValueError, gpu_tlm.GpuTlmError), "test_model.py", lambda: gpu_tlm.TransformerLM.load(__file__)),
    ]
    for kind, text, use in cases:
        with pytest.raises(kind, match=text) as raised:
            use()
        assert raised.type.__name__ != "PanicException"
    # Nothing of it has changed the model.
    assert all(np.array_equal(a, state[n]) for n, a in model.state_dict().items())


def test_devices_are_listed():
    devices = gpu_tlm.devices()
    assert any(device["default"] for device in devices)
    assert {"index", "name", "backend", "software", "limits"} <= set(devices[0])
    gpu_tlm.set_device("0")
    gpu_tlm.set_device(None)
