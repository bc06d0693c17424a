#!/bin/sh
# Compiles every shader with Tint, in a headless Chromium, and runs the parity rows of some kernels
# there.
#
# Usage: test-tint.sh CARGO PYTHON FOLDER
# where FOLDER takes the exported shaders.
set -eu

cargo=$1
python=$2
bundle=$3/shaders.json

"$(dirname "$0")/ensure-chromium.sh" >/dev/null
# A row of attention_backward_key_value runs all of attention's backward pass, and expects all of it.
"$cargo" run --quiet --locked --example export_shaders -- "$bundle" \
    matmul.tiled matmul.texture \
    attention_backward_key_value attention_backward_key_value.texture \
    cross_entropy_forward
"$python" "$(dirname "$0")/webgpu/check.py" "$bundle"
