#!/bin/sh
# Makes sure that the standard library can be built for other systems: Debian's compiler and the
# library's source, which are one version. Prints the compiler's path.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

rustc=/usr/bin/rustc

# Both, and of one version: cargo looks for the source below the compiler's own folder.
has_both() {
    sysroot=$("$rustc" --print sysroot 2>/dev/null) &&
        [ -r "$sysroot/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

if ! has_both; then
    if [ "$(package_manager)" != apt ]; then
        say "this check is made for Debian: it takes rustc-web and rust-web-src"
        exit 1
    fi
    install_packages "rustc-web rust-web-src" "" ""
fi
has_both || {
    say "$rustc or the source of its standard library is still missing"
    exit 1
}
echo "$rustc"
