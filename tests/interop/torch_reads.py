#!/usr/bin/env python3
"""Reads with PyTorch what `torch_written.rs` left in a folder, and trains on.

Run it with any PyTorch from 1.13 on, after the test: `torch_reads.py target/tmp/torch`. Every element is
compared for equality with the formula that the test has, too, and a step of `torch.optim.AdamW` with the
formula of the paper (Loshchilov and Hutter 2019, algorithm 2) in NumPy.
"""

import pathlib
import sys

import numpy as np
import torch

SHAPES = {"embed.weight": (3, 2), "layers.0.w": (2, 4), "gain": (2,), "head.weight": (3, 2), "scale": ()}
NAMES = list(SHAPES)
TIED = {"head.weight": "embed.weight"}
IS_OLD = torch.__version__.startswith("1.")
# torch.load of 1.13 takes no float with weights_only=True, not even of its own optimizers' files.
WITH_FLOATS = {"weights_only": not IS_OLD}


def expected(name, kind=0):
    """The elements of a tensor, or of its first (1) or second (2) moment."""
    index = NAMES.index(TIED.get(name, name))
    shape = SHAPES[name]
    return ((1 + np.arange(int(np.prod(shape))) + 10 * index + 3 * kind) / 8).reshape(shape)


def check_model(state, dtype):
    assert list(state) == NAMES, list(state)
    for name, tensor in state.items():
        assert tensor.dtype == dtype, (name, tensor.dtype)
        assert tensor.shape == SHAPES[name], (name, tensor.shape)
        assert tensor.is_contiguous(), name
        assert np.array_equal(tensor.double().numpy(), expected(name)), name
    assert state["embed.weight"].data_ptr() == state["head.weight"].data_ptr()
    assert state["embed.weight"].data_ptr() % 64 == 0 or IS_OLD


class Model(torch.nn.Module):
    """The tensors as parameters."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Module(), torch.nn.Module()
        self.embed.weight = torch.nn.Parameter(torch.zeros(3, 2))
        self.layers = torch.nn.ModuleList([torch.nn.Module()])
        self.layers[0].w = torch.nn.Parameter(torch.zeros(2, 4))
        self.gain = torch.nn.Parameter(torch.zeros(2))
        self.head.weight = self.embed.weight
        self.scale = torch.nn.Parameter(torch.zeros(()))

    def named(self, name):
        return dict(self.named_parameters())[name]


def stepped(name, gradient, decay, step=6):
    """A parameter after one more step, and its moments."""
    rate, first, second, eps = 0.125, 0.75, 0.875, 1e-8
    weight = expected(name) * (1 - rate * decay)
    mean = first * expected(name, 1) + (1 - first) * gradient
    square = second * expected(name, 2) + (1 - second) * gradient**2
    corrected = (mean / (1 - first**step)) / (np.sqrt(square / (1 - second**step)) + eps)
    return weight - rate * corrected, mean, square


def check_training(path, groups, decays, **options):
    content = torch.load(path, **WITH_FLOATS)
    assert list(content) == ["model_state_dict", "optimizer_state_dict", "iteration", "config", "name", "seed",
                             "negative"], list(content)
    assert content["iteration"] == 5 and content["name"] == "größe"
    assert content["seed"] == 2**64 - 1 and content["negative"] == -(2**63)
    assert content["config"] == {"d_model": 2, "rope": None, "lr": 0.125, "tied": True, "betas": [0.75, 0.875]}
    check_model(content["model_state_dict"], torch.float32)
    model = Model()
    model.load_state_dict(content["model_state_dict"])
    listed = [{"params": [model.named(name) for name in names]} for names in groups]
    # Other hyperparameters, which those of the file replace.
    optimizer = torch.optim.AdamW(listed, lr=9.0, betas=(0.1, 0.2), weight_decay=9.0, **options)
    keys = set(optimizer.param_groups[0])
    optimizer.load_state_dict(content["optimizer_state_dict"])
    missing = keys - set(content["optimizer_state_dict"]["param_groups"][0])
    assert not missing, missing
    for name, parameter in model.named_parameters():
        parameter.grad = torch.tensor(expected(name) - 2, dtype=torch.float32)
    optimizer.step()
    for names, decay in zip(groups, decays):
        for name in names:
            parameter = model.named(name)
            state = optimizer.state[parameter]
            assert float(state["step"]) == 6, state["step"]
            found = parameter.detach(), state["exp_avg"], state["exp_avg_sq"]
            for value, want in zip(found, stepped(name, expected(name) - 2, decay)):
                # Torch computes in f32: a few roundings of half an ulp each, where values are about 1.
                np.testing.assert_allclose(value.double().numpy(), want, rtol=1e-6, atol=1e-6, err_msg=name)
    # What torch saves of it is what a reader gets next.
    again = optimizer.state_dict()
    assert [group["weight_decay"] for group in again["param_groups"]] == decays


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, dtype in [("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16),
                        ("f64", torch.float64)]:
        content = torch.load(folder / f"{name}.pt", weights_only=True)
        assert list(content) == ["model_state_dict", "iteration"] and content["iteration"] == 7
        check_model(content["model_state_dict"], dtype)
        if not IS_OLD:
            mapped = torch.load(folder / f"{name}.pt", weights_only=True, mmap=True)
            check_model(mapped["model_state_dict"], dtype)
    one = ["embed.weight", "layers.0.w", "gain", "scale"]
    two = [["layers.0.w", "embed.weight"], ["scale", "gain"]]
    for foreach in (None, False, True):
        check_training(folder / "one_group.pt", [one], [0.25], foreach=foreach)
        check_training(folder / "two_groups.pt", two, [0.25, 0.0], foreach=foreach)
    print(f"PyTorch {torch.__version__} reads the files and trains on")


if __name__ == "__main__":
    main()
