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

if ! "$folder/venv/bin/python" -c 'import gguf, peft, torch, transformers' 2>/dev/null; then
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv python3 python
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf safetensors numpy
fi
python=$folder/venv/bin/python
command -v npm >/dev/null || {
    say "npm of Node 20 is missing, which brings llama.cpp"
    exit 1
}
[ -d "$folder/node_modules/node-llama-cpp" ] ||
    (cd "$folder" && npm install --silent --no-fund --no-audit node-llama-cpp@3.22.1)

say "exports in transformers"
for case in llama_grouped llama_tied_head_dim qwen3 gpt2; do
    "$python" "$tests/compare_logits.py" "$exports/$case" "$exports/$case.json" "$exports/$case.safetensors"
done

say "exports in llama.cpp: 100 greedy tokens"
greedy() {
    name=$1
    shift
    run=$folder/$name
    rm -rf "$run"
    "$program" train --vocab-size 400 --context-length 128 --d-model 64 --num-layers 2 --num-heads 2 --batch-size 8 \
        --max-iters 40 --learning-rate 0.01 --eval-interval 0 --no-tune --logdir "$run" "$@" 2>/dev/null
    "$program" export --checkpoint "$run/checkpoints/latest.safetensors" --tokenizer "$run/tokenizer" \
        --format gguf --out "$run.gguf" >/dev/null
    "$program" generate --checkpoint "$run.gguf" --prompt "Once upon a time" --temperature 0 --max-new-tokens 100 \
        --no-tune --json 2>/dev/null >"$run/ours.json"
    NODE_LLAMA_CPP=$folder node "$tests/llama_cpp_greedy.mjs" "$run.gguf" --prompt "Once upon a time" \
        --new-tokens 100 >"$run/theirs.json" 2>/dev/null
    "$python" - "$name" "$run" <<'PYTHON'
import json
import sys

name, run = sys.argv[1:]
ours, theirs = (json.load(open(f"{run}/{side}.json")) for side in ("ours", "theirs"))
# Ours has the token that ended the text.
same = ours["tokens"][:len(theirs["ids"])] == theirs["ids"] and len(ours["tokens"]) - len(theirs["ids"]) in (0, 1)
print(f"{name}: {len(theirs['ids'])} tokens, {'the same' if same else 'not the same'}")
sys.exit(not (same and ours["prompt_tokens"] == theirs["prompt_ids"]))
PYTHON
}
greedy llama --num-kv-heads 1 --rope-scaling llama3 --rope-factor 8 --rope-original-context 64
greedy qwen3 --qk-norm --head-dim 48 --num-kv-heads 1 --tie-embeddings
greedy gpt2 --norm layer --activation gelu --positions learned --biases --tie-embeddings

say "adapters in peft"
adapters=()
for pair in llama_all:llama_grouped qwen3:qwen3 gpt2:gpt2 gpt2_all:gpt2; do
    case=${pair%%:*} base=${pair##*:}
    "$program" export --checkpoint "$tests/fixtures/peft/$case" --format peft --out "$folder/peft/$case" >/dev/null
    adapters+=("$folder/peft/$case" "$tests/fixtures/hugging_face/$base" "$tests/fixtures/peft/$case")
done
"$python" "$tests/check_peft.py" "${adapters[@]}"

say "exports in PyTorch"
"$python" "$tests/torch_reads.py" "$exports/../torch"

say "training that changes hands: 50 steps of PyTorch, 25 of gpu-tlm, 25 of PyTorch"
run=$folder/hands
rm -rf "$run"
mkdir -p "$run"
cat >"$run/config.json" <<'JSON'
{"vocab_size": 97, "context_length": 32, "d_model": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
 "d_ff": 96, "rope_theta": 10000.0, "tie_embeddings": false, "batch_size": 8, "max_iters": 100,
 "learning_rate": 0.003, "min_learning_rate": 0.0003, "warmup_iters": 10, "cosine_cycle_iters": 100,
 "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "grad_clip": 1.0, "sampling": "sequential",
 "seed": 0}
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
