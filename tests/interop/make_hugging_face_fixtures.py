"""Writes tiny models as Hugging Face folders, with the logits, loss and gradients they must give.

    make_hugging_face_fixtures.py [CASE ...]

Each folder under fixtures/hugging_face/ is written by transformers' own `save_pretrained`;
README.md says what lies in it. The expected values come from transformers' own model code, run
in float64 on the stored weights and rounded to float32 once. Every case is checked before it is
kept: each parameter and each setting of its config that a reader must see changes the result.
"""

import copy
import json
import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM

from hugging_face_cases import CASES

FOLDER = Path(__file__).parent / "fixtures" / "hugging_face"
BATCH, TIME = 2, 96
# What a wrong setting must change at least, as a relative L2 of the logits. Float32 is off by 1e-6, so
# a fair limit for another program is 1e-5, and a reader that overlooks the setting is ten times over it.
LEAST_EFFECT = 1e-4


class Float64Everywhere(TorchFunctionMode):
    """Turns transformers' own casts to float32 into casts to float64, and refuses what slips through.

    Its norms, softmax, rotary angles and loss ask for float32 by name, whatever the model's type is.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            raise AssertionError(f"{function} gave float32 in a float64 run")
        return result


def build(config, dtype):
    """A model of random weights. The plain attention: the fused one adds up in an order of its own."""
    return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=dtype, attn_implementation="eager").eval()


def draw_weights(model, case):
    """Fills every parameter so that it matters: no gain is 1, no bias 0, and attention is far from uniform."""
    generator = torch.Generator().manual_seed(case["seed"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                values = 0.2 * torch.randn(weight.shape, generator=generator)
            elif weight.dim() == 1:
                values = 0.5 + torch.rand(weight.shape, generator=generator)
            else:
                values = 0.2 * torch.randn(weight.shape, generator=generator)
            weight.copy_(values)


def tokens_of(case):
    """Inputs and the tokens that follow them, each [BATCH, TIME]; the first ones name every token once."""
    generator = torch.Generator().manual_seed(1000 + case["seed"])
    vocab = case["config"]["vocab_size"]
    tokens = torch.randint(vocab, (BATCH * (TIME + 1),), generator=generator)
    tokens[:vocab] = torch.randperm(vocab, generator=generator)
    tokens = tokens.view(BATCH, TIME + 1)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def stored_tensors(folder):
    return {name: tensor for path in sorted(folder.glob("model*.safetensors"))
            for name, tensor in load_file(path).items()}


def load_stored(model, tensors):
    """Copies stored tensors into a model of another type; a tied head is the one name that may be absent."""
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    assert not missing or model.config.tie_word_embeddings


def logits_of(config, tensors, inputs):
    """Logits in float64."""
    with Float64Everywhere(), torch.no_grad():
        model = build(config, torch.float64)
        load_stored(model, tensors)
        return model(inputs).logits


def evaluate(config, tensors, inputs, targets, dtype):
    """Logits, mean loss over all BATCH * TIME targets, and the gradient of each parameter."""
    model = build(config, dtype)
    load_stored(model, tensors)
    logits = model(inputs).logits
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    gradients = {f"grad.{name}": weight.grad for name, weight in model.named_parameters()}
    return {"logits": logits.detach(), "loss": loss.detach(), **gradients}


def relative_l2(got, want):
    return ((got.double() - want).norm() / want.norm()).item()


def check_parameters_matter(name, expected, tensors):
    """No parameter may have a gradient that a reader could leave out unseen."""
    for key in expected:
        if key.startswith("grad."):
            assert expected[key].norm() > 1e-3, f"{name}: {key} has norm {expected[key].norm()}"
    rows = expected[next(key for key in expected if "embed_tokens" in key or "wte" in key)].abs().sum(dim=1)
    assert (rows > 0).all(), f"{name}: a token is never read"


def check_settings_matter(name, config, tensors, inputs, logits):
    """Each change of the config, among those the case lists, must move the logits."""
    for change in CASES[name]["must_matter"]:
        changed = copy.deepcopy(config)
        for key, value in change.items():
            setattr(changed, key, value)
        effect = relative_l2(logits_of(changed, tensors, inputs), logits)
        assert effect > LEAST_EFFECT, f"{name}: {change} changes the logits by {effect} only"


def check_older_config(name, folder, tensors, inputs, logits):
    """The older spelling must mean the same model to transformers, to the last bit."""
    older = AutoConfig.from_pretrained(folder / "config.older.json")
    assert torch.equal(logits_of(older, tensors, inputs), logits), f"{name}: config.older.json means another model"


def write_gpt2_older(folder, tensors, n_positions):
    """The weights of `gpt2` under the names of OpenAI's own upload: no prefix, and the causal mask as a buffer.

    Still older files also hold `masked_bias`, the number that stands for minus infinity.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for name in [name for name in older if name.endswith("attn.c_attn.weight")]:
        layer = name.removesuffix("c_attn.weight")
        older[layer + "bias"] = torch.ones(n_positions, n_positions).tril().view(1, 1, n_positions, n_positions)
        older[layer + "masked_bias"] = torch.tensor(-1e4)
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(folder.parent / "gpt2" / "config.older.json", folder / "config.json")


