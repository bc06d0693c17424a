"""Loads folders of adapters that gpu-tlm wrote into PEFT, and compares the logits with those of the fixtures.

    check_peft.py FOLDER BASE EXPECTED [FOLDER BASE EXPECTED ...]

EXPECTED is the folder of a fixture, whose `expected.safetensors` has the logits behind each sequence.
"""

import sys
import warnings
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-4


def main():
    warnings.simplefilter("error", UserWarning)  # PEFT warns of adapters that it does not find.
    arguments = iter(sys.argv[1:])
    worst = 0.0
    for folder, base, expected in zip(arguments, arguments, arguments):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
        model = peft.PeftModel.from_pretrained(model, folder).eval()
        ids = load_file(Path(base) / "expected.safetensors")["input_ids"].long()
        want = load_file(Path(expected) / "expected.safetensors")["logits"]
        with torch.no_grad():
            error = (model(ids).logits[:, -1] - want).abs().max().item()
        print(f"{folder}: logits within {error:.1e}")
        worst = max(worst, error)
    sys.exit(not worst <= TOLERANCE)


if __name__ == "__main__":
    main()
