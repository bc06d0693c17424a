#!/bin/sh
# Holds every SPIR-V file of a folder against the specification.
#
# Usage: spirv.sh FOLDER, which `gpu-tlm shaders --format spirv` wrote
set -eu

# What a spirv-val from before SPV_KHR_cooperative_matrix says of a shader that uses it.
too_old="Invalid capability operand: 6022"

passed=0
failed=0
unknown=0
for file in "$1"/*.spv; do
    if said=$(spirv-val --target-env vulkan1.3 "$file" 2>&1); then
        passed=$((passed + 1))
        continue
    fi
    case $said in
        *"$too_old"*) unknown=$((unknown + 1)) ;;
        *)
            failed=$((failed + 1))
            echo "$said" >&2
            echo "$file is no valid SPIR-V" >&2
            ;;
    esac
done
echo "$passed passed, $failed failed; $unknown with cooperative matrices, which this spirv-val does not know"
[ "$failed" -eq 0 ]
