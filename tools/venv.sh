#!/usr/bin/env bash
# Makes .venv from the locked requirements and installs smppd into it, editable (`make venv`).
# Needs Python 3.11 or later, and a network the first time. Safe to run again and from several shells at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=${1:?usage: tools/venv.sh STAMP}
python=.venv/bin/python

fail() {
    printf 'smppd set-up: %s\n' "$@" >&2
    exit 1
}

# Prints the first usable interpreter: it runs, it is new enough, and it can make virtual environments.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
                printf '%s\n' "$candidate"
                return
            fi
            echo "smppd set-up: $candidate cannot make virtual environments (on Debian: apt install python3-venv)" >&2
        elif [ "$candidate" = "${PYTHON:-}" ]; then
            fail "PYTHON=$PYTHON does not run or is older than Python 3.11"
        fi
    done
    fail "no Python 3.11 or later found; install one, or name one with: make PYTHON=/path/to/python3.11 ..."
}

# A slow or broken network is retried by pip; what was downloaded stays in pip's cache for the next try.
install() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_RETRIES=${PIP_RETRIES:-8} PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-60} \
        "$python" -m pip install --quiet --require-virtualenv "$@" || fail \
        "pip could not install: $*" \
        "if the network failed, run the same make command again; what was downloaded is kept"
}

if command -v flock >/dev/null; then
    exec 9>.venv.lock
    flock 9
fi

# Another shell may have made it while this one waited.
if [ -e "$stamp" ] && "$python" -c '' 2>/dev/null; then
    stale=$(find requirements/*.txt setup.cfg pyproject.toml smppd/__init__.py tools/venv.sh -newer "$stamp")
    [ -n "$stale" ] || exit 0
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    found=$(find_python)
    echo "smppd set-up: making .venv with $found ($("$found" -c 'import platform; print(platform.python_version())'))"
    "$found" -m venv --clear .venv || fail "$found could not make .venv"
fi

echo "smppd set-up: installing the locked requirements"
install --require-hashes --only-binary :all: \
    -r requirements/runtime.txt -r requirements/build.txt -r requirements/dev.txt
install --require-hashes --no-deps --no-build-isolation -r requirements/peers.txt
install --no-deps --no-build-isolation --no-index --editable .
touch "$stamp"
