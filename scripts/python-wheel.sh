#!/bin/sh
# Builds the Python package gpu_tlm as a wheel, by maturin in an environment of its own.
#
# Usage: python-wheel.sh PYTHON FOLDER PROFILE
# where FOLDER takes the tools and, in FOLDER/wheels, the wheel; PROFILE is dev or release. Cargo builds where
# CARGO_TARGET_DIR says.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

python=$1
folder=$2
profile=$3

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if ! "$folder/build/bin/maturin" --version >/dev/null 2>&1; then
    "$python" -c 'import ensurepip' 2>/dev/null ||
        install_packages python3-venv python3 python
    "$python" -m venv "$folder/build"
    "$folder/build/bin/python" -m pip install --quiet --disable-pip-version-check maturin==1.16.0
fi
# An older version's would be installed in its place.
rm -rf "$folder/wheels"
# maturin says on standard error what it does.
"$folder/build/bin/maturin" build --locked --profile "$profile" \
    --manifest-path "$(dirname "$0")/../python/Cargo.toml" --out "$folder/wheels"
