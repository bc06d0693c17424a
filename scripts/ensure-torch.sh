#!/bin/sh
# Makes sure that Python has PyTorch and numpy, for the oracle in tests/oracle.
#
# Usage: ensure-torch.sh [PYTHON]
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

python=${1:-/usr/bin/python3}

has_torch() {
    "$python" -c 'import numpy, torch' 2>/dev/null
}

! has_torch || exit 0
say "$python cannot import torch and numpy"
# The package manager serves the system's Python only.
if [ "$(package_manager)" = other ] || [ "$python" != /usr/bin/python3 ]; then
    say "run: $python -m pip install torch numpy"
    exit 1
fi
# Without OpenBLAS, Debian's PyTorch multiplies matrices many times slower.
install_packages \
    "python3-torch python3-numpy libopenblas0-pthread" \
    "python3-torch python3-numpy" \
    "python-pytorch python-numpy"
has_torch || {
    say "PyTorch is installed, and $python still cannot import it"
    exit 1
}
