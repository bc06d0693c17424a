#!/bin/sh
# Runs the kernels that use cooperative matrices on the lavapipe of a newer Mesa than this system's, and a
# training step and a short training by them.
#
# Usage: test-matrices.sh PROGRAM FOLDER
# where FOLDER is for the root of a Debian whose Mesa has them.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

program=$1
root=$2

"$(dirname "$0")/ensure-mesa-of.sh" sid lvp "$root"
libraries=$root/usr/lib/x86_64-linux-gnu
manifest=$root/usr/share/vulkan/icd.d/lvp_icd.json
# The loader takes the second name over the first where it knows it.
export VK_ICD_FILENAMES="$manifest" VK_DRIVER_FILES="$manifest"
# Shaders of one Mesa are nothing for another.
export MESA_SHADER_CACHE_DIR="$root.shaders"

# The program with that system's own loader and libraries.
run() {
    "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$program" "$@"
}

run devices 2>/dev/null | grep -q experimental_cooperative_matrix || {
    say "the lavapipe in $root offers no cooperative matrices"
    exit 1
}

# The last line tells how many passed; what the adapter cannot run would be skipped there.
check() {
    last=$(run check --kernel "$1" 2>&1 | tail -n 1)
    case $last in
        *"PASS, 0 of"*) say "no check is of $1: $last" && exit 1 ;;
        *PASS*", $2 skipped for the adapter"*) say "$1: $last" ;;
        *) say "$1 failed or was skipped: $last" && exit 1 ;;
    esac
}

check matmul.cooperative_8x8 0
check matmul.cooperative_small_8x8 0
check attention_forward.cooperative_8x8 0
check attention_backward_query.cooperative_8x8 0
check attention_backward_key_value.cooperative_8x8 0
# Steps by every variant: the three for matrices of 16x16 are not for this adapter, once for each class.
check train_step 6

logdir=$(mktemp -d)
trap 'rm -rf "$logdir"' EXIT
for variant in matmul.cooperative_8x8 attention.cooperative_8x8 matmul.tiled_f16; do
    run train --precision mixed --variant "$variant" --max-iters 3 --d-model 64 --num-heads 2 --num-layers 2 \
        --context-length 32 --eval-interval 0 --logdir "$logdir/$variant" >"$logdir/log" 2>&1 || {
        cat "$logdir/log" >&2
        exit 1
    }
    grep -o '"loss":[0-9.]*' "$logdir/$variant/metrics.jsonl" | cut -c1-12 >"$logdir/$variant.losses"
done
# The same operands, rounded alike, and weights of attention by another one: the first digits of the losses agree.
for variant in matmul.cooperative_8x8 attention.cooperative_8x8; do
    cmp "$logdir/$variant.losses" "$logdir/matmul.tiled_f16.losses" || {
        say "a training by $variant goes another way than one without matrices"
        exit 1
    }
done
say "a short training by matrices has the losses of one without: $(tr '\n' ' ' <"$logdir/matmul.tiled_f16.losses")"
