#!/bin/sh
# Makes sure that the tools of `make test-compilers` are there: spirv-val, Mesa's drivers and
# DirectX's shader compiler.
#
# Usage: ensure-vendor-tools.sh FOLDER [PYTHON]
#
# DirectX's compiler is put into FOLDER, the rest is installed by the package manager.
# What is missing in the end is a failure: a check that is skipped finds nothing.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

folder=$1
python=${2:-/usr/bin/python3}
requirements=$(cd "$(dirname "$0")/../tests/vendors" && pwd)/requirements.txt

has() {
    case $1 in
        spirv-val) command -v spirv-val ;;
        radv) ls /usr/share/vulkan/icd.d/radeon_icd*.json ;;
        pip) "$python" -m pip --version ;;
        dxc) ls "$folder/compushady/backends/libdxcompiler_x86_64.so" ;;
    esac >/dev/null 2>&1
}

packages=
want() {
    has "$1" || packages="$packages $2"
}
want spirv-val spirv-tools
want radv mesa-vulkan-drivers
has dxc || want pip python3-pip

if [ -n "$packages" ]; then
    if [ "$(package_manager)" != apt ]; then
        say "this check is made for Debian; on other systems install what these have:$packages"
        exit 1
    fi
    install_packages "${packages# }" "" ""
fi

if ! has dxc; then
    say "fetching DirectX's shader compiler"
    mkdir -p "$folder"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --python-version 3.11 --platform manylinux_2_28_x86_64 \
        --require-hashes --requirement "$requirements" --dest "$folder"
    "$python" -m zipfile -e "$folder"/compushady_lrtu-*.whl "$folder"
fi

for tool in spirv-val radv dxc; do
    has "$tool" || {
        say "$tool is still missing"
        exit 1
    }
done
