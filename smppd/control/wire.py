"""What both ends of the control socket know: its name, its limits, and how a request is refused."""

from __future__ import annotations

from typing import Final

NAME: Final = "control.sock"
REQUEST_MAX: Final = 1 << 20
"""Octets of a request, its end included. An erasure names all holds in force in one, some 150 octets each."""
ANSWER_MAX: Final = 16 << 20
WITHIN: Final = 5.0
"""Seconds that a connection lives at most, on either side."""

CHANGES: Final = 500
"""Items in one request that changes a register (opt-outs, consents): some 3 ms of the reactor."""

EXPLAIN: Final = "explain screens"
"""The request by which the running daemon is asked what its screens say of a message (`daemon.explaining`)."""


class ControlError(Exception):
    """A request that cannot be done, or a daemon that cannot be asked. The text is one clear sentence."""
