#!/bin/sh
# Makes sure that Rust programs can be built: cargo is there, and a linker, which rustup does not bring.
#
# Usage: ensure-toolchain.sh [CARGO]
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

cargo=${1:-cargo}
if ! command -v "$cargo" >/dev/null; then
    say "there is no '$cargo': install Rust from https://rustup.rs, then open a new shell"
    exit 1
fi

case $(uname -s) in
    Linux) advice="install gcc and the C library's development files with your package manager" ;;
    Darwin) advice="run: xcode-select --install" ;;
    # Rust's Windows toolchains bring a linker or find Visual Studio's, which is no cc.
    *) exit 0 ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Asks for a whole program: a cc without the C library's start files is no linker yet.
can_link() {
    echo 'int main(void) { return 0; }' >"$scratch/empty.c"
    cc -o "$scratch/empty" "$scratch/empty.c" >"$scratch/log" 2>&1
}

can_link && exit 0

say "no working C linker (cc), which cargo needs"
install_packages "gcc libc6-dev" "gcc glibc-devel" "gcc" || {
    [ "$(package_manager)" != other ] || say "$advice"
    exit 1
}
can_link || {
    say "cc still cannot link a program:"
    cat "$scratch/log" >&2
    exit 1
}
