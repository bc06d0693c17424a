#!/bin/sh
# Uses the page of `gpu-tlm serve` in a headless Chromium as a person would, and takes pictures of it.
#
# Usage: test-page.sh PROGRAM PYTHON FOLDER
# where FOLDER takes a small model, which is trained where it is missing, and the pictures.
set -eu

program=$1
python=$2
folder=$3

"$(dirname "$0")/ensure-chromium.sh" >/dev/null
"$(dirname "$0")/ensure-served-model.sh" "$program" "$folder/run"
"$python" -B "$(dirname "$0")/page/check.py" "$program" "$folder/run" "$folder"
