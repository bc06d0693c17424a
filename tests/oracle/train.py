"""Trains the PyTorch model as gpu-tlm does, and writes the loss of each iteration.

    train.py --config C.json --init W.safetensors --train-path T.npy --out losses.jsonl
    train.py --config C.json --write-init W.safetensors [--seed N]

The config has gpu-tlm's flat keys. Batches are read in the order that
`sampling: sequential` gives, so both programs see the same tokens.
"""

import argparse
import json
import math

import numpy as np
import torch
from torch.nn import functional as F

import safetensors_io
from model import TransformerLM, initialise

# The share of the `wsd` schedule's length (`cosine_cycle_iters`) in which the rate falls.
WSD_DECAY_SHARE = 0.2


def load_config(path):
    """Reads the flat JSON config and fills in the constants of the model."""
    with open(path) as file:
        config = json.load(file)
    config = {"rope_theta": 10000.0, "norm_eps": 1e-5, "tie_embeddings": False, "schedule": "cosine", **config}
    if config.get("num_kv_heads") is None:
        config["num_kv_heads"] = config["num_heads"]
    if config.get("sampling", "sequential") != "sequential":
        raise SystemExit(f"{path}: sampling is {config['sampling']!r}, but only 'sequential' can be compared")
    if config.get("no_decay"):
        raise SystemExit(f"{path}: no_decay is set, but here every parameter decays")
    return config


def load_weights(model, arrays):
    """Copies a dict of name -> numpy array into the model; names must match exactly."""
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})


def weights_of(model):
    """Copies the model's parameters into a dict of name -> numpy array."""
    return {name: weight.detach().numpy().copy() for name, weight in model.named_parameters()}


def sequential_batch(tokens, config, iteration):
    """Inputs and targets [batch, context]: row r is window (i * batch_size + r) mod W."""
    batch, context = config["batch_size"], config["context_length"]
    n_windows = (len(tokens) - 1) // context
    starts = [(iteration * batch + row) % n_windows * context for row in range(batch)]
    windows = np.stack([tokens[start : start + context + 1] for start in starts]).astype(np.int64)
    return torch.from_numpy(windows[:, :-1].copy()), torch.from_numpy(windows[:, 1:].copy())


def learning_rate(config, iteration):
    """The rate of an iteration: linear warm-up, then the named schedule."""
    peak, warmup = config["learning_rate"], config["warmup_iters"]
    if iteration < warmup:
        return iteration / warmup * peak
    if config["schedule"] == "constant":
        return peak
    low, end = config["min_learning_rate"], config["cosine_cycle_iters"]
    if iteration >= end:
        return low
    if config["schedule"] == "cosine":
        share = (iteration - warmup) / (end - warmup)
        return low + 0.5 * (1 + math.cos(math.pi * share)) * (peak - low)
    if config["schedule"] == "wsd":
        share_left = (end - iteration) / (WSD_DECAY_SHARE * end)
        return low + min(1.0, share_left) * (peak - low)
    raise SystemExit(f"unknown schedule {config['schedule']!r}")


def gradient_norm(model):
    """The L2 norm over all gradients together."""
    return torch.stack([(weight.grad**2).sum() for weight in model.parameters()]).sum().sqrt()


def clip_gradients(model, norm, max_norm):
    """Scales the gradients by max_norm / (norm + 1e-6) where norm is larger; 0 turns it off."""
    if max_norm == 0 or norm <= max_norm:
        return
    for weight in model.parameters():
        weight.grad *= max_norm / (norm + 1e-6)


def make_optimizer(model, config):
    betas = (config["beta1"], config["beta2"])
    return torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=betas, eps=config["eps"], weight_decay=config["weight_decay"]
    )


def loss_and_gradients(model, inputs, targets):
    """Mean cross-entropy in nats; leaves the gradients in the parameters."""
    model.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    return loss


def train_step(model, optimizer, config, iteration, inputs, targets):
    """One update; the loss and the norm are those before it."""
    rate = learning_rate(config, iteration)
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_and_gradients(model, inputs, targets)
    norm = gradient_norm(model)
    clip_gradients(model, norm, config["grad_clip"])
    optimizer.step()
    return {"iteration": iteration, "loss": loss.item(), "grad_norm": norm.item(), "learning_rate": rate}


def run(model, config, tokens, out_path):
    optimizer = make_optimizer(model, config)
    with open(out_path, "w") as out:
        for iteration in range(config["max_iters"]):
            inputs, targets = sequential_batch(tokens, config, iteration)
            record = train_step(model, optimizer, config, iteration, inputs, targets)
            # json writes a float64 in full, so the float32 values survive unchanged.
            out.write(json.dumps(record) + "\n")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--init", help="start from these weights")
    weights.add_argument("--write-init", help="create weights from --seed and write them here")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-path", help="token ids as .npy; without it nothing is trained")
    parser.add_argument("--out", default="losses.jsonl")
    parser.add_argument("--save", help="write the trained weights here")
    parser.add_argument("--max-iters", type=int, help="instead of the config's")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--threads", type=int, default=1, help="more is slower where other programs run")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config)
    if arguments.max_iters is not None:
        config["max_iters"] = arguments.max_iters
    model = TransformerLM(config)
    if arguments.write_init:
        initialise(model, arguments.seed)
        safetensors_io.save(arguments.write_init, weights_of(model))
    else:
        load_weights(model, safetensors_io.load(arguments.init))
    if arguments.train_path:
        tokens = np.load(arguments.train_path, mmap_mode="r")
        run(model.to(getattr(torch, arguments.dtype)), config, tokens, arguments.out)
    if arguments.save:
        safetensors_io.save(arguments.save, weights_of(model))


if __name__ == "__main__":
    main()
