#!/usr/bin/env bash
# Provisions a program of Prometheus into .venv/bin: promtool, which tests docs/alerts.yml (`make alerts`), or prometheus itself
# (`make prometheus`). The machine's own is used where it has one; else, on Debian and its like, the one of the package prometheus
# is taken out of it, since installing it starts a server.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${1:-promtool}

[ -x ".venv/bin/$program" ] && exit 0
own=$(command -v "$program" || true)
if [ -n "$own" ]; then
    ln -sf "$own" ".venv/bin/$program"
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "smppd set-up: this needs $program, which comes with Prometheus: https://prometheus.io/download/" >&2
    exit 1
fi
echo "smppd set-up: this machine has no $program: taking Debian's (20 MB)"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
if ! (cd "$place" && apt-get download -qq prometheus 2>"$place/said"); then
    cat "$place/said" >&2
    exit 1
fi
dpkg-deb -x "$place"/prometheus_*.deb "$place/files"
install -m 755 "$place/files/usr/bin/promtool" "$place/files/usr/bin/prometheus" .venv/bin/
