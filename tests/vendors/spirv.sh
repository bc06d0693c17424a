#!/bin/sh
# Holds every SPIR-V file of a folder against the specification.
#
# Usage: spirv.sh FOLDER, which `gpu-tlm shaders --format spirv` wrote
set -eu

passed=0
failed=0
for file in "$1"/*.spv; do
    if spirv-val --target-env vulkan1.3 "$file"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$file is no valid SPIR-V" >&2
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
