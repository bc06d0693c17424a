#!/bin/sh
# Makes sure that gpu-tlm finds an adapter: installs Mesa's software Vulkan driver where none is found.
#
# Usage: ensure-adapter.sh [PROGRAM]
#
# With PROGRAM, a built gpu-tlm, asks `PROGRAM devices`. Only the program itself can tell: a driver's
# manifest may be there without its hardware, and wgpu refuses some drivers.
# Without it, looks for the Vulkan loader alone. Where that is missing no adapter can be found, so the
# driver is installed (and a password asked for) before a long build, not after it.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

program=${1:-}

# 0 where libvulkan.so.1 is found, or where that cannot be told.
has_loader() {
    [ "$(uname -s)" = Linux ] || return 0
    command -v ldconfig >/dev/null || return 0
    case $(ldconfig -p 2>/dev/null) in
        *libvulkan.so.1*) return 0 ;;
    esac
    # A loader outside of ldconfig's cache, as on NixOS.
    [ -n "${LD_LIBRARY_PATH:-}" ]
}

has_adapter() {
    answer=$("$program" devices 2>&1)
}

# What the user has to do where the packages cannot be installed from here.
advise() {
    family=other
    [ ! -r /etc/os-release ] || family=$(. /etc/os-release && echo " ${ID:-} ${ID_LIKE:-} ")
    case $(uname -s) in
        Linux)
            case $family in
                *" alpine "*) say "run as root: apk add vulkan-loader mesa-vulkan-swrast" ;;
                *suse*) say "run as root: zypper install libvulkan1 libvulkan_lvp" ;;
                *" nixos "*) say "set hardware.graphics.enable = true; and add vulkan-loader to LD_LIBRARY_PATH" ;;
                *) say "install the Vulkan loader (libvulkan.so.1) and a Vulkan driver: your GPU's, or Mesa's lavapipe, which needs no GPU" ;;
            esac
            ;;
        Darwin) say "gpu-tlm runs on Metal, which comes with macOS; this machine offers no Metal device" ;;
        *) say "gpu-tlm runs on Vulkan or Direct3D 12: install your GPU's driver from its vendor" ;;
    esac
}

if [ -z "$program" ]; then
    # On a system without a known package manager the program's own word decides, after the build.
    if has_loader || [ "$(package_manager)" = other ]; then
        exit 0
    fi
    say "no Vulkan loader on this machine, so no adapter"
else
    command -v "$program" >/dev/null || {
        say "there is no program '$program'"
        exit 1
    }
    ! has_adapter || exit 0
    say "$program finds no adapter"
    if [ "$(package_manager)" = other ]; then
        echo "$answer" >&2
        advise
        exit 1
    fi
fi

install_packages \
    "libvulkan1 mesa-vulkan-drivers" \
    "vulkan-loader mesa-vulkan-drivers" \
    "vulkan-icd-loader vulkan-swrast"

if [ -n "$program" ] && ! has_adapter; then
    say "the software adapter is installed, and $program still finds none:"
    echo "$answer" >&2
    exit 1
fi
