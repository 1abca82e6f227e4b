#!/usr/bin/env bash
# Makes a development CA and a server and a client certificate in the given directory (default: this one).
# Usage: certs/make.sh [DIRECTORY]. Writes what is missing or expires within 7 days, leaves the rest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../.venv/bin/python}
if ! "$python" -c 'import cryptography' 2>/dev/null; then
    echo "certs: $python has no cryptography package; run make venv first" >&2
    exit 1
fi
exec "$python" "$here/make.py" "${1:-$here}"
