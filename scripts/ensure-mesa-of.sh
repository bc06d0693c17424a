#!/bin/sh
# Makes sure that FOLDER is the root of the Debian RELEASE, whose Mesa has DRIVER (`radeon`, `lvp`). Nothing
# of it is installed on this system: tests take its loader and libraries by their paths.
#
# Usage: ensure-mesa-of.sh RELEASE DRIVER FOLDER
# `trixie` compiles for AMD's RDNA3 and RDNA4; `sid` runs cooperative matrices without a GPU.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

release=$1
driver=usr/lib/x86_64-linux-gnu/libvulkan_$2.so
folder=$3

if [ -e "$folder/$driver" ] && [ -e "$folder/.complete" ]; then
    exit 0
fi
if [ "$(package_manager)" != apt ]; then
    say "this check is made for Debian"
    exit 1
fi
if ! can_become_root; then
    say "you are not root and there is no sudo, which debootstrap needs"
    exit 1
fi
command -v debootstrap >/dev/null || install_packages debootstrap "" ""
# What an interrupted run left is no system.
as_root rm -rf "$folder"
mkdir -p "$folder"
say "fetching Mesa of Debian's $release, about a minute"
as_root debootstrap --variant=minbase --include=mesa-vulkan-drivers,libvulkan1 "$release" "$folder" \
    >"$folder.log" 2>&1 || {
    tail -n 5 "$folder.log" >&2
    say "debootstrap failed; $folder.log has all of it"
    exit 1
}
[ -e "$folder/$driver" ] || {
    say "Debian's $release has no $driver"
    exit 1
}
as_root touch "$folder/.complete"
