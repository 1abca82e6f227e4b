#!/usr/bin/env bash
# The Dockerfile's steps without Docker (`make docker-steps`): builds the wheel, makes the environment from the locked
# runtime requirements under a temporary root, drops the build stage and runs smppd as the final stage would.
# The lines that begin with `step` are the Dockerfile's RUN lines, its absolute paths under $root; a test compares them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# The image has no environment of ours either: not this checkout's, not the caller's.
base=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.join(sys.base_prefix, "bin", "python3"))')
unset PYTHONPATH VIRTUAL_ENV
python() { "$base" "$@"; }

step() {
    echo "docker-steps: ${*//"$root"/}"
    "$@"
}

# COPY copies the working tree; what git and .dockerignore ignore stays out.
mkdir -p "$root/src"
git ls-files -z --cached --others --exclude-standard -- requirements/runtime.txt requirements/build.txt requirements/dev.txt pyproject.toml setup.cfg setup.py LICENSE smppd tools/compile.py |
    tar --create --null --files-from=- | tar --extract --directory "$root/src"
cd "$root/src"

step python -m venv "$root"/opt/smppd
step "$root"/opt/smppd/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/runtime.txt
step python -m venv "$root"/opt/build
step "$root"/opt/build/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/runtime.txt -r requirements/build.txt -r requirements/dev.txt
step "$root"/opt/build/bin/python -m tools.compile
step "$root"/opt/build/bin/python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir "$root"/wheels .
step "$root"/opt/smppd/bin/python -m pip install --no-cache-dir --no-deps --no-index --find-links "$root"/wheels smppd
step "$root"/opt/smppd/bin/python -m pip uninstall --yes pip
step "$root"/opt/smppd/bin/python -m compileall -q "$root"/opt/smppd/lib
step "$root"/opt/smppd/bin/smppd --version | grep compiled

# The final stage: /opt/smppd alone, nothing of it writable, an empty environment, another directory.
cd "$root"
rm -rf "$root/src" "$root/opt/build" "$root/wheels"
chmod -R a-w "$root/opt/smppd"
trap 'chmod -R u+w "$root"; rm -rf "$root"' EXIT
env -i PATH="$root/opt/smppd/bin:/usr/bin:/bin" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 smppd --help >/dev/null
echo "docker-steps: smppd runs from the locked runtime requirements alone"
