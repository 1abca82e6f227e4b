"""TCP ports for tests that run side by side."""

from __future__ import annotations

import os
import socket
from itertools import count
from typing import Final

# Below the range that the kernel takes ports from for outgoing connections, a part of it for each worker of the run: a port
# that was free a moment ago stays so until its daemon listens there.
_FIRST: Final = 15_000
_EACH: Final = 2_000
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
_offsets = count(os.getpid() % 500)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on and no other test of this run is given."""
    for offset in _offsets:
        port = _FIRST + _EACH * _WORKER + offset % _EACH
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError("no free port")
