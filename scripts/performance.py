"""Measures training steps and matrix products on this machine's adapter and writes them down.

Usage: performance.py PROGRAM FILE
"""

import json
import os
import subprocess
import sys

STEPS = """
## Training steps

`gpu-tlm bench train --model ...`: the median step, and beside it the product of 1024x1024x1024 before and after the steps of the same process, operands that have to be staged included.
S has d_model 128, 4 layers, 4 heads, d_ff 344, vocabulary 1,024, context 128, batch 8; M has d_model 512, 4 layers, 16 heads, d_ff 1,344, vocabulary 10,000, context 256, batch 8.
A step's operations are 6 x matrix parameters x tokens + 6 x layers x d_model x context x tokens.

| model | tokens/s | ms a step | spread | GFLOP/s | product's GFLOP/s | share | host | allocated, MiB | planned, MiB | first step, s |
|---|---|---|---|---|---|---|---|---|---|---|
"""

DEAREST = """
## Matrix products

`gpu-tlm bench kernels --kernel {kernel} --shape ...` at the shapes of M; share of the multiply-add ceiling of the same process.

| shape | ms | spread | GFLOP/s | ceiling, GFLOP/s | share |
|---|---|---|---|---|---|
"""

PYTORCH = """
## Beside PyTorch

`scripts/pytorch_steps.py S|M`: the same models, eager, float32, on the same cores right after, with the number of threads that is fastest; a different road, since its kernels are machine code for the CPU.

| model | PyTorch | threads | its tokens/s | gpu-tlm's | ratio |
|---|---|---|---|---|---|
"""

GENERATION = """
## Generation

`gpu-tlm bench generate --model ...`: a full window, so that each new token sees 128 tokens of S or 256 of M. Uncached: each new token's window is computed anew, in the same run. The share is that of the weights, keys and values which a step has to read, over its time, of what a copy moves in the same run; where a cache of the CPU holds them it may pass 100 %.
`scripts/pytorch_generate.py S|M`: PyTorch with a cache, right after, eager, float32, with the number of threads that is fastest.

| model | batch | prompt tokens/s | ms a step | spread | tokens/s | uncached | times as fast | share of a copy | PyTorch's tokens/s | ratio |
|---|---|---|---|---|---|---|---|---|---|---|
"""

SIZES = """
## Cost against size

`gpu-tlm bench scaling --out docs/scaling.svg`: model S with one size changed.
Dashed lines grow in proportion; planned memory is of the whole step, attention and its gradients included.

![Time and memory of a step against batch, context, width and vocabulary](scaling.svg)

| changed | tokens/s | ms a step | us a token | GFLOP/s | planned, MiB |
|---|---|---|---|---|---|
"""

SHAPES = ["512x512x512", "1024x1024x1024", "2048x", "1344x512x2048", "512x512x2048", "512x1344x2048", "448x", "10000x"]


def run(program, *arguments):
    command = [program, "bench", *arguments, "--json"]
    print("==>", " ".join(command), file=sys.stderr)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def mib(size):
    return "-" if size is None else f"{size / 2**20:.1f}"


def steps(reports):
    text = STEPS
    for model, r in reports.items():
        text += (
            f"| {model} | {r['tokens_per_s']:.0f} | {r['ms_per_step']:.1f} | {r['spread']:.0%} "
            f"| {r['gflops']:.1f} | {r['matmul_gflops']:.1f} | {r['gflops'] / r['matmul_gflops']:.0%} "
            f"| {r['host_share']:.2%} | {mib(r['peak_device_bytes'])} "
            f"| {mib(r['planned_device_bytes'])} | {r['first_step_s']:.2f} |\n"
        )
    return text


def products(program, kernel):
    text, seen = DEAREST.format(kernel=kernel), set()
    for shape in SHAPES:
        report = run(program, "kernels", "--kernel", kernel, "--shape", shape)
        ceiling = report["ceilings"]["fma_gflops"]
        for row in report["rows"]:
            if row["shape"] not in seen:
                seen.add(row["shape"])
                text += (
                    f"| {row['shape']} | {row['ms']:.2f} | {row['spread']:.0%} | {row['gflops']:.1f} "
                    f"| {ceiling:.0f} | {row['gflops'] / ceiling:.0%} |\n"
                )
    return text


def beside_pytorch(reports):
    text = PYTORCH
    script = os.path.join(os.path.dirname(__file__), "pytorch_steps.py")
    for model, r in reports.items():
        done = subprocess.run([sys.executable, script, model], check=True, stdout=subprocess.PIPE)
        theirs = json.loads(done.stdout)
        text += (
            f"| {model} | {theirs['pytorch']} | {theirs['threads']} | {theirs['tokens_per_s']:.0f} "
            f"| {r['tokens_per_s']:.0f} | {r['tokens_per_s'] / theirs['tokens_per_s']:.2f} |\n"
        )
    return text


def generation(program):
    text = GENERATION
    script = os.path.join(os.path.dirname(__file__), "pytorch_generate.py")
    for model in ["S", "M"]:
        ours = run(program, "generate", "--model", model)["batches"]
        done = subprocess.run([sys.executable, script, model], check=True, stdout=subprocess.PIPE)
        theirs = json.loads(done.stdout)["batches"]
        for r, t in zip(ours, theirs, strict=True):
            text += (
                f"| {model} | {r['batch_size']} | {r['prompt_tokens_per_s']:.0f} | {r['ms_per_step']:.2f} "
                f"| {r['spread']:.0%} | {r['tokens_per_s']:.0f} | {r['uncached_tokens_per_s']:.1f} "
                f"| {r['speedup']:.1f} | {r['share_of_copy']:.0%} | {t['tokens_per_s']:.0f} "
                f"| {r['tokens_per_s'] / t['tokens_per_s']:.2f} |\n"
            )
    return text


def sizes(program, picture):
    text = SIZES
    for p in run(program, "scaling", "--out", picture)["points"]:
        text += (
            f"| {p['size']} {p['value']} | {p['tokens_per_s']:.0f} | {p['ms_per_step']:.1f} "
            f"| {1e6 / p['tokens_per_s']:.0f} | {p['gflops']:.1f} | {mib(p['planned_device_bytes'])} |\n"
        )
    return text


def by_hand(path):
    """What a person wrote at the end of the page, which stays."""
    with open(path, encoding="utf-8") as file:
        _, heading, rest = file.read().partition("\n## On GPUs\n")
    return heading + rest


def main(program, path):
    reports = {model: run(program, "train", "--model", model) for model in ["S", "M"]}
    small = reports["S"]
    text = (
        "# Performance\n\n"
        "Written by `make performance`. Times on shared machines are noisy: what counts are shares "
        "and ratios within one process.\n\n"
        f"gpu-tlm {small['version']} on {small['adapter']} ({small['backend']}, {small['driver']}).\n"
    )
    text += steps(reports) + beside_pytorch(reports) + generation(program)
    text += products(program, small["matmul"]) + sizes(program, os.path.join(os.path.dirname(path), "scaling.svg"))
    text += by_hand(path)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
