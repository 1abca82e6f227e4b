#!/usr/bin/env bash
# The installation of docs/operations.md under a temporary root, its systemd unit started by tools/unit.py (`make install-steps`).
# The lines that begin with `step` are the page's commands, its absolute paths under $root; a test compares them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
checkout=$PWD
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT
base=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.join(sys.base_prefix, "bin", "python3"))')
unset PYTHONPATH VIRTUAL_ENV SMPPD_INTERPRETED
python3() { "$base" "$@"; }

step() {
    echo "install-steps: ${*//"$root"/}"
    "$@"
}

step make wheel
step python3 -m venv "$root"/opt/smppd
step "$root"/opt/smppd/bin/pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
step "$root"/opt/smppd/bin/pip install --no-deps --no-index --find-links dist smppd
step "$root"/opt/smppd/bin/smppd --version | grep compiled

# What an operator brings: a certificate with its key, and the carrier's password.
mkdir -p "$root/brought" "$root/etc/systemd/system"
PYTHON=$checkout/.venv/bin/python certs/make.sh "$root/brought" >/dev/null
printf 'not a real one\n' >"$root/brought/carrier-a"
cp -r deploy "$root/brought/"
cd "$root/brought"
# shellcheck disable=SC2016
port=$("$base" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
http=$("$base" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
# Free ports, this root's store, and a carrier that nobody waits for.
sed -i "s/0.0.0.0:3550/127.0.0.1:$port/; s/smsc.example.net:3550/127.0.0.1:9/; s#/var/lib/smppd#$root/var/lib/smppd#" deploy/smppd.yaml
echo "http: {address: 127.0.0.1:$http}" >>deploy/smppd.yaml

step install -m 644 deploy/smppd.service "$root"/etc/systemd/system/
step install -d -m 755 "$root"/etc/smppd
step install -d -m 700 "$root"/etc/smppd/credentials
step install -m 644 deploy/smppd.yaml "$root"/etc/smppd/smppd.yaml
step install -m 644 server.pem "$root"/etc/smppd/server.pem
step install -m 600 server.key "$root"/etc/smppd/credentials/server.key
step install -m 600 carrier-a "$root"/etc/smppd/credentials/carrier-a
export CREDENTIALS_DIRECTORY="$root"/etc/smppd/credentials
step "$root"/opt/smppd/bin/smppd keys init --config "$root"/etc/smppd/smppd.yaml
step "$root"/opt/smppd/bin/smppd check --config "$root"/etc/smppd/smppd.yaml
unset CREDENTIALS_DIRECTORY
cd "$checkout"
.venv/bin/python -m tools.unit --root "$root" --smppd "$root/opt/smppd/bin/smppd" 2>&1 | tee "$root/unit.log"
grep -q '"event": *"ready".*"compiled": *true' "$root/unit.log" || { echo "install-steps: not compiled" >&2; exit 1; }
echo "install-steps: smppd runs from the documented installation"
