#!/bin/sh
# Holds what gpu-tlm exports against transformers, PyTorch and llama.cpp, and training that changes hands
# between PyTorch and gpu-tlm against training that does not.
#
# Usage: test-interop.sh PROGRAM PYTHON EXPORTS FOLDER
# where EXPORTS is what the tests of exports wrote, and FOLDER takes the other programs.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

program=$1
python=$2
exports=$3
folder=$4
tests=$(dirname "$0")/../tests/interop

if ! "$folder/venv/bin/python" -c 'import gguf, torch, transformers' 2>/dev/null; then
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv python3 python
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        torch==2.15.0 transformers==5.24.0 gguf safetensors numpy
fi
python=$folder/venv/bin/python
[ -d "$folder/node_modules/node-llama-cpp" ] ||
    (cd "$folder" && npm install --silent --no-fund --no-audit node-llama-cpp@3.22.1)

say "exports in transformers"
for case in llama_grouped llama_tied_head_dim qwen3 gpt2; do
    "$python" "$tests/compare_logits.py" "$exports/$case" "$exports/$case.json" "$exports/$case.safetensors"
done

say "exports in PyTorch"
"$python" "$tests/torch_reads.py" "$exports/../torch"

say "training that changes hands: 50 steps of PyTorch, 25 of gpu-tlm, 25 of PyTorch"
run=$folder/hands
rm -rf "$run"
mkdir -p "$run"
cat >"$run/config.json" <<'JSON'
{"vocab_size": 97, "context_length": 32, "d_model": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
 "d_ff": 96, "batch_size": 8, "max_iters": 100, "learning_rate": 0.003, "min_learning_rate": 0.0003,
 "warmup_iters": 10, "cosine_cycle_iters": 100, "grad_clip": 1.0, "sampling": "sequential"}
JSON
"$python" -c "
import numpy as np
steps = np.random.default_rng(0).integers(-3, 4, size=60000)
np.save('$run/tokens.npy', (np.cumsum(steps) % 97).astype(np.uint16))"
continue_training() {
    "$python" "$tests/continue_training.py" --config "$run/config.json" --train-path "$run/tokens.npy" "$@"
}
continue_training --out "$run/whole.jsonl" --save-at 50 --save "$run/at50.pt"
"$program" import "$run/at50.pt" --config "$run/config.json" --out "$run/at50.safetensors"
"$program" train --config "$run/config.json" --load-checkpoint "$run/at50.safetensors" --no-tune \
    --train-path "$run/tokens.npy" --logdir "$run/run" --eval-interval 0 --checkpoint-interval 25
"$program" export --checkpoint "$run/run/checkpoints/iter-00000075.safetensors" --format pt --out "$run/at75.pt"
continue_training --out "$run/rest.jsonl" --resume "$run/at75.pt"
"$python" - "$run" <<'PYTHON'
import json
import sys


def losses(path):
    lines = map(json.loads, open(path))
    return {line["iteration"]: line["loss"] for line in lines if line.get("kind", "train") == "train"}


folder = sys.argv[1]
whole = losses(f"{folder}/whole.jsonl")
for name, iterations in (("run/metrics.jsonl", range(50, 100)), ("rest.jsonl", range(75, 100))):
    found = losses(f"{folder}/{name}")
    worst = max(abs(found[iteration] - whole[iteration]) for iteration in iterations)
    print(f"{name}: losses within {worst:.1e} of those of one run in PyTorch")
    if not worst <= 1e-3:
        sys.exit(1)
PYTHON
