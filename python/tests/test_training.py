import json
import math
import os
import signal
import threading

import numpy as np
import pytest
import torch

import gpu_tlm
from conftest import CONFIG, END, TEXT, close


def test_cross_entropy_is_the_mean(rng):
    logits = (10 * rng.standard_normal((3, 5, 33))).astype("f")
    targets = rng.integers(0, 33, (3, 5))
    want = torch.nn.functional.cross_entropy(torch.tensor(logits).flatten(0, 1).double(), torch.tensor(targets).flatten())
    close(gpu_tlm.cross_entropy(logits, targets), want.item())
    targets[1, 2:] = targets[2] = -100
    ignored = torch.nn.functional.cross_entropy(torch.tensor(logits).flatten(0, 1).double(), torch.tensor(targets).flatten())
    close(gpu_tlm.cross_entropy(logits, targets), ignored.item())
    assert gpu_tlm.cross_entropy(logits, np.full_like(targets, -100)) == 0
    close(gpu_tlm.cross_entropy(1000 * logits[0], targets[0]), gpu_tlm.cross_entropy(1000 * logits[0] + 5, targets[0]), 1e-3)
    with pytest.raises(ValueError, match="must have the shape"):
        gpu_tlm.cross_entropy(logits, targets[0])
    with pytest.raises(ValueError, match="id 33"):
        gpu_tlm.cross_entropy(logits[0, 0], 33)


def test_adamw_is_that_of_pytorch(rng):
    params = {"a.weight": rng.standard_normal((7, 5)).astype("f"), "b.bias": rng.standard_normal(3).astype("f")}
    theirs = {n: torch.nn.Parameter(torch.tensor(a).double()) for n, a in params.items()}
    options = {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-6}
    ours = gpu_tlm.AdamW(**options, weight_decay=0.3, no_decay=["bias"])
    groups = [{"params": [theirs["a.weight"]], "weight_decay": 0.3}, {"params": [theirs["b.bias"]], "weight_decay": 0.0}]
    torchs = torch.optim.AdamW(groups, **options)
    same = params["a.weight"]
    for step in range(20):
        grads = {n: rng.standard_normal(a.shape).astype("f") for n, a in params.items()}
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(grads[name]).double()
        lr = 1e-2 / (1 + step)
        for group in torchs.param_groups:
            group["lr"] = lr
        ours.step(params, grads, lr)
        torchs.step()
    assert params["a.weight"] is same and ours.t == 20
    for name, parameter in theirs.items():
        close(params[name], parameter.detach().numpy())
    other = gpu_tlm.AdamW(**options, weight_decay=0.3, no_decay=["bias"])
    other.load_state_dict(ours.state_dict())
    copies = {n: a.copy() for n, a in params.items()}
    ours.step(params, grads)
    other.step(copies, grads)
    assert all(np.array_equal(a, copies[n]) for n, a in params.items())


def test_adamw_refuses_what_it_cannot_change_in_place():
    optimizer = gpu_tlm.AdamW()
    good = np.ones((2, 3), dtype="f")
    frozen = good.copy()
    frozen.flags.writeable = False
    for kind, text, params, grads in [
        (TypeError, "numpy array of float32", {"w": good.astype("d")}, {"w": good}),
        (TypeError, "numpy array of float32", {"w": [1.0]}, {"w": np.ones(1)}),
        (ValueError, "writable and contiguous", {"w": np.ones((3, 2), "f").T}, {"w": good}),
        (ValueError, "writable and contiguous", {"w": frozen}, {"w": good}),
        (ValueError, "the gradient of w has the shape", {"w": good}, {"w": good.T}),
        (TypeError, "gradient of w must be an array of floats", {"w": good}, {"w": np.ones((2, 3), int)}),
        (ValueError, "no such parameter", {"w": good}, {"v": good}),
    ]:
        with pytest.raises(kind, match=text):
            gpu_tlm.AdamW().step(params, grads)
    # A number at the end of a pattern is a whole one, as in a config.
    layers = {"layers.1.w": good.copy(), "layers.10.w": good.copy()}
    zeros = {name: np.zeros_like(good) for name in layers}
    gpu_tlm.AdamW(weight_decay=0.5, no_decay=["layers.1"]).step(layers, zeros, lr=0.1)
    assert np.array_equal(layers["layers.1.w"], good) and layers["layers.10.w"][0, 0] == np.float32(0.95)
    # Nothing is changed where one of several is wrong.
    with pytest.raises(ValueError, match="gradient of bias"):
        gpu_tlm.AdamW(no_decay=["bias"]).step({"w": good, "bias": good.copy()}, {"w": good, "bias": good[0]})
    scalar = {"s": np.ones((), "f")}
    gpu_tlm.AdamW(weight_decay=0.0).step(scalar, {"s": np.ones((), "f")}, lr=0.5)
    close(scalar["s"], 0.5)
    with pytest.raises(ValueError, match="betas"):
        gpu_tlm.AdamW(betas=(1.0, 0.9)).step({"w": good}, {"w": good})
    with pytest.raises(ValueError, match="has no 'moment1'"):
        optimizer.load_state_dict({"t": 1})
    assert np.array_equal(good, np.ones((2, 3)))


