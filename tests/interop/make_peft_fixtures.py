"""Writes folders of PEFT with adapters of the tiny models under fixtures/hugging_face, and what they must give.

    make_peft_fixtures.py

A and B are random, and the model runs in float64 on the stored float32 values. Beside each adapter lies a folder of
the same form with the gradients of A and B in their place. It runs with peft 0.21 and transformers 5.24.
"""

import json
import shutil
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from make_hugging_face_fixtures import Float64Everywhere

ROOT = Path(__file__).parent / "fixtures"
RANK, ALPHA = 4, 6
CASES = {
    "llama": ("llama_grouped", ["q_proj", "v_proj"], {}),
    "llama_all": ("llama_grouped", "all-linear", {"use_rslora": True}),
    "qwen3": ("qwen3", "all-linear", {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"down_proj": 5}}),
    "qwen3_all": ("qwen3", "all-linear", {}),
    "gpt2": ("gpt2", ["c_attn"], {"fan_in_fan_out": True}),
    "gpt2_all": ("gpt2", ["c_attn", "c_proj", "c_fc"], {"fan_in_fan_out": True}),
}


def saved(model, folder, state):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def make(name, base, targets, options):
    folder = ROOT / "peft" / name
    shutil.rmtree(folder, ignore_errors=True)
    source = ROOT / "hugging_face" / base
    expected = load_file(source / "expected.safetensors")
    ids, targets_of = (expected[key].long() for key in ("input_ids", "targets"))
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float64, attn_implementation="eager").eval()
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = f"../../hugging_face/{base}"
    generator = torch.Generator().manual_seed(len(name))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_" in key:
                weight.copy_((0.1 * torch.randn(weight.shape, generator=generator)).float())
    model = model.double()
    with Float64Everywhere():
        logits = model(ids).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets_of.flatten())
        loss.backward()
    adapters = {key.replace(".default", ""): w for key, w in model.named_parameters() if "lora_" in key}
    saved(model, folder, {key: weight.detach().float().contiguous() for key, weight in adapters.items()})
    saved(model, folder / "gradients", {key: weight.grad.float().contiguous() for key, weight in adapters.items()})
    merged = model.merge_and_unload()
    with Float64Everywhere(), torch.no_grad():
        assert (merged(ids).logits - logits).abs().max() < 1e-9
    plain = expected["logits"]
    kept = logits.detach().float()
    assert (kept[:, -1] - plain[:, -1]).norm() > 1e-2 * plain[:, -1].norm(), "adapters have to change something"
    # Every third position, and the last, as the other fixtures keep them.
    save_file({"logits": kept[:, -1].contiguous(), "loss": loss.detach().float().reshape(1)}, folder / "expected.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    print(name, settings["r"], settings["target_modules"], loss.item())


def main():
    torch.set_num_threads(1)
    for name, (base, targets, options) in CASES.items():
        make(name, base, targets, options)


if __name__ == "__main__":
    main()
