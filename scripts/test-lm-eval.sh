#!/bin/sh
# Asks `gpu-tlm serve` by EleutherAI's lm_eval, and holds its results against `gpu-tlm score` and
# `gpu-tlm generate` on the same texts.
#
# Usage: test-lm-eval.sh PROGRAM PYTHON FOLDER MODEL
# where FOLDER takes lm_eval and what comes of it, and MODEL a small model, where they are missing.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

program=$1
python=$2
folder=$3
model=$4
here=$(dirname "$0")
# That of the model which ensure-served-model.sh trains.
context=128

"$here/ensure-served-model.sh" "$program" "$model"
if ! "$folder/venv/bin/python" -c 'import lm_eval, transformers' 2>/dev/null; then
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv python3 python
    "$python" -m venv "$folder/venv"
    # Of transformers its tokenizers alone are used, for which it needs no PyTorch.
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        'lm_eval[api]==0.4.13' transformers==5.24.0
fi

checkpoint=$model/checkpoints/latest.safetensors
tokenizer=$folder/tokenizer
rm -rf "$folder/tasks" "$folder/results" "$tokenizer"
"$program" tokenizer convert --tokenizer "$model/tokenizer" --to hugging-face --out "$tokenizer"
"$program" data stories --count 24 --first 1000000 --out "$folder/stories.txt"
"$python" "$here/lm_eval_tasks.py" write "$folder/stories.txt" "$folder"

log=$folder/serve.log
: >"$folder/address"
"$program" serve --port 0 --no-tune --slots 4 --model-name stories \
    --checkpoint "$checkpoint" --tokenizer "$model/tokenizer" >"$folder/address" 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 600); do
    [ ! -s "$folder/address" ] || break
    kill -0 "$server" || { cat "$log" >&2; exit 1; }
    sleep 0.1
done

echo "==> lm_eval"
# Nothing is asked of the network: tasks, texts and tokenizer are files.
HF_HOME=$folder/hugging-face HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 \
    "$folder/venv/bin/lm_eval" run --model local-completions --model_args \
    "model=stories,base_url=$(cat "$folder/address")/v1/completions,tokenizer=$tokenizer,max_length=$context,num_concurrent=4" \
    --batch_size 2 --tasks stories_choice,stories_rolling,stories_generate --include_path "$folder/tasks" \
    --output_path "$folder/results" --log_samples >"$folder/lm_eval.log" 2>&1 ||
    { cat "$folder/lm_eval.log" >&2; exit 1; }
grep '^|' "$folder/lm_eval.log"

kill -TERM "$server"
wait "$server"

echo "==> gpu-tlm on the same texts"
# lm_eval leaves two tokens of the context free: for a new one, and for what its windows begin behind.
window=$((context - 2))
"$program" score --no-tune --checkpoint "$checkpoint" --tokenizer "$model/tokenizer" --window "$window" \
    --stride "$window" --text "$folder/texts.jsonl" --top 1 --json >"$folder/scores.json"
"$program" generate --no-tune --checkpoint "$checkpoint" --tokenizer "$model/tokenizer" --temperature 0 \
    --prompts "$folder/prompts.jsonl" >"$folder/generated.jsonl"
"$python" "$here/lm_eval_tasks.py" compare "$folder"
