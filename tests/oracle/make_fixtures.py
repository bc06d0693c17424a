"""Writes the committed fixtures: a few small models, trained for 20 iterations.

Each case is run four times, clipped and unclipped, in float32 and in float64. The
float32 values are kept. Their distance from float64 is kept beside them, since it is
the least that another float32 program can be asked to stay within.
"""

import json
import platform
from pathlib import Path

import numpy as np
import torch

import safetensors_io
from model import TransformerLM, initialise
from train import load_weights, loss_and_gradients, make_optimizer, sequential_batch, train_step, weights_of

FOLDER = Path(__file__).parent / "fixtures"
ITERATIONS = 20
PARAMETERS_AFTER = 10

COMMON = {
    "vocab_size": 61, "context_length": 12, "num_layers": 2, "rope_theta": 10000.0, "norm_eps": 1e-5,
    "sampling": "sequential", "batch_size": 4, "max_iters": ITERATIONS,
    "learning_rate": 3e-3, "min_learning_rate": 3e-4, "warmup_iters": 4, "cosine_cycle_iters": 16,
    "schedule": "cosine", "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95,
    # Larger than usual, so that an eps added in the wrong place shows.
    "eps": 1e-6,
}
GRAD_CLIP = {"clipped": 0.25, "unclipped": 1000.0}
# Head width 16 everywhere; d_ff is no multiple of 16. One case has a single layer, which keeps the files small.
CASES = {
    "multi_head": {"d_model": 32, "num_heads": 2, "num_kv_heads": 2, "d_ff": 24, "tie_embeddings": False, "seed": 1},
    "grouped": {"d_model": 64, "num_heads": 4, "num_kv_heads": 2, "d_ff": 20, "tie_embeddings": False, "seed": 2},
    "tied": {"d_model": 32, "num_heads": 2, "num_kv_heads": 2, "d_ff": 20, "tie_embeddings": True, "seed": 3},
    "tied_grouped": {"d_model": 48, "num_heads": 3, "num_kv_heads": 1, "d_ff": 20, "tie_embeddings": True, "seed": 4,
                     "num_layers": 1},
}


def token_stream(config):
    """A noisy chain of tokens: three in four follow from the one before, so there is something to learn."""
    random = np.random.RandomState(config["seed"])
    vocab = config["vocab_size"]
    tokens = [random.randint(vocab)]
    for _ in range(ITERATIONS * config["batch_size"] * config["context_length"]):
        follows = random.random_sample() < 0.75
        tokens.append((3 * tokens[-1] + 7) % vocab if follows else random.randint(vocab))
    return np.array(tokens, dtype=np.int32)


def initial_weights(config):
    model = TransformerLM(config)
    initialise(model, config["seed"])
    return weights_of(model)


def first_batch(config, init, batch, dtype):
    """Logits and gradients of iteration 0, before clipping."""
    model = TransformerLM(config)
    load_weights(model, init)
    model.to(dtype)
    loss_and_gradients(model, *batch)
    gradients = {f"grad0.{name}": weight.grad.numpy() for name, weight in model.named_parameters()}
    return {"logits0": model(batch[0]).detach().numpy(), **gradients}


def training_run(config, label, init, batches, dtype):
    """Losses and norms of all iterations, and the parameters after the first few."""
    config = {**config, "grad_clip": GRAD_CLIP[label]}
    model = TransformerLM(config)
    load_weights(model, init)
    model.to(dtype)
    optimizer = make_optimizer(model, config)
    records, parameters = [], {}
    for iteration, batch in enumerate(batches):
        records.append(train_step(model, optimizer, config, iteration, *batch))
        if iteration + 1 == PARAMETERS_AFTER:
            parameters = {f"{label}.params10.{name}": array for name, array in weights_of(model).items()}
    series = {key: [record[key] for record in records] for key in ("loss", "grad_norm", "learning_rate")}
    return series, parameters


