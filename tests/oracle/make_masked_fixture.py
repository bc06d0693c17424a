"""Writes `fixtures/masked.json`: losses over some targets alone, by PyTorch's `ignore_index`.

The model, its weights and its batch are those of the fixture `grouped`, iteration 0.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import safetensors_io
from model import TransformerLM
from train import load_weights

FOLDER = Path(__file__).parent / "fixtures"
CASE = "grouped"
IGNORED = -100


def masks(rows, cols):
    """Which targets count: parts of each row, no answer in one row, and none in the second half of the rows."""
    random = np.random.RandomState(5)
    scattered = random.random_sample((rows, cols)) < 0.4
    ends = np.arange(cols)[None, :] >= np.array([3, 7, 10, 1])[:, None]
    ends[2] = False
    first_half = scattered.copy()
    first_half[rows // 2 :] = False
    one = np.zeros((rows, cols), bool)
    one[1, 4] = True
    return {"scattered": scattered, "ends, and none in row 2": ends, "none in the second half": first_half, "one": one}


def main():
    torch.set_num_threads(1)
    config = json.loads((FOLDER / f"{CASE}.json").read_text())["config"]
    arrays = safetensors_io.load(FOLDER / f"{CASE}.safetensors")
    init = {name[5:]: array for name, array in arrays.items() if name.startswith("init.")}
    tokens, targets = (torch.from_numpy(arrays[name][0].astype(np.int64)) for name in ("tokens", "targets"))
    written = {}
    for name, mask in masks(*tokens.shape).items():
        model = TransformerLM(config)
        load_weights(model, init)
        model.double()
        masked = torch.where(torch.from_numpy(mask), targets, torch.tensor(IGNORED))
        loss = F.cross_entropy(model(tokens).flatten(0, 1), masked.flatten(), ignore_index=IGNORED)
        loss.backward()
        norms = {weight: tensor.grad.norm().item() for weight, tensor in model.named_parameters()}
        written[name] = {"counts": "".join(str(int(counts)) for counts in mask.flatten()), "loss": loss.item(), "gradient_norms": norms}
    text = json.dumps({"case": CASE, "masks": written, "torch": torch.__version__}, indent=1)
    (FOLDER / "masked.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
