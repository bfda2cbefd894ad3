#!/bin/sh
# What pip cannot install. `setup.sh python` prints a Python 3.11 or 3.12;
# `setup.sh demo` and `setup.sh tests` install the Debian packages that each needs.
set -eu

DEMO_PACKAGES="python3-venv libportaudio2 jackd2"
TEST_PACKAGES="nginx-light aria2 curl libasound2-plugins pulseaudio pulseaudio-utils espeak-ng sox zsh fish"

find_python() {
    for name in python3.12 python3.11 python3 python; do
        path=$(command -v "$name" 2>/dev/null) || continue
        if "$path" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            echo "$path"
            return
        fi
    done
    echo "moshid needs Python 3.11 or 3.12: install one, or name it: make PYTHON=/path/to/python3.12" >&2
    echo false
}

# The package that stands for its command or library, and whether it is there.
missing_packages() {
    for package in $PACKAGES; do
        if [ "$package" = python3-venv ]; then
            "$(find_python)" -c 'import ensurepip, venv' 2>/dev/null && continue
        fi
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

install_packages() {
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    echo "installing Debian packages: $missing"
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
            as_root="sudo"
        else
            echo "These packages are missing, and neither root nor sudo is to be had. Please run:" >&2
            echo "  sudo apt-get install --no-install-recommends $missing" >&2
            exit 1
        fi
    fi
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words on purpose
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

case "${1:-}" in
python) find_python ;;
demo | tests)
    PACKAGES=$DEMO_PACKAGES
    [ "$1" = demo ] || PACKAGES="$DEMO_PACKAGES $TEST_PACKAGES"
    case "$(uname -s)" in
    Darwin) ;; # PortAudio comes inside the wheel
    Linux)
        if command -v apt-get >/dev/null; then
            install_packages
        else
            echo "no apt here: install the equivalents of: $PACKAGES" >&2
        fi
        ;;
    *)
        echo "moshid runs on macOS and Linux only" >&2
        exit 1
        ;;
    esac
    ;;
*)
    echo "usage: setup.sh python | demo | tests" >&2
    exit 2
    ;;
esac