def check_clipping(runs):
    """The two limits must lie on either side of every norm, with room for another program's rounding."""
    assert all(norm > 1.1 * GRAD_CLIP["clipped"] for norm in runs["clipped"]["grad_norm"])
    assert all(norm < 0.9 * GRAD_CLIP["unclipped"] for norm in runs["unclipped"]["grad_norm"])
    assert runs["clipped"]["loss"][:2] == runs["unclipped"]["loss"][:2], "the rate of iteration 0 is 0"
    assert runs["clipped"]["loss"][-1] != runs["unclipped"]["loss"][-1], "clipping must make a difference"


def tensor_difference(got, want, start=None):
    """Relative L2 and largest absolute difference; with `start`, of the change since then."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = np.linalg.norm(want if start is None else want - start)
    return {"relative_l2": np.linalg.norm(got - want) / scale, "max_abs": np.abs(got - want).max()}


def worst_tensors(got, want, prefix, init=None):
    """The largest difference of each kind over the tensors of a prefix, and where it is."""
    differences = {}
    for name in (name for name in want if name.startswith(prefix)):
        start = None if init is None else init[name[len(prefix) :]]
        differences[name[len(prefix) :]] = tensor_difference(got[name], want[name], start)
    summary = {}
    for kind in ("relative_l2", "max_abs"):
        name = max(differences, key=lambda name: differences[name][kind])
        summary[kind] = {"worst": differences[name][kind], "name": name}
    return summary


def series_difference(got, want):
    got, want = np.array(got), np.array(want)
    relative = np.abs(got - want) / np.abs(want)
    return {"first_10": relative[:10].max(), "all": relative.max()}


def differences(init, tensors, runs):
    """How far the float32 run is from the float64 run, by quantity."""
    got, want = tensors["float32"], tensors["float64"]
    report = {
        "logits0": tensor_difference(got["logits0"], want["logits0"]),
        "grad0": worst_tensors(got, want, "grad0."),
    }
    for label in GRAD_CLIP:
        prefix = f"{label}.params10."
        report[label] = {key: series_difference(runs["float32"][label][key], runs["float64"][label][key])
                         for key in ("loss", "grad_norm")}
        report[label]["params10"] = worst_tensors(got, want, prefix)
        report[label]["params10_change"] = worst_tensors(got, want, prefix, init)
    return report


def make_case(name, case):
    config = {**COMMON, **case}
    stream, init = token_stream(config), initial_weights(config)
    batches = [sequential_batch(stream, config, iteration) for iteration in range(ITERATIONS)]
    tensors, runs = {}, {}
    for dtype in (torch.float32, torch.float64):
        key = str(dtype).split(".")[1]
        tensors[key], runs[key] = first_batch(config, init, batches[0], dtype), {}
        for label in GRAD_CLIP:
            runs[key][label], parameters = training_run(config, label, init, batches, dtype)
            tensors[key].update(parameters)
        check_clipping(runs[key])
    report = differences(init, tensors, runs)
    inputs, targets = (np.stack([pair[i].numpy() for pair in batches]).astype(np.int32) for i in (0, 1))
    kept = {f"init.{key}": array for key, array in init.items()}
    kept.update(tensors["float32"], tokens=inputs, targets=targets)
    safetensors_io.save(FOLDER / f"{name}.safetensors", kept)
    write_json(FOLDER / f"{name}.json", config, runs["float32"], report)
    return report


def write_json(path, config, runs, report):
    content = {
        "config": config,
        "runs": {label: {"grad_clip": GRAD_CLIP[label], **runs[label]} for label in GRAD_CLIP},
        "float32_vs_float64": report,
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def main():
    # One thread, so that sums are taken in the same order on every machine with this version.
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        print(name, json.dumps(make_case(name, case), indent=1))
    print("bytes:", sum(path.stat().st_size for path in FOLDER.iterdir()))


if __name__ == "__main__":
    main()
