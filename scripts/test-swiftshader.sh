#!/bin/sh
# Runs the tests that use a GPU on SwiftShader, whose subgroups, limits and arithmetic are not those
# of lavapipe.
#
# Usage: test-swiftshader.sh CARGO PROGRAM
# where PROGRAM is the gpu-tlm that CARGO's tests were built with.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

cargo=$1
program=$2

manifest=$("$(dirname "$0")/ensure-chromium.sh")
# The loader takes the second name over the first where it knows it.
export VK_ICD_FILENAMES="$manifest" VK_DRIVER_FILES="$manifest"

# A loader that ignores the manifest would test the usual adapter a second time.
devices=$("$program" devices --json) || {
    say "$program finds no adapter with $manifest"
    exit 1
}
names=$(echo "$devices" | sed -n 's/^ *"name": "\(.*\)",$/\1/p')
case $names in
    *"
"*) say "more than one adapter, so which one runs the tests? $names" && exit 1 ;;
    SwiftShader*) say "testing on $names" ;;
    *) say "the adapter is '$names' and not SwiftShader" && exit 1 ;;
esac

# Forcing each variant in turn is for the machine's own adapter: here the tiles of GPUs take minutes. What
# is frozen, what a state holds and what is in files of others is the host's doing on any.
"$cargo" test --locked --test main -- --skip by_every_variant --skip frozen --skip anothers_state --skip converting \
    parity:: engine:: oracle_fixtures:: command_line::
