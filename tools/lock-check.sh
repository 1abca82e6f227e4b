#!/usr/bin/env bash
# Asks pip whether the locks install on every supported Python and processor; installs nothing (`make lock-check`).
# peers.txt holds a source package, which fits every Python, so it is not asked for here.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for version in 3.11 3.12 3.13; do
    for processor in x86_64 aarch64; do
        # Several platform tags: a wheel is tagged with the oldest C library it runs on.
        "$python" -m pip install --quiet --dry-run --require-hashes --no-deps --only-binary :all: --target "$scratch" \
            --implementation cp --python-version "$version" \
            --platform "manylinux_2_28_$processor" --platform "manylinux_2_17_$processor" \
            --platform "manylinux2014_$processor" \
            -r requirements/runtime.txt -r requirements/build.txt -r requirements/dev.txt -r requirements/node.txt
        echo "lock-check: CPython $version on $processor: ok"
    done
done
