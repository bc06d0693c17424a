#!/bin/sh
# Makes sure that there is a small model to serve.
#
# Usage: ensure-served-model.sh PROGRAM FOLDER
set -eu

program=$1
folder=$2

if [ ! -e "$folder/checkpoints/latest.safetensors" ]; then
    # Half a minute on two cores; its texts have words.
    "$program" train --overwrite --max-iters 150 --vocab-size 512 --context-length 128 --d-model 64 \
        --num-layers 2 --num-heads 2 --d-ff 160 --batch-size 8 --learning-rate 0.01 --warmup-iters 20 \
        --eval-interval 0 --checkpoint-interval 0 --logdir "$folder"
fi
