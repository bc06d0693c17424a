#!/bin/sh
# Runs every kernel, and a small model from its first step to generated text, under Vulkan's
# validation layers. Whatever the layers say is a failure, and so is not hearing them.
#
# Usage: test-validation.sh PROGRAM
set -eu

program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Products are timed anew, under the layers too.
export GPU_TLM_CACHE="$folder/cache"

"$program" check --validation
"$program" train --validation --logdir "$folder" --vocab-size 300 --context-length 32 \
    --d-model 64 --num-layers 2 --num-heads 4 --num-kv-heads 2 --d-ff 128 --batch-size 4 \
    --micro-batch-size 2 --max-iters 4 --eval-interval 2 --eval-iters 1 --checkpoint-interval 2
"$program" generate --validation --checkpoint "$folder/checkpoints/latest.safetensors" \
    --tokenizer "$folder/tokenizer" --prompt Once --max-new-tokens 40 --top-k 5
