#!/bin/sh
# Makes sure that there is a Chromium: its WGSL compiler is Tint, and it brings SwiftShader, a Vulkan
# driver that runs shaders on the CPU. Prints the path of that driver's manifest.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# Debian and Arch, Fedora, and Chromium's own layout elsewhere.
find_manifest() {
    for folder in /usr/lib/chromium /usr/lib64/chromium-browser /usr/lib/chromium-browser; do
        if [ -r "$folder/vk_swiftshader_icd.json" ]; then
            echo "$folder/vk_swiftshader_icd.json"
            return 0
        fi
    done
    return 1
}

has_chromium() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null
}

if ! { has_chromium && find_manifest >/dev/null; }; then
    say "no Chromium with SwiftShader on this machine"
    install_packages chromium chromium chromium || {
        [ "$(package_manager)" != other ] || say "install Chromium"
        exit 1
    }
fi
if ! { has_chromium && find_manifest; }; then
    say "Chromium is installed, and its command or vk_swiftshader_icd.json is nowhere to be found"
    exit 1
fi
