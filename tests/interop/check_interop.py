"""Checks the scripts of this folder on each other: what must pass passes, and each planted mistake is found."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "oracle"))

from compare_tensors import differences, read_tensors  # noqa: E402 (found through the line above)
from model import TransformerLM  # noqa: E402
from train import loss_and_gradients  # noqa: E402

FIXTURES = HERE / "fixtures" / "hugging_face"
CONFIG = {
    "vocab_size": 61, "context_length": 12, "num_layers": 2, "d_model": 32, "num_heads": 2, "num_kv_heads": 1,
    "d_ff": 24, "rope_theta": 10000.0, "norm_eps": 1e-5, "tie_embeddings": False, "sampling": "sequential",
    "batch_size": 4, "max_iters": 24, "learning_rate": 3e-3, "min_learning_rate": 3e-4, "warmup_iters": 4,
    "cosine_cycle_iters": 20, "schedule": "cosine", "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-6,
    "grad_clip": 1.0,
}
OURS = {
    "model.embed_tokens.weight": "token_embeddings.weight", "model.norm.weight": "ln_final.weight",
    "input_layernorm": "ln1", "post_attention_layernorm": "ln2", "self_attn.o_proj": "attn.output_proj",
    "self_attn.": "attn.", "mlp.gate_proj": "ffn.w1", "mlp.down_proj": "ffn.w2", "mlp.up_proj": "ffn.w3",
    "model.layers.": "layers.",
}


def script(name, *arguments):
    """Runs a script of this folder; returns its exit code and what it printed."""
    done = subprocess.run([sys.executable, HERE / name, *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "TRANSFORMERS_OFFLINE": "1"})
    return done.returncode, done.stdout + done.stderr


def expect(code, output, want, text=""):
    assert code == want and text in output, f"exit code {code}, wanted {want} and {text!r}:\n{output}"


def our_name(name):
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name


def interleave(rows, n_heads):
    """Moves rows i and i + D/2 of each head to 2i and 2i + 1: rotated halves become rotated neighbours."""
    head_dim = len(rows) // n_heads
    return rows.view(n_heads, 2, head_dim // 2, -1).transpose(1, 2).reshape(rows.shape)


def transformers_agrees_with_the_oracle_model(folder):
    """A second implementation of the whole way: names, the order of the rotated rows, logits, loss, gradients."""
    tensors = {name: tensor for path in sorted((FIXTURES / "llama_sharded").glob("model-*.safetensors"))
               for name, tensor in load_file(path).items()}
    expected = load_file(FIXTURES / "llama_sharded" / "expected.safetensors")
    hf = json.loads((FIXTURES / "llama_sharded" / "config.json").read_text())
    config = {
        "vocab_size": hf["vocab_size"], "d_model": hf["hidden_size"], "num_layers": hf["num_hidden_layers"],
        "num_heads": hf["num_attention_heads"], "num_kv_heads": hf["num_key_value_heads"],
        "d_ff": hf["intermediate_size"], "rope_theta": hf["rope_parameters"]["rope_theta"],
        "norm_eps": hf["rms_norm_eps"], "tie_embeddings": hf["tie_word_embeddings"],
    }

    def converted(name, array):
        tensor = torch.from_numpy(array).double()
        heads = {"q_proj": config["num_heads"], "k_proj": config["num_kv_heads"]}.get(name.split(".")[-2])
        return interleave(tensor, heads) if heads else tensor

    model = TransformerLM(config).double()
    model.load_state_dict({our_name(name): converted(name, array) for name, array in tensors.items()})
    inputs, targets = (torch.from_numpy(expected[key]).long() for key in ("input_ids", "targets"))
    loss = loss_and_gradients(model, inputs, targets)
    # The file's values are float64 results rounded to float32 once, which is 6e-8 at most.
    assert abs(loss.item() - expected["loss"].item()) < 1e-7 * loss.item()
    pairs = {"logits": (model(inputs).detach(), torch.from_numpy(expected["logits"]).double())}
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    for name in tensors:
        pairs[name] = (gradients[our_name(name)], converted(name, expected[f"grad.{name}"]))
    for name, (got, want) in pairs.items():
        assert (got - want).norm() < 1e-7 * want.norm(), f"{name} differs by {(got - want).norm() / want.norm()}"


def write_run_files(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokens = np.random.RandomState(1).randint(CONFIG["vocab_size"], size=600).astype(np.uint16)
    np.save(folder / "tokens.npy", tokens)
    return ["--config", folder / "config.json", "--train-path", folder / "tokens.npy"]


def read_records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def training_goes_on_as_if_it_had_not_stopped(folder):
    files = write_run_files(folder)
    for order in ([], ["--norms-last"]):
        code, output = script("continue_training.py", *files, "--out", folder / "whole.jsonl", "--save-at", 12,
                              "--save", folder / "half.pt", *order)
        expect(code, output, 0)
        code, output = script("continue_training.py", *files, "--out", folder / "rest.jsonl",
                              "--resume", folder / "half.pt")
        expect(code, output, 0)
        whole, rest = read_records(folder / "whole.jsonl"), read_records(folder / "rest.jsonl")
        assert [record["iteration"] for record in whole] == list(range(24))
        assert rest == whole[12:], "the run that went on differs"


def damaged_checkpoints_are_refused(folder):
    files = write_run_files(folder)
    expect(*script("continue_training.py", *files, "--out", folder / "a.jsonl", "--save-at", 3, "--max-iters", 3,
                   "--save", folder / "good.pt"), 0)

    def damaged(change, text):
        checkpoint = torch.load(folder / "good.pt", weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, folder / "bad.pt")
        code, output = script("continue_training.py", *files, "--out", folder / "b.jsonl", "--resume", folder / "bad.pt")
        expect(code, output, 1, text)

    state = "optimizer_state_dict"
    damaged(lambda checkpoint: checkpoint.pop("iteration"), "lacks ['iteration']")
    damaged(lambda checkpoint: checkpoint.update(iteration=2), "step is 3.0, but iteration is 2")
    damaged(lambda checkpoint: checkpoint[state]["state"].pop(4), "exp_avg is absent")
    damaged(lambda checkpoint: checkpoint[state]["state"].update({1: checkpoint[state]["state"][0]}), "not of shape")
    damaged(lambda checkpoint: checkpoint["model_state_dict"].pop("ln_final.weight"), "the checkpoint's parameters")


def tensors_are_compared_to_the_byte(folder):
    sharded = FIXTURES / "llama_sharded"
    whole = {name: tensor for path in sharded.glob("model-*.safetensors") for name, tensor in load_file(path).items()}
    save_file(whole, folder / "model.safetensors")
    expect(*script("compare_tensors.py", sharded, folder), 0, "21 and 21 tensors, 0 differ")
    changed = {name: tensor.copy() for name, tensor in whole.items()}
    changed["model.norm.weight"].view(np.uint8)[9] ^= 1
    changed["lm_head.weight"] = changed["lm_head.weight"].T.copy()
    changed["extra"] = changed.pop("model.embed_tokens.weight")
    save_file(changed, folder / "model.safetensors")
    expect(*script("compare_tensors.py", sharded, folder), 1, "model.norm.weight: F32 [48] differs from byte 9 on")
    assert len(differences(read_tensors(sharded), read_tensors(folder))) == 4
    shutil.copytree(sharded, folder / "broken")
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    del index["weight_map"]["model.norm.weight"]
    (folder / "broken" / "model.safetensors.index.json").write_text(json.dumps(index))
    expect(*script("compare_tensors.py", sharded, folder / "broken"), 1, "which the index does not name")


def logits_over_the_limit_are_found(folder):
    case = FIXTURES / "qwen3"
    expected = load_file(case / "expected.safetensors")
    (folder / "tokens.json").write_text(json.dumps(expected["input_ids"].tolist()))
    logits = folder / "logits.npy"
    expect(*script("compare_logits.py", case, folder / "tokens.json", case / "expected.safetensors"), 0, "ok")
    for at, value in (((1, 95, 70), 2e-4), ((0, 0, 0), np.nan)):
        changed = expected["logits"].copy()
        changed[at] += value
        np.save(logits, changed)
        expect(*script("compare_logits.py", case, folder / "tokens.json", logits), 1, f"at {list(at)}")
    np.save(logits, expected["logits"][:, :-1])
    expect(*script("compare_logits.py", case, folder / "tokens.json", logits), 1, "TOO LARGE")


def absent_weights_are_not_filled_in(folder):
    case = FIXTURES / "llama_f16"
    shutil.copytree(case, folder / "case")
    tensors = load_file(case / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "case" / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokens.json").write_text("[1, 2, 3]")
    code, output = script("compare_logits.py", folder / "case", folder / "tokens.json", case / "expected.safetensors")
    expect(code, output, 1, "missing_keys: ['model.norm.weight']")


def texts_are_compared_both_ways(folder):
    case = folder / "case"
    shutil.copytree(FIXTURES / "llama_f16", case)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: at for at, character in enumerate(alphabet)} | {"he": 256, "Ġ,": 257}
    tokenizer = Tokenizer(models.BPE(vocab, [("h", "e"), ("Ġ", ",")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(case)
    texts = ["he said , \"hé\"", "", "  \n\t two", "🙂👩‍🚀 ﷺ", "a\u0301 \ud7ff\u200b"]
    entries = [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]
    expected = load_file(case / "expected.safetensors")
    (folder / "tokens.json").write_text(json.dumps(expected["input_ids"].tolist()))
    arguments = ["compare_logits.py", case, folder / "tokens.json", case / "expected.safetensors"]
    (folder / "texts.json").write_text(json.dumps(entries))
    expect(*script(*arguments, "--texts", folder / "texts.json"), 0, "texts: 5 compared, 0 differ: ok")
    expect(*script(*arguments), 0, "so it was not compared")
    for change in ({"ids": entries[0]["ids"][1:]}, {"decoded": "he said, \"hé\""}):
        (folder / "texts.json").write_text(json.dumps([{**entries[0], **change}, *entries[1:]]))
        expect(*script(*arguments, "--texts", folder / "texts.json"), 1, "texts: 5 compared, 1 differ: DIFFERENT")


CHECKS = [
    transformers_agrees_with_the_oracle_model, training_goes_on_as_if_it_had_not_stopped,
    damaged_checkpoints_are_refused, tensors_are_compared_to_the_byte, logits_over_the_limit_are_found,
    absent_weights_are_not_filled_in, texts_are_compared_both_ways,
]

if __name__ == "__main__":
    torch.set_num_threads(1)
    for check in CHECKS:
        with tempfile.TemporaryDirectory() as scratch:
            check(Path(scratch))
        print(f"ok  {check.__name__}", flush=True)
