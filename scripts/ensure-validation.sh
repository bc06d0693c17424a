#!/bin/sh
# Makes sure that Vulkan's validation layers are installed.
#
# Whether they are loaded is for the program to say: `gpu-tlm check --validation` fails where it does
# not hear them.
set -eu
# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# Distributions, a local build, and the Vulkan SDK.
has_layers() {
    for folder in /usr/share /usr/local/share /etc "${VULKAN_SDK:-/nonexistent}/share"; do
        [ ! -r "$folder/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" ] || return 0
    done
    return 1
}

has_layers && exit 0
say "no Vulkan validation layers on this machine"
install_packages vulkan-validationlayers vulkan-validation-layers vulkan-validation-layers || {
    [ "$(package_manager)" != other ] || say "install the Vulkan SDK from https://vulkan.lunarg.com"
    exit 1
}
has_layers || {
    say "the package is installed, and VkLayer_khronos_validation.json is nowhere to be found"
    exit 1
}
