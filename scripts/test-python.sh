#!/bin/sh
# Builds the Python package gpu_tlm and tests it: its types and its example in an environment that has what pip
# brings alone, and everything against the system's PyTorch in another one.
#
# Usage: test-python.sh PYTHON FOLDER
# where PYTHON has PyTorch and numpy, and FOLDER takes the wheel and the environments.
set -eu

python=$1
folder=$2
here=$(cd "$(dirname "$0")/.." && pwd)

"$here/scripts/python-wheel.sh" "$python" "$folder" dev
folder=$(cd "$folder" && pwd)

# venv NAME OPTION...: an environment without any gpu_tlm.
venv() {
    name=$1
    shift
    [ -e "$folder/$name/bin/python" ] || "$python" -m venv "$@" "$folder/$name"
    "$folder/$name/bin/python" -m pip uninstall --quiet --yes gpu-tlm 2>/dev/null
}

# pip NAME PACKAGE...
pip() {
    name=$1
    shift
    "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

echo "==> the example in an empty environment"
venv empty
pip empty "$folder"/wheels/gpu_tlm-*.whl
# Elsewhere, so that nothing is imported from the sources.
cd "$folder"
empty/bin/python "$here/python/examples/cs336.py"

echo "==> types"
pip empty mypy==2.4.1
empty/bin/python -m mypy --strict --package gpu_tlm
empty/bin/python -m mypy.stubtest gpu_tlm

echo "==> pytest"
venv tests --system-site-packages
pip tests pytest==9.2.0
pip tests --no-deps "$folder"/wheels/gpu_tlm-*.whl
tests/bin/python -m pytest -q -p no:cacheprovider "$here/python/tests"
