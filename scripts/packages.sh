# shellcheck shell=sh
# Installs packages with the system's package manager. Sourced by the ensure-*.sh scripts.

# ldconfig lives in /sbin, which is not on every user's path.
PATH=$PATH:/usr/sbin:/sbin

say() {
    echo "==> $*" >&2
}

# Prints apt, dnf or pacman; `other` where packages have to be installed by hand.
package_manager() {
    # Elsewhere a command of the same name is another thing: MSYS2 has a pacman, macOS may have apt-get.
    if [ "$(uname -s)" != Linux ]; then
        echo other
    elif command -v apt-get >/dev/null; then
        echo apt
    elif command -v dnf >/dev/null; then
        echo dnf
    elif command -v pacman >/dev/null; then
        echo pacman
    else
        echo other
    fi
}

# Runs a command as root: directly, or through sudo, which asks for the password if it wants one.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

can_become_root() {
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null
}

# install_packages APT DNF PACMAN: installs the list of names that is meant for this system.
install_packages() {
    case $(package_manager) in
        apt) names=$1 by_hand="apt-get update && apt-get install $1" ;;
        dnf) names=$2 by_hand="dnf install $2" ;;
        pacman) names=$3 by_hand="pacman -Syu --needed $3" ;;
        *) return 1 ;;
    esac
    if ! can_become_root; then
        say "you are not root and there is no sudo; run as root: $by_hand"
        return 1
    fi
    if [ "$(id -u)" -eq 0 ]; then
        say "installing $names"
    else
        say "installing $names with sudo, which may ask for your password"
    fi
    # The names are split into words on purpose; what the manager prints is no result.
    # shellcheck disable=SC2086
    "install_with_$(package_manager)" $names >&2 || {
        say "that failed; run as root, then try again: $by_hand"
        return 1
    }
}

install_with_apt() {
    # Stale lists name versions that the mirror no longer has. A third-party source that fails is
    # no reason to stop: the installation decides.
    as_root apt-get -qq update || say "apt-get update failed; trying with the lists at hand"
    # A fresh cloud machine may be busy with its own updates: wait for the lock.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "$@"
}

install_with_dnf() {
    as_root dnf -q install -y --setopt=install_weak_deps=False "$@"
}

install_with_pacman() {
    # Refreshing the databases without upgrading everything can break an Arch system, so that is
    # done only where there are none yet, as in a fresh container.
    operation=-S
    ls /var/lib/pacman/sync/*.db >/dev/null 2>&1 || operation=-Sy
    as_root pacman "$operation" --noconfirm --needed "$@"
}
