#!/usr/bin/env python3
"""Makes the files of `fixtures/torch/` that the tests of `interop::torch` read.

PyTorch 2 writes most of them, PyTorch 1.13 those named `torch113_*`: run it once with each, in any order.
`<file>.json` holds what PyTorch itself finds in each file: the tensors' bytes, the optimizer's state, and the
metadata. Values are sums of powers of two, so that every element type holds them exactly.
"""

import collections
import io
import json
import pathlib
import pickle
import pickletools
import struct
import warnings

import numpy as np
import torch

warnings.simplefilter("ignore")
FOLDER = pathlib.Path(__file__).parent / "fixtures" / "torch"
# The format before torch 1.6, which takes less space: used where the format is not the point.
LEGACY = {"_use_new_zipfile_serialization": False}
OLD = torch.__version__.startswith("1.")


def values(*shape, start=1, dtype=torch.float32):
    """Distinct values of a shape."""
    count = int(np.prod(shape))
    return ((torch.arange(count) + start) / 8 - 1).to(dtype).reshape(shape)


def described(tensor):
    """What a reader has to find of a tensor."""
    data = bytes(tensor.detach().reshape(-1).contiguous().view(torch.uint8).tolist())
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "bytes": data.hex()}


def widths(content):
    """Bytes of an element of each storage, by the key that a legacy file gives it."""
    if isinstance(content, torch.Tensor):
        storage = content.storage().untyped() if OLD else content.untyped_storage()
        return {str(storage._cdata): content.element_size()}
    found = {}
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        found.update(widths(value))
    return found


def renumber(path, widths):
    """Numbers the storages of a legacy file, whose keys are addresses, and brings them into that order."""
    data = path.read_bytes()
    stream = io.BytesIO(data)
    for _ in range(3):
        pickle.load(stream)
    start = stream.tell()
    found = {}
    for operation, argument, _ in pickletools.genops(stream):
        if operation.name == "BINUNICODE" and argument.isdecimal() and len(argument) > 5:
            found.setdefault(argument, str(len(found)))
    end = stream.tell()
    blocks = {}
    for key in pickle.load(stream):
        (count,) = struct.unpack("<q", stream.read(8))
        blocks[key] = struct.pack("<q", count) + stream.read(count * widths[key])
    body = data[start:end]
    for key, number in found.items():
        text = [struct.pack("<cI", b"X", len(t)) + t.encode() for t in (key, number)]
        body = body.replace(*text)
    tail = pickle.dumps([found[key] for key in found], protocol=2) + b"".join(blocks[key] for key in found)
    path.write_bytes(data[:start] + body + tail)


def save(name, content, model, optimizer=None, iteration=None, metadata=None, **options):
    """Saves `content`, and beside it what is in it; `model` has the names that a reader gives."""
    if OLD != name.startswith("torch113_"):
        return
    torch.save(content, FOLDER / name, **options)
    if options.get("_use_new_zipfile_serialization") is False:
        renumber(FOLDER / name, widths(content))
    if name.endswith("legacy.pt") and model is not None and optimizer is not None:
        return  # It is as the zip archive.
    expected = {"tensors": [dict(name=key, **described(value)) for key, value in model.items()]}
    expected["iteration"] = iteration
    expected["metadata"] = metadata or {}
    if optimizer is not None:
        expected["groups"] = [{**group, "betas": list(group["betas"])} for group in optimizer["param_groups"]]
        state = optimizer["state"]
        expected["state"] = {
            str(index): {key: float(value) if key == "step" else described(value) for key, value in entry.items()}
            for index, entry in state.items()
        }
    (FOLDER / (name + ".json")).write_text(json.dumps(expected, separators=(",", ":")) + "\n")