def check_gpt2_older(folder, inputs, logits):
    """Transformers must read the older names as the same model, and skip the buffers."""
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"], loading
    with torch.no_grad():
        assert relative_l2(model.eval()(inputs).logits, logits) < 1e-5, "gpt2_older is another model than gpt2"


def write_folder(folder, case):
    """Draws the weights and lets transformers write them, in the type and shards the case asks for."""
    shutil.rmtree(folder, ignore_errors=True)
    config = AutoConfig.for_model(case["model_type"], **case["config"])
    model = build(config, torch.float32)
    draw_weights(model, case)
    model.to(getattr(torch, case.get("dtype", "float32"))).save_pretrained(
        folder, max_shard_size=case.get("max_shard_size", "1GB"))
    (folder / "config.older.json").write_text(json.dumps(case["older"], indent=2) + "\n")


def make_case(name, case):
    folder = FOLDER / name
    write_folder(folder, case)
    config, tensors = AutoConfig.from_pretrained(folder), stored_tensors(folder)
    inputs, targets = tokens_of(case)
    with Float64Everywhere():
        expected = evaluate(config, tensors, inputs, targets, torch.float64)
    float32 = evaluate(config, tensors, inputs, targets, torch.float32)
    check_parameters_matter(name, expected, tensors)
    check_settings_matter(name, config, tensors, inputs, expected["logits"])
    check_older_config(name, folder, tensors, inputs, expected["logits"])
    kept = {key: tensor.float().contiguous() for key, tensor in expected.items()}
    kept.update(input_ids=inputs.int(), targets=targets.int())
    save_file(kept, folder / "expected.safetensors")
    report = {key: relative_l2(float32[key], expected[key]) for key in expected}
    write_report(folder / "expected.json", expected["loss"].item(), report, float32, expected)
    if name == "gpt2":
        write_gpt2_older(FOLDER / "gpt2_older", tensors, config.n_positions)
        check_gpt2_older(FOLDER / "gpt2_older", inputs, expected["logits"])


def write_report(path, loss, report, float32, expected):
    gradients = {key: value for key, value in report.items() if key.startswith("grad.")}
    worst = max(gradients, key=gradients.get)
    content = {
        "loss": loss,
        "float32_vs_float64": {
            "loss_relative": report["loss"],
            "logits_relative_l2": report["logits"],
            "logits_max_abs": (float32["logits"].double() - expected["logits"]).abs().max().item(),
            "gradient_relative_l2": {"worst": gradients[worst], "name": worst.removeprefix("grad.")},
        },
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "numpy": np.__version__, "python": platform.python_version()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(path.parent.name, json.dumps(content["float32_vs_float64"]))


def main():
    # One thread, so that sums are taken in the same order on every machine with this version.
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for name in sys.argv[1:] or CASES:
        make_case(name, CASES[name])
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    for path in files:
        path.chmod(0o644)  # safetensors writes files that only their owner may read.
    print("bytes:", sum(path.stat().st_size for path in files))


if __name__ == "__main__":
    main()
