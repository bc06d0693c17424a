"""Trains CS336's TransformerLM with torch.optim.AdamW, stops at a .pt checkpoint, and goes on from one.

    continue_training.py --config C.json --train-path T.npy --out losses.jsonl [--init W.safetensors]
                         [--save-at 50 --save CHECKPOINT.pt] [--norms-last]
    continue_training.py --config C.json --train-path T.npy --out losses.jsonl --resume CHECKPOINT.pt

The config has gpu-tlm's flat keys; a run goes on to `max_iters`. A checkpoint is what CS336's
course work saves: {"model_state_dict", "optimizer_state_dict", "iteration"}, with the number of
updates done as `iteration`. One that is resumed is loaded with `weights_only=True`.

PyTorch's optimizer state has no names: parameter i is the i-th of `model.parameters()`, which is
the order in which the class declares its parts. --norms-last declares attention and feed-forward
before the norms, as the course's own model does, so a reader that presumes one order fails.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "oracle"))

import safetensors_io  # noqa: E402 (found through the line above)
from model import TransformerLM, initialise  # noqa: E402
from train import load_config, load_weights, make_optimizer, sequential_batch, train_step  # noqa: E402

KEYS = {"model_state_dict", "optimizer_state_dict", "iteration"}


def declare_norms_last(model):
    """Moves the norms behind the other parts of each block: the same model with another parameter order."""
    for block in model.layers:
        for name in ("ln1", "ln2"):
            block._modules[name] = block._modules.pop(name)


def save_checkpoint(path, model, optimizer, iteration):
    torch.save({
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "iteration": iteration,
    }, path)


def adopt_order(model, names):
    """Declares the parts in the order of a checkpoint's state dict, which its optimizer state follows."""
    first_block = [name.split(".")[2] for name in names if name.startswith("layers.0.")]
    for block in model.layers:
        for part in dict.fromkeys(first_block):
            block._modules[part] = block._modules.pop(part)
    got = [name for name, _ in model.named_parameters()]
    if got != list(names):
        raise SystemExit(f"the checkpoint's parameters are {list(names)}, the model's {got}")


def load_checkpoint(path, model, optimizer_of):
    """Loads the weights and the optimizer's state; returns the optimizer and the updates done."""
    checkpoint = torch.load(path, weights_only=True)
    if missing := KEYS - checkpoint.keys():
        raise SystemExit(f"{path}: lacks {sorted(missing)}")
    adopt_order(model, checkpoint["model_state_dict"])
    model.load_state_dict(checkpoint["model_state_dict"])
    optimizer = optimizer_of(model)
    optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
    check_optimizer(path, model, optimizer, checkpoint["iteration"])
    return optimizer, checkpoint["iteration"]


def check_optimizer(path, model, optimizer, iteration):
    """torch loads moments of a wrong shape, or none at all, without a word."""
    for name, weight in model.named_parameters():
        state = optimizer.state.get(weight, {})
        for key in ("exp_avg", "exp_avg_sq"):
            if key not in state or state[key].shape != weight.shape:
                raise SystemExit(f"{path}: {name}: {key} is absent or not of shape {list(weight.shape)}")
        if float(state["step"]) != iteration:
            raise SystemExit(f"{path}: {name}: step is {float(state['step'])}, but iteration is {iteration}")


def run(model, optimizer, config, tokens, start, arguments):
    with open(arguments.out, "w") as out:
        for iteration in range(start, config["max_iters"]):
            if iteration == arguments.save_at:
                save_checkpoint(arguments.save, model, optimizer, iteration)
            inputs, targets = sequential_batch(tokens, config, iteration)
            record = train_step(model, optimizer, config, iteration, inputs, targets)
            out.write(json.dumps(record) + "\n")
    if arguments.save and arguments.save_at == config["max_iters"]:
        save_checkpoint(arguments.save, model, optimizer, config["max_iters"])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--train-path", required=True, help="token ids as .npy")
    parser.add_argument("--out", default="losses.jsonl")
    parser.add_argument("--resume", help="go on from this checkpoint")
    parser.add_argument("--init", help="start from these weights, else from weights drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="write a checkpoint here")
    parser.add_argument("--save-at", type=int, default=50, help="updates done when it is written")
    parser.add_argument("--norms-last", action="store_true")
    parser.add_argument("--max-iters", type=int, help="instead of the config's")
    arguments = parser.parse_args()
    if arguments.save is None:
        arguments.save_at = None
    return arguments


def main():
    arguments = parse_arguments()
    # One thread, so that a run that goes on adds up in the same order as one that never stopped.
    torch.set_num_threads(1)
    config = load_config(arguments.config)
    if arguments.max_iters is not None:
        config["max_iters"] = arguments.max_iters
    model, start = TransformerLM(config), 0
    if arguments.norms_last:
        declare_norms_last(model)
    if arguments.resume:
        optimizer, start = load_checkpoint(arguments.resume, model, lambda model: make_optimizer(model, config))
    else:
        initialise(model, arguments.seed)
        if arguments.init:
            load_weights(model, safetensors_io.load(arguments.init))
        optimizer = make_optimizer(model, config)
    tokens = np.load(arguments.train_path, mmap_mode="r")
    run(model, optimizer, config, tokens, start, arguments)


if __name__ == "__main__":
    main()