class Model(torch.nn.Module):
    """Two matrices, a gain and a buffer."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Parameter(values(3, 2))
        self.register_buffer("mask", torch.tensor([[True, False], [True, True]]))
        self.gain = torch.nn.Parameter(values(2, start=5))
        self.head = torch.nn.Parameter(values(3, 2, start=9))

    def loss(self):
        return ((self.embed * self.gain) @ self.head.T).square().sum()


def trained(groups):
    """A model and its optimizer after two steps."""
    model = Model()
    optimizer = torch.optim.AdamW(groups(model), lr=0.125, betas=(0.5, 0.75), eps=1e-8, weight_decay=0.25)
    for _ in range(2):
        optimizer.zero_grad()
        model.loss().backward()
        optimizer.step()
    return model, optimizer.state_dict()


def checkpoints():
    """Models with optimizers, in both formats, and by both versions."""
    model, optimizer = trained(lambda m: m.parameters())
    whole = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer, "iteration": 2}
    config = {"d_model": 2, "rope": None, "lr": 0.125, "tied": False, "betas": (0.5, 0.75), "name": "größe"}
    args = {"seed": 2**63 + 5, "big": 2**70, "negative": -(2**40), "best": float("inf"), "none": float("nan"),
            "dtype": torch.bfloat16, "device": torch.device("cuda", 1), "rng": torch.arange(4, dtype=torch.uint8),
            "loss": torch.tensor(2.5), "raw": b"\x00\xff", "size": torch.Size([2, 3])}
    shown = {"seed": 2**63 + 5, "big": "0x" + (2**70).to_bytes(9, "big").hex(), "negative": -(2**40), "best": "inf",
             "none": "nan", "dtype": "torch.bfloat16", "device": "cuda:1", "rng": "a tensor of uint8 [4]",
             "loss": 2.5, "raw": "2 bytes", "size": [2, 3]}
    metadata = {"config": {**config, "betas": [0.5, 0.75]}, "args": shown}
    for name, options in [
        ("zip.pt", {}),
        ("torch113_zip.pt", {}),
        ("legacy.pt", LEGACY),
        ("torch113_legacy.pt", LEGACY),
    ]:
        save(name, {**whole, "config": config, "args": args}, model.state_dict(), optimizer, 2, metadata, **options)
    for protocol in (3, 4, 5):
        save(f"protocol{protocol}.pt", {"model": model.state_dict(), "step": 7, "iteration": 2, "args": {"raw": b"ab"}},
             model.state_dict(), None, 2, {"step": 7, "args": {"raw": "2 bytes"}}, pickle_protocol=protocol, **(LEGACY if protocol == 3 else {}))
    model, optimizer = trained(lambda m: [{"params": [m.embed, m.head]}, {"params": [m.gain], "weight_decay": 0.0}])
    save("groups.pt", {"model": model.state_dict(), "optimizer": optimizer, "iter_num": torch.tensor(2)},
         model.state_dict(), optimizer, 2, **LEGACY)
    if not OLD:
        model, optimizer = trained(lambda m: [{"params": [("head", m.head)]},
                                              {"params": [("embed", m.embed), ("gain", m.gain)]}])
        save("named.pt", {"model": model.state_dict(), "optimizer": optimizer}, model.state_dict(), optimizer, **LEGACY)


def tensors():
    """State dicts of all sorts of tensors."""
    types = {str(dtype): values(3, dtype=dtype) for dtype in
             (torch.float32, torch.float16, torch.bfloat16, torch.float64)}
    types.update({str(dtype): torch.tensor([1, -2, 3]).to(dtype) for dtype in
                  (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)})
    save("types.pt", types, types)
    if not OLD:
        new = {"uint16": torch.tensor([1, 2, 65535], dtype=torch.uint16)}
        save("uint16.pt", new, new)
    base = values(4, 6)
    views = {
        "base": base,
        "transposed": base.T,
        "sliced": base[1:3, 2:5],
        "stepped": base[::2, ::3],
        "row": base[2],
        "scalar": base[1, 1],
        "expanded": base[:1].expand(3, 6),
        "empty": base[:0],
        "permuted": values(2, 3, 4).permute(2, 0, 1),
        "one_wide": base[:, 1:2],
    }
    save("views.pt", views, views)
    save("views_legacy.pt", views, views, **LEGACY)
    shared = values(3, 2)
    tied = collections.OrderedDict([("embed", shared), ("other", values(3, 2, start=9)), ("head", shared)])
    save("tied.pt", {"state_dict": tied}, tied)
    inner = {"a.weight": values(2), "layers.0.b": values(3), "module_list.0": values(1)}
    save("prefix_both.pt", {"module._orig_mod." + key: value for key, value in inner.items()}, inner, **LEGACY)
    nested = {key.replace("layers.0.", "layers.0._orig_mod."): value for key, value in inner.items()}
    save("prefix_nested.pt", {"model": nested}, inner, **LEGACY)
    parameters = {"w": torch.nn.Parameter(values(2, 2)), "frozen": torch.nn.Parameter(values(2), requires_grad=False)}
    save("parameter.pt", parameters, parameters, **LEGACY)
    scalars = {"loss": np.float64(0.5), "half": np.float32(0.25), "count": np.int64(-3), "flag": np.bool_(True),
               "seed": np.uint32(2**31)}
    plain = {"loss": 0.5, "half": 0.25, "count": -3, "flag": True, "seed": 2**31}
    save("numpy.pt", {"model": {"w": values(2)}, **scalars}, {"w": values(2)}, metadata=plain, **LEGACY)


def course_optimizer():
    """The optimizer of the CS336 handout, which has names of its own."""
    state = {0: {"t": 3, "m": values(2), "v": values(2, start=4)}}
    groups = [{"lr": 0.125, "betas": (0.5, 0.75), "eps": 1e-8, "weight_decay": 0.25, "params": [0]}]
    optimizer = {"state": state, "param_groups": groups}
    renamed = {0: {"step": 3, "exp_avg": state[0]["m"], "exp_avg_sq": state[0]["v"]}}
    model = {"w": values(2)}
    save("course.pt", {"model": model, "optimizer": optimizer, "iteration": 3}, model,
         {"state": renamed, "param_groups": groups}, 3)


class Command:
    """Runs a command when a careless reader loads it."""

    def __reduce__(self):
        import os

        return os.system, ("echo no > /tmp/pickle_ran",)


def refused():
    """Files that no reader takes."""
    if OLD:
        return
    torch.save({"model": {"w": values(2)}, "args": Command()}, FOLDER / "command.pt")
    with open(FOLDER / "command_legacy.pt", "wb") as file:
        pickle.dump(Command(), file, protocol=2)
    cycle = {"config": []}
    cycle["config"].append(cycle["config"])
    torch.save({"w": values(2), **cycle}, FOLDER / "cycle.pt")
    torch.save({"net": {"w": values(2)}, "epoch": 1}, FOLDER / "no_model.pt")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    checkpoints()
    tensors()
    course_optimizer()
    refused()