def test_clipping_is_that_of_pytorch(rng):
    grads = {"a": rng.standard_normal((4, 5)).astype("f"), "b": rng.standard_normal(7).astype("f")}
    for max_norm in [0.1, 1e3]:
        ours = {n: a.copy() for n, a in grads.items()}
        theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in grads.values()]
        for parameter, grad in zip(theirs, grads.values()):
            parameter.grad = torch.tensor(grad).double()
        want = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        close(gpu_tlm.gradient_clipping(ours, max_norm), float(want))
        for parameter, grad in zip(theirs, ours.values()):
            close(grad, parameter.grad.numpy())
    listed = [a.copy() for a in grads.values()]
    gpu_tlm.gradient_clipping(listed, 0.1)
    assert sum(float(np.square(a).sum()) for a in listed) == pytest.approx(0.01, rel=1e-4)
    with pytest.raises(ValueError, match="max_norm is 0"):
        gpu_tlm.gradient_clipping(grads, 0.0)


def test_the_schedule_is_the_formula():
    def formula(it, most, least, warmup, cycle):
        if it < warmup:
            return it / warmup * most
        if it > cycle:
            return least
        return least + 0.5 * (1 + math.cos((it - warmup) / (cycle - warmup) * math.pi)) * (most - least)

    for it in range(0, 30):
        got = gpu_tlm.get_lr_cosine_schedule(it, 1.0, 0.1, 7, 21)
        assert got == pytest.approx(formula(it, 1.0, 0.1, 7, 21), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_batches_are_windows_from_everywhere(dtype):
    tokens = np.arange(100, dtype=dtype)
    starts = set()
    for _ in range(30):
        x, y = gpu_tlm.get_batch(tokens, 32, 7)
        assert x.shape == y.shape == (32, 7) and x.dtype == np.int64
        assert np.array_equal(y, x + 1)
        assert np.array_equal(x, x[:, :1] + np.arange(7))
        starts |= set(x[:, 0].tolist())
    # 960 draws of 93 starts miss one with a probability of 93 * exp(-10.3), which is 0.3 %.
    assert starts <= set(range(93)) and len(starts) >= 91
    a, b = (gpu_tlm.get_batch(tokens, 4, 7, seed=3, iteration=i)[0] for i in (2, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, gpu_tlm.get_batch(tokens, 4, 7, seed=3, iteration=1)[0])
    assert gpu_tlm.get_batch(tokens[:8], 2, 7)[0].tolist() == [list(range(7))] * 2


def test_batches_of_a_memory_mapped_file_read_no_more_than_windows(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(5000, dtype=np.uint16))
    tokens = np.load(tmp_path / "tokens.npy", mmap_mode="r")
    x, y = gpu_tlm.get_batch(tokens, 3, 16)
    assert np.array_equal(y, x + 1)
    with pytest.raises(ValueError, match="a window takes context_length"):
        gpu_tlm.get_batch(tokens, 3, 5000)
    with pytest.raises(TypeError, match="integers"):
        gpu_tlm.get_batch(np.zeros(9), 1, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        gpu_tlm.get_batch(tokens, 0, 2)
    with pytest.raises(ValueError, match="batch_size is 4294967296"):
        gpu_tlm.get_batch(tokens, 2**32, 2)
    with pytest.raises(MemoryError):
        gpu_tlm.get_batch(tokens, 2**32 - 1, 4000)
    with pytest.raises(ValueError, match="one dimension"):
        gpu_tlm.get_batch(np.zeros((2, 9), int), 1, 2)


def train_by_hand(model, optimizer, steps, first=0):
    ids = np.arange(48).reshape(2, 24)
    losses = []
    state = model.state_dict()
    for step in range(first, first + steps):
        loss, grads = model.loss_and_grads(ids, (ids + 1) % 61)
        gpu_tlm.gradient_clipping(grads, 1.0)
        optimizer.step(state, grads, gpu_tlm.get_lr_cosine_schedule(step, 1e-2, 1e-3, 2, 30))
        model.load_state_dict(state)
        losses.append(loss)
    return losses


def test_checkpoints_go_on_as_if_nothing_had_happened(tmp_path):
    path = tmp_path / "model.safetensors"
    with gpu_tlm.TransformerLM(CONFIG, seed=1) as model:
        optimizer = gpu_tlm.AdamW()
        losses = train_by_hand(model, optimizer, 6)
        assert losses[-1] < losses[0]
        gpu_tlm.save_checkpoint(model, optimizer, 6, path)
        want = train_by_hand(model, optimizer, 3, first=6)
    with gpu_tlm.TransformerLM(CONFIG, seed=2) as model:
        optimizer = gpu_tlm.AdamW()
        checkpoint = gpu_tlm.load_checkpoint(path, model, optimizer)
        assert checkpoint.iteration == 6 and optimizer.t == 6
        assert checkpoint.config == model.config
        assert train_by_hand(model, optimizer, 3, first=6) == want
    with gpu_tlm.TransformerLM.load(path) as model:
        state = model.state_dict()
        assert all(np.array_equal(a, checkpoint.state_dict[n]) for n, a in state.items())
        pair = (model.config, state)
        gpu_tlm.save_checkpoint(pair, None, 9, os.fspath(tmp_path / "bare.safetensors"))
    bare = gpu_tlm.load_checkpoint(tmp_path / "bare.safetensors")
    assert bare.optimizer is None and bare.iteration == 9
    with pytest.raises(ValueError, match="no moments"):
        gpu_tlm.load_checkpoint(tmp_path / "bare.safetensors", optimizer=gpu_tlm.AdamW())
    with pytest.raises(FileNotFoundError):
        gpu_tlm.load_checkpoint(tmp_path / "none")
    with pytest.raises(OSError):
        gpu_tlm.save_checkpoint(pair, None, 0, tmp_path / "no" / "such" / "x.safetensors")


@pytest.fixture
def run_config(tmp_path):
    np.save(tmp_path / "tokens.npy", (np.arange(2000) % 61).astype(np.uint16))
    return {
        **CONFIG, "train_path": tmp_path / "tokens.npy", "batch_size": 4, "max_iters": 12, "seed": 3,
        "logdir": str(tmp_path / "run"), "eval_interval": 0, "learning_rate": 1e-2,
    }


def test_a_run_trains_and_its_checkpoint_is_a_model(run_config, tmp_path):
    records = []
    result = gpu_tlm.train(run_config, records.append)
    assert result["finished"] and result["iterations"] == 12
    assert [r["iteration"] for r in records] == list(range(12))
    assert records[-1]["loss"] < records[0]["loss"]
    assert set(records[0]) == {
        "iteration", "tokens", "loss", "learning_rate", "grad_norm", "loss_scale", "tokens_per_s",
    }
    # The first batch and loss are those that a program gets by hand.
    tokens = np.load(tmp_path / "tokens.npy")
    x, y = gpu_tlm.get_batch(tokens, 4, 24, seed=3, iteration=0)
    with gpu_tlm.TransformerLM(CONFIG, seed=3) as model:
        close(records[0]["loss"], model.loss_and_grads(x, y)[0])
    with gpu_tlm.TransformerLM.load(result["checkpoint"]) as model:
        assert model.loss_and_grads(x, y)[0] < records[0]["loss"]
    (tmp_path / "config.json").write_text(json.dumps({**run_config, "train_path": str(run_config["train_path"])}))
    with pytest.raises((ValueError, gpu_tlm.GpuTlmError), match="run"):
        gpu_tlm.train(run_config)
    again = []
    gpu_tlm.train(str(tmp_path / "config.json"), again.append, replace=True)
    assert [r["loss"] for r in again] == [r["loss"] for r in records]


def test_a_callback_ends_a_run_with_a_checkpoint(run_config):
    result = gpu_tlm.train(run_config, lambda record: record["iteration"] < 3)
    assert not result["finished"] and 3 < result["iterations"] < 12
    records = []
    rest = gpu_tlm.train({**run_config, "load_checkpoint": result["checkpoint"]}, records.append)
    assert rest["finished"] and records[0]["iteration"] == result["iterations"]


def test_an_exception_of_a_callback_is_raised_behind_a_checkpoint(run_config, tmp_path):
    def fails(record):
        if record["iteration"] == 2:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gpu_tlm.train(run_config, fails)
    assert (tmp_path / "run/checkpoints/latest.safetensors").exists()


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_a_run_with_a_checkpoint(run_config, tmp_path):
    def presses(record):
        if record["iteration"] == 2:
            # From another thread, as a terminal does it.
            thread = threading.Thread(target=interrupt)
            thread.start()
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        gpu_tlm.train({**run_config, "max_iters": 500}, presses)
    assert 3 <= gpu_tlm.load_checkpoint(tmp_path / "run/checkpoints/latest.safetensors").iteration < 20


def test_ctrl_c_ends_a_text(model):
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.generate([1], max_new_tokens=10_000_000, end_token=None)
    timer.join()
    assert len(model.generate([1], max_new_tokens=3, end_token=None)) == 3


def test_wrong_runs_are_python_exceptions(run_config, tmp_path):
    for kind, text, config in [
        (ValueError, "unknown key 'bach_size'", {**run_config, "bach_size": 3}),
        (ValueError, "batch_size", {**run_config, "batch_size": 0}),
        (FileNotFoundError, "none.npy", {**run_config, "train_path": tmp_path / "none.npy"}),
        (FileNotFoundError, "none.json", tmp_path / "none.json"),
        (TypeError, "int", 3),
        (TypeError, "JSON", {**run_config, "seed": object()}),
        (ValueError, "adapter", {**run_config, "adapter": "abacus"}),
    ]:
        with pytest.raises(kind, match=text):
            gpu_tlm.train(config)


TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_chats_are_learned_whole_and_by_adapters(tmp_path):
    special = [END, "<|user|>", "<|assistant|>"]
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = gpu_tlm.Tokenizer(*gpu_tlm.train_bpe(tmp_path / "text.txt", 290, special), special)
    tokenizer.save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer/chat_template.jinja").write_text(TEMPLATE)

    def write(name, answers):
        lines = []
        for question, answer in answers.items():
            user, assistant = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
            lines.append(json.dumps({"messages": [user, assistant]}) + "\n")
        (tmp_path / name).write_text("".join(lines))
        return tmp_path / name

    def ask(model, question):
        return model.chat([{"role": "user", "content": question}], temperature=0, max_new_tokens=20)

    config = {
        "d_model": 32, "num_layers": 1, "num_heads": 2, "context_length": 32, "batch_size": 4, "max_iters": 50,
        "learning_rate": 1e-2, "warmup_iters": 2, "eval_interval": 0, "tokenizer": tmp_path / "tokenizer",
        "logdir": tmp_path / "run", "train_path": write("cats.jsonl", {"the cat?": "a rat.", "the dog?": "a cat."}),
    }
    whole = gpu_tlm.train(config)
    with gpu_tlm.TransformerLM.load(whole["checkpoint"]) as model:
        assert (ask(model, "the cat?"), ask(model, "the dog?")) == ("a rat.", "a cat.")
        chat, pieces = [{"role": "user", "content": "the cat?"}], []
        model.chat(chat, temperature=0, callback=lambda *piece: pieces.append(piece))
        assert "".join(piece[2] for piece in pieces) == "a rat."
        # What the files say ends a text does so by any way to it.
        (tmp_path / "tokenizer/generation_config.json").write_text(json.dumps({"eos_token_id": tokenizer.token_id(END)}))
        own = gpu_tlm.Tokenizer.from_files(tmp_path / "tokenizer")
        prompt = "<|user|>the cat?<|endoftext|><|assistant|>"
        for given in [own, model.tokenizer]:
            assert gpu_tlm.generate_text(model, given, prompt, temperature=0) == "a rat."
        # Without an end it goes on.
        assert model.chat(chat, temperature=0, end_token=None, max_new_tokens=9).startswith("a rat.<|endoftext|>")
    adapted = gpu_tlm.train({
        **config, "logdir": tmp_path / "adapters", "init_from": whole["checkpoint"], "lora_rank": 8,
        "lora_alpha": 32, "lora_targets": ["all-linear"],
        "train_path": write("dogs.jsonl", {"the cat?": "the mat.", "the dog?": "the rat."}),
    })
    for path in [adapted["checkpoint"], tmp_path / "adapters/adapter"]:
        with gpu_tlm.TransformerLM.load(path) as model:
            assert (ask(model, "the cat?"), ask(model, "the dog?")) == ("the mat.", "the rat.")
    (tmp_path / "tokenizer/vocab.json").write_text("{}")
    with pytest.warns(UserWarning, match="without the model's own tokenizer"):
        gpu_tlm.TransformerLM.load(whole["checkpoint"]).close()
